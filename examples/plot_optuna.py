"""
Searching for depth and exits with Optuna
=========================================

The depth of the network and the places of its exits depend on each other: a deeper network has
more candidates for exits, and early exits save more of it. The search space grows with the depth:
for each block it contains the choice whether an exit is placed after it. In this example it is
searched with `Optuna <https://optuna.org>`_. There are two objectives, accuracy and cost, so that
the result is not one model but a Pareto front of models.
"""

# %%
# Data
# ----
# The data are divided into training samples, calibration samples for the thresholds, validation
# samples for the comparison of models, and test samples. The test samples are needed because the
# best of many models appears better on the validation samples than it is.

import functools

import matplotlib.pyplot as plt
import numpy as np
import optuna
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skearlyexit import EarlyExitClassifier, MLPBackbone

torch.set_num_threads(1)  # as fast as more on networks this small
optuna.logging.set_verbosity(optuna.logging.WARNING)

X, y = load_digits(return_X_y=True)
X_rest, X_test, y_rest, y_test = train_test_split(X, y, test_size=400, stratify=y, random_state=0)
X_rest, X_valid, y_rest, y_valid = train_test_split(
    X_rest, y_rest, test_size=300, stratify=y_rest, random_state=0
)
X_train, X_cal, y_train, y_cal = train_test_split(
    X_rest, y_rest, test_size=300, stratify=y_rest, random_state=0
)

# %%
# A trial
# -------
# A trial consists of a depth, a choice of exits and a budget. The unit of ``costs_`` is the plain
# network of each model. Since the networks differ here, budgets and mean costs are converted to
# thousands of multiply-accumulate operations (MACs) by ``cost_table_.plain``. One model serves all
# budgets, so that a network that was tried before is not trained again.


@functools.cache
def fit(depth, exits):
    """Fit a model that is calibrated for all budgets."""
    model = EarlyExitClassifier(
        MLPBackbone(depth, width=32, hidden=64),
        exits=exits,
        calibration=None,
        max_epochs=15,
        batch_size=64,
        random_state=0,
    )
    return model.fit(X_train, y_train).calibrate(X_cal, y_cal)


def accuracy_and_cost(model, budget, X, y):
    """Return the accuracy, and the mean cost in thousands of operations, with such a budget."""
    unit = model.cost_table_.plain / 1000
    kept = max(budget / unit, model.costs_[0])  # the lowest possible budget
    labels, exits = model.predict(X, budget=kept, return_exits=True)
    return np.mean(labels == y), unit * model.costs_[exits].mean()


def model_of(trial):
    """Return the model for the parameters of a trial."""
    exits = [name for name, value in trial.params.items() if value is True]
    return fit(trial.params["depth"], tuple(exits))


def objective(trial):
    """Return accuracy and cost on the validation samples."""
    depth = trial.suggest_int("depth", 1, 8)
    for name in ["stem", *(f"block{i}" for i in range(1, depth))]:
        trial.suggest_categorical(name, [False, True])
    budget = trial.suggest_float("budget", 4, 30, log=True)
    return accuracy_and_cost(model_of(trial), budget, X_valid, y_valid)


study = optuna.create_study(
    directions=["maximize", "minimize"], sampler=optuna.samplers.TPESampler(seed=0)
)
study.optimize(objective, n_trials=40)

# %%
# The Pareto front
# ----------------
# No trial is both more accurate and cheaper than one of these. On the test samples they are less
# accurate, and their order changes, because they are the best of forty trials on 300 samples.

front = {tuple(trial.values): trial for trial in study.best_trials}
front = sorted(front.values(), key=lambda trial: trial.values[1])
print(f"{'blocks':>6} {'k MACs':>7} {'valid.':>7} {'test':>7}  exits")
tested = []
for trial in front:
    model = model_of(trial)
    tested.append(accuracy_and_cost(model, trial.params["budget"], X_test, y_test))
    print(
        f"{trial.params['depth']:>6} {trial.values[1]:>7.1f} {trial.values[0]:>7.1%} "
        f"{tested[-1][0]:>7.1%}  {', '.join(model.exit_names_)}"
    )

# %%
# They are compared with a model without a search: the deepest network with four exits at equal
# shares of the cost, for several budgets.

default = fit(8, 4)
unit = default.cost_table_.plain / 1000
points = [
    accuracy_and_cost(default, unit * cost, X_test, y_test)
    for cost in (*default.frontier_.costs, default.costs_[-1])
]

figure, axes = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
finished = np.array([trial.values for trial in study.trials])
marks = axes.scatter(
    finished[:, 1],
    100 * finished[:, 0],
    c=[trial.params["depth"] for trial in study.trials],
    cmap="viridis",
    s=28,
    label="trials, validation samples",
)
axes.plot(
    [trial.values[1] for trial in front],
    [100 * trial.values[0] for trial in front],
    color="black",
    drawstyle="steps-post",
    linewidth=1.2,
    zorder=0,
    label="front, validation samples",
)
axes.plot(
    [cost for _, cost in tested],
    [100 * accuracy for accuracy, _ in tested],
    "D",
    color="C3",
    markersize=6,
    markerfacecolor="none",
    label="front, test samples",
)
axes.plot(
    [cost for _, cost in points],
    [100 * accuracy for accuracy, _ in points],
    ".-",
    color="C0",
    label="no search, test samples",
)
figure.colorbar(marks, label="blocks of the network")
axes.set_xscale("log")
axes.set_xticks(ticks := [3, 5, 10, 20, 30], labels=map(str, ticks))
axes.set_xticks([], minor=True)
axes.set_xlabel("mean cost of a sample in thousand MACs")
axes.set_ylabel("accuracy in %")
axes.set_title("Digits: search for depth and exits")
axes.grid(alpha=0.3)
axes.set_axisbelow(True)
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False, loc="lower right")

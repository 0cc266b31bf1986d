"""
Depth and exits searched together, with Optuna
==============================================

How deep should the network be, and behind which of its blocks should an exit stand? The two hang
together: a deeper network has more places for exits, and more to save. The space of answers grows
with the depth, so it is searched by trying, with `Optuna <https://optuna.org>`_: one yes or no for
each block that there is. Two things are wanted at the same time, accuracy and little cost, so that
the result is not one model but a front of them.
"""

# %%
# Four kinds of rows
# ------------------
# Networks learn from some rows, thresholds are calibrated on others, models are compared on others
# again, and the test rows are used at the very end: the best of many models looks better on the
# rows that it was chosen by than it is.

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
# A trial is a depth, a choice of exits and a budget. The unit of ``costs_`` is the plain network of
# each model, and networks differ here: budgets and mean costs are in thousands of
# multiply-accumulates, by ``cost_table_.plain``. Since one model serves all budgets, a network that
# was tried before is not trained again.


@functools.cache
def fit(depth, exits):
    """Model that is calibrated for all budgets."""
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
    """Accuracy, and thousands of multiply-accumulates per row, under a budget in these."""
    unit = model.cost_table_.plain / 1000
    kept = max(budget / unit, model.costs_[0])  # less cannot be had
    labels, exits = model.predict(X, budget=kept, return_exits=True)
    return np.mean(labels == y), unit * model.costs_[exits].mean()


def model_of(trial):
    """Model for the parameters of a trial."""
    exits = [name for name, value in trial.params.items() if value is True]
    return fit(trial.params["depth"], tuple(exits))


def objective(trial):
    """Accuracy and cost on validation rows."""
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
# The front
# ---------
# No trial is both more accurate and cheaper than one of these. On the test rows they are less
# accurate, and some of them change places: the front is the best of forty, by 300 rows.

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
# To compare with: what one would take without a search, the deepest network with four exits at
# equal shares of its cost, under several budgets.

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
    label="trials, validation rows",
)
axes.plot(
    [trial.values[1] for trial in front],
    [100 * trial.values[0] for trial in front],
    color="black",
    drawstyle="steps-post",
    linewidth=1.2,
    zorder=0,
    label="front, validation rows",
)
axes.plot(
    [cost for _, cost in tested],
    [100 * accuracy for accuracy, _ in tested],
    "D",
    color="C3",
    markersize=6,
    markerfacecolor="none",
    label="front, test rows",
)
axes.plot(
    [cost for _, cost in points],
    [100 * accuracy for accuracy, _ in points],
    ".-",
    color="C0",
    label="no search, test rows",
)
figure.colorbar(marks, label="blocks of the network")
axes.set_xscale("log")
axes.set_xticks(ticks := [3, 5, 10, 20, 30], labels=map(str, ticks))
axes.set_xticks([], minor=True)
axes.set_xlabel("mean cost of a row, thousands of multiply-accumulates")
axes.set_ylabel("accuracy in %")
axes.set_title("Digits: depth and exits searched together")
axes.grid(alpha=0.3)
axes.set_axisbelow(True)
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False, loc="lower right")

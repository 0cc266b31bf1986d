"""
Every way of training, in one search
====================================

How should a network with exits be trained: everything at once, the network first and its heads
after it, stage by stage, every exit by itself? All of these are values of the parameter
``training``, so that scikit-learn's own search compares them like anything else. Here are all that
the package has, on handwritten digits. Digits are easy and the network is small: the page shows how
to compare, and not which training is the best.
"""

# %%
# A network
# ---------
# The stem takes one step in a hundred of the work, and the blocks a third each. Budgets come from
# rows that are held out of every training.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score, train_test_split

from skearlyexit import CNNBackbone, EarlyExitClassifier
from skearlyexit.metrics import AccuracyAtBudget, CostAccuracyArea
from skearlyexit.training import (
    STRATEGIES,
    CombinedTraining,
    DistillationTraining,
    FreezeOutTraining,
    GatedTraining,
    JointTraining,
    LayerwiseTraining,
    LocalErrorTraining,
)

torch.set_num_threads(1)  # as fast as more on a network this small
X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

clf = EarlyExitClassifier(
    CNNBackbone((16,), n_blocks=3, stem_stride=2, image_shape=(8, 8)),
    exits=["stem", "group1.block1", "group1.block2"],
    calibration=0.25,
    max_epochs=6,
    batch_size=64,
    lr=0.01,
    random_state=0,
)

# %%
# The grid
# --------
# A name is a strategy as it comes, and an object one with parameters. A list of grids keeps apart
# what belongs together: the gates of ``"gated"`` can be the scores, and only they can.
#
# The last grid holds a strategy that is in the first one already, from other seeds. They differ by
# chance alone, and tell how much of that there is.
#
# One strategy is left out. ``"auxiliary"`` drops its exits in the end, and what remains costs 1: it
# cannot keep a budget below that, so that a search would give it nan. It comes back as a reference.

trainings = [
    *(name for name in STRATEGIES if name != "auxiliary"),
    JointTraining("depth"),
    JointTraining("ramp"),
    JointTraining("adaptive"),
    JointTraining(equilibrium=True),
    CombinedTraining("free"),
    CombinedTraining("mean"),
    CombinedTraining("max"),
    DistillationTraining("next"),
    FreezeOutTraining(spacing="linear"),
    LayerwiseTraining(local="similarity"),
    LocalErrorTraining("feedback"),
    LocalErrorTraining("similarity"),
]
grid = [
    {"training": trainings},
    {"training": ["gated", GatedTraining(0.5)], "policy": ["gate"]},
    {"training": ["joint"], "random_state": [1, 2, 3]},
]

# %%
# Two kinds of scores: the accuracy at one budget, for several of them, and the area under accuracy
# against cost, which is the mean accuracy over budgets. A score by plain accuracy would compare
# models that spend differently. All candidates see the same folds.

budgets = [0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8]
scoring = {f"at {budget}": AccuracyAtBudget(budget) for budget in budgets}
scoring["area"] = CostAccuracyArea(0.05, 1.0)
folds = StratifiedKFold(3, shuffle=True, random_state=0)
search = GridSearchCV(clf, grid, scoring=scoring, refit="at 0.2", cv=folds)
search.fit(X_train, y_train)


def label(params):
    """Short name of a candidate."""
    name = str(params["training"]).replace("Training", "")
    if "policy" in params:
        name += ", gates as scores"
    if "random_state" in params:
        name += f", seed {params['random_state']}"
    return name


results = search.cv_results_
names = [label(params) for params in results["params"]]
for metric in ("at 0.2", "area"):
    means, spreads = results[f"mean_test_{metric}"], results[f"std_test_{metric}"]
    best = means.argmax()
    close = np.sum(means >= means[best] - spreads[best])
    seeds = means[[i for i, name in enumerate(names) if name.startswith("joint")]]
    print(f"{metric:<7} best: {names[best]}, {means[best]:.1%} +- {spreads[best]:.1%}")
    print(f"        within one standard deviation of it: {close} of {len(names)}")
    print(f"        joint, from {len(seeds)} seeds: {seeds.min():.1%} to {seeds.max():.1%}")

# %%
# The plain network, without exits, and the one whose exits were dropped, are what the others are to
# be compared with at a cost of 1. They learn from the same rows, of the same folds.

references = {}
for name, params in {"plain": {"exits": 1}, "auxiliary": {"training": "auxiliary"}}.items():
    scores = cross_val_score(clone(clf).set_params(**params), X_train, y_train, cv=folds)
    references[name] = scores.mean(), scores.std()
    print(f"{name:<10} {scores.mean():.1%} +- {scores.std():.1%}, at a cost of 1")

# %%
# Learning curves
# ---------------
# ``history_`` has an entry for each epoch, with the phase of the training and the exits that it
# looks at. With ``early_stopping`` the same is kept of validation rows; here no phase is stopped,
# so that all of it is seen. The trainings are twice as long as those of the search.

curves = {}
for training in ("joint", "freeze_out", "local_error", "mixed", "separate", "layerwise"):
    model = clone(clf).set_params(
        training=training, max_epochs=12, early_stopping=True, n_iter_no_change=12
    )
    curves[training] = model.fit(X_train, y_train).history_

figure, panels = plt.subplots(2, 3, figsize=(9, 5.4), sharey=True, layout="constrained")
colours = plt.get_cmap("viridis")(np.linspace(0, 0.85, model.n_exits_))
for axes, (training, history) in zip(panels.flat, curves.items(), strict=True):
    accuracies = np.full((len(history), model.n_exits_), np.nan)
    for i, epoch in enumerate(history):
        accuracies[i, epoch["exits"]] = epoch["valid_exit_accuracies"]
    for exit_, name in enumerate(model.exit_names_):
        axes.plot(
            np.arange(1, len(history) + 1),
            100 * accuracies[:, exit_],
            marker="osD^"[exit_],
            markersize=3.5,
            color=colours[exit_],
            label=name,
        )
    for i in range(1, len(history)):
        if history[i]["phase"] != history[i - 1]["phase"]:
            axes.axvline(i + 0.5, color="0.6", linestyle=":")
    axes.set_title(training)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
figure.supxlabel("epoch of any phase")
figure.supylabel("accuracy on validation rows in %")
handles, labels = panels.flat[0].get_legend_handles_labels()
figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)

# %%
# TEXT CURVES

# %%
# All candidates
# --------------
# Small marks are the folds, large ones their mean, and bars a standard deviation on either side.

order = np.argsort(results["mean_test_at 0.2"])
rows = np.arange(len(order))
figure, panels = plt.subplots(1, 2, figsize=(9, 7.2), sharey=True, layout="constrained")
titles = {"at 0.2": "at a budget of 0.2", "area": "mean over budgets, 0.05 to 1"}
for axes, (metric, title) in zip(panels, titles.items(), strict=True):
    for fold in range(folds.get_n_splits()):
        scores = 100 * results[f"split{fold}_test_{metric}"][order]
        axes.plot(scores, rows, ".", color="0.6", markersize=4)
    axes.errorbar(
        100 * results[f"mean_test_{metric}"][order],
        rows,
        xerr=100 * results[f"std_test_{metric}"][order],
        fmt="o",
        markersize=5,
    )
    axes.set_title(title)
    axes.set_xlabel("accuracy in %")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
panels[0].set_yticks(rows, [names[i] for i in order], fontsize="small")
panels[0].set_ylim(-0.7, len(order) - 0.3)

# %%
# TEXT POINTS

# %%
# Accuracy against cost
# ---------------------
# The same folds at every budget of the search.

figure, axes = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
shown = ["Layerwise(local='similarity')", "joint", "mixed", "separate"]
for i, name in enumerate(shown):
    at = names.index(name)
    means = np.array([100 * results[f"mean_test_at {budget}"][at] for budget in budgets])
    spreads = np.array([100 * results[f"std_test_at {budget}"][at] for budget in budgets])
    (line,) = axes.plot(budgets, means, marker="osD^"[i], markersize=5, label=name)
    axes.fill_between(
        budgets, means - spreads, means + spreads, color=line.get_color(), alpha=0.2, linewidth=0
    )
for (name, (mean, spread)), at, marker in zip(references.items(), (0.99, 1.01), "*P", strict=True):
    axes.errorbar(
        at,
        100 * mean,
        100 * spread,
        fmt=marker,
        color="black",
        markersize=9,
        elinewidth=1,
        label=f"{name}, no exits",
    )
axes.set_xlabel("budget: mean cost per row (plain network = 1)")
axes.set_ylabel("accuracy in %")
axes.set_title("Digits: accuracy for the cost, by the kind of training")
axes.grid(alpha=0.3)
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False, loc="lower right")

# %%
# TEXT END

print(f"{names[search.best_index_]} at a budget of 0.2")
print(f"  on the folds     {search.best_score_:.1%}")
print(f"  on the test rows {search.score(X_test, y_test):.1%}")

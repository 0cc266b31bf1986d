"""
Where the exits should stand
============================

Early exits save nothing if they stand too late, and are wrong or unsure if they stand too early.
``exits`` takes a number, names of blocks, or a rule that chooses, and it is a parameter like any
other: here :class:`~sklearn.model_selection.GridSearchCV` compares six rules on handwritten digits,
by the accuracy that each gives for 40 % of the network's cost.
"""

# %%
# Six rules
# ---------
# Two put exits at shares of the cost, and know nothing of what heads there would say. The others
# train a head at every place of a frozen network, hold a fifth of the rows out, and go by what the
# heads answer on these: whether an exit saves more than its head costs, whether deciding there is
# better than any constant, or, for all subsets of four, which answers most rows rightly under the
# budget.

import tempfile

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from skearlyexit import (
    AdaptivePlacement,
    CostShare,
    EarlyExitClassifier,
    EfficiencyTest,
    ExactPlacement,
    GreedyPlacement,
    MLPBackbone,
    SeparateTraining,
)

torch.set_num_threads(1)  # as fast as more on a network this small
X, y = load_digits(return_X_y=True)
folds = StratifiedKFold(3, shuffle=True, random_state=0)

rules = {
    "equal shares": CostShare(4),
    "golden shares": CostShare(4, schedule="golden"),
    "efficiency test": EfficiencyTest(),
    "greedy": GreedyPlacement(),
    "adaptive": AdaptivePlacement(price=0.1),
    "exact": ExactPlacement(4, budget=0.4),
}

# %%
# The search
# ----------
# The network is a stem and eight blocks. It is trained first, and left as it is while its heads are
# trained for a little longer.
#
# With ``budget=0.4`` the score of a model is its accuracy at that budget, on rows that chose
# neither exits nor thresholds. Since one model serves all budgets, accuracy and mean cost are kept
# for others as well. With ``memory`` the heads on trial, the same for four of the rules, are
# trained once in each fold.

budgets = [0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6]


def scores(clf, X, y):
    """Accuracy under the budget asked for, and accuracy and mean cost under others."""
    found = {"accuracy": clf.score(X, y)}
    for budget in budgets:
        budget_kept = max(budget, clf.costs_[0])  # less cannot be had
        labels, exits = clf.predict(X, budget=budget_kept, return_exits=True)
        found[f"accuracy at {budget}"] = np.mean(labels == y)
        found[f"cost at {budget}"] = clf.costs_[exits].mean()
    return found


clf = EarlyExitClassifier(
    MLPBackbone(n_blocks=8, width=32, hidden=64),
    training=SeparateTraining(backbone_share=0.3),
    budget=0.4,
    calibration=0.3,
    max_epochs=40,
    random_state=0,
)
train, test = next(folds.split(X, y))
with tempfile.TemporaryDirectory() as folder:
    clf.set_params(memory=folder)
    search = GridSearchCV(
        clf, {"exits": list(rules.values())}, scoring=scores, refit=False, cv=folds
    ).fit(X, y)
    # Again for the first fold, to be looked at; all training is read from disk.
    models = {name: clone(clf).set_params(exits=rule) for name, rule in rules.items()}
    for model in models.values():
        model.fit(X[train], y[train])

results = search.cv_results_
print("at a budget of 0.4, mean and standard deviation of three folds")
for i, name in enumerate(rules):
    print(
        f"{name:<16} accuracy {results['mean_test_accuracy'][i]:.3f} "
        f"± {results['std_test_accuracy'][i]:.3f}, "
        f"cost {results['mean_test_cost at 0.4'][i]:.2f}"
    )

# %%
# At this budget the rules are about a point apart, hardly more than folds are: digits are easy, and
# a third of the network answers them.
#
# Accuracy against cost
# ---------------------
# The difference is in what can be had for less. Each point is a budget. Where a line begins the
# first exit answers everything: the rules that know shares only put none near the input, so that no
# budget below 0.3 can be asked for.

figure, axes = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
for i, (name, marker) in enumerate(zip(rules, "os^vD*", strict=True)):
    costs, accuracies = (
        [results[f"mean_test_{what} at {budget}"][i] for budget in budgets]
        for what in ("cost", "accuracy")
    )
    # Two rules may choose the same exits.
    axes.plot(
        costs,
        100 * np.array(accuracies),
        marker,
        linestyle="--" if name == "greedy" else "-",
        markerfacecolor="none" if name == "greedy" else f"C{i}",
        markersize={"*": 9, "v": 9}.get(marker, 5),
        label=name,
    )
axes.set_xlabel("mean cost of a row (1 = the network without early exits)")
axes.set_ylabel("accuracy in %, mean of three folds")
axes.set_title("Digits: accuracy for the cost, by where the exits stand")
axes.grid(alpha=0.3)
axes.set_axisbelow(True)
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False, loc="lower right")

# %%
# Where they stand
# ----------------
# The same rules in the first fold. Numbers are the accuracy of each exit alone, in %, on its test
# rows.

figure, axes = plt.subplots(figsize=(7.5, 3.4), layout="constrained")
blocks = dict(
    zip(
        models["efficiency test"].placement_report_.names,
        models["efficiency test"].placement_report_.shares,
        strict=True,
    )
)
for row, model in enumerate(models.values()):
    shares = [100 * blocks[block] for block in model.exit_names_]
    axes.axhline(row, color="0.85", linewidth=1, zorder=0)
    axes.plot(shares, [row] * len(shares), "o", markersize=17, color=f"C{row}")
    for share, labels in zip(shares, model.staged_predict(X[test]), strict=True):
        axes.text(
            share,
            row,
            f"{100 * np.mean(labels == y[test]):.0f}",
            color="white",
            fontsize=8,
            ha="center",
            va="center_baseline",
        )
axes.set_yticks(range(len(models)), models)
axes.set_ylim(len(models) - 0.4, -0.6)
axes.set_xticks([100 * share for share in blocks.values()], blocks, fontsize=8)
axes.set_xlabel("blocks, by the share of the network's cost up to each")
axes.set_title("Where each rule puts its exits")
axes.tick_params(length=0)
axes.spines[:].set_visible(False)

# %%
# What spoke for them
# -------------------
# Each rule leaves a report: the places that it looked at, and what spoke for and against each.

best = models[list(rules)[int(np.argmax(results["mean_test_accuracy"]))]]
print(best.placement_report_)

# %%
# The choice rests on 168 held-out rows, and neighboring blocks differ little: another seed or fold
# chooses others. What repeats is that exits near the input pay on these data, and that a rule which
# asks the heads finds them.

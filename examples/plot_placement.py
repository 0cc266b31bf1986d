"""
Comparing placements of the exits
=================================

Exits near the end of the network save little, and exits near the input are less accurate. The
parameter ``exits`` takes a number, names of blocks, or a placement, which is a rule that chooses
the exits. In this example :class:`~sklearn.model_selection.GridSearchCV` compares six placements
on handwritten digits, by the accuracy at 40 % of the cost of the network.
"""

# %%
# Placements
# ----------
# Two of the placements use shares of the cost and not the outputs of heads. The others train a
# head at every candidate of a frozen network, and evaluate the heads on a fifth of the training
# samples: whether an exit saves more than its head costs, whether deciding for each sample is
# better than treating all samples alike, or which set of four exits is the most accurate within
# the budget.

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
# The network consists of a stem and eight blocks. It is trained first, and frozen while its heads
# are trained.
#
# With ``budget=0.4`` the score of a model is its accuracy at this budget, on samples that were
# used neither to choose exits nor to calibrate thresholds. One model serves all budgets, so that
# accuracy and mean cost are also recorded for other ones. With ``memory``, the trial heads, which
# are the same for four of the placements, are trained once in each fold.

budgets = [0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6]


def scores(clf, X, y):
    """Return the accuracy at the budget, and accuracy and mean cost at other budgets."""
    found = {"accuracy": clf.score(X, y)}
    for budget in budgets:
        budget_kept = max(budget, clf.costs_[0])  # the lowest possible budget
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
    # Fit the models of the first fold again for the figures; all trainings are read from disk.
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
# At this budget the placements differ by about one percentage point, which is hardly more than the
# differences between folds. Digits are easy, and a third of the network is sufficient for them.
#
# Accuracy against cost
# ---------------------
# The placements differ at lower budgets. Each point is a budget. At the first point of a line, all
# samples exit at the first exit. Placements by shares of the cost place no exit near the input, so
# that budgets below 0.3 are not possible.

figure, axes = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
for i, (name, marker) in enumerate(zip(rules, "os^vD*", strict=True)):
    costs, accuracies = (
        [results[f"mean_test_{what} at {budget}"][i] for budget in budgets]
        for what in ("cost", "accuracy")
    )
    # Two placements may choose the same exits.
    axes.plot(
        costs,
        100 * np.array(accuracies),
        marker,
        linestyle="--" if name == "greedy" else "-",
        markerfacecolor="none" if name == "greedy" else f"C{i}",
        markersize={"*": 9, "v": 9}.get(marker, 5),
        label=name,
    )
axes.set_xlabel("mean cost of a sample (plain network = 1)")
axes.set_ylabel("accuracy in %, mean of three folds")
axes.set_title("Digits: accuracy and cost with different placements")
axes.grid(alpha=0.3)
axes.set_axisbelow(True)
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False, loc="lower right")

# %%
# The exits
# ---------
# The exits that the placements choose in the first fold. The numbers are the accuracies of single
# exits in %, on the test samples of the fold.

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
axes.set_xlabel("blocks, by the share of the cost of the network up to each")
axes.set_title("Exits of each placement")
axes.tick_params(length=0)
axes.spines[:].set_visible(False)

# %%
# Reports
# -------
# Each placement creates a report with its candidates, and the reason for or against each.

best = models[list(rules)[int(np.argmax(results["mean_test_accuracy"]))]]
print(best.placement_report_)

# %%
# The choice is based on 168 held-out samples, and neighboring blocks differ little, so that other
# seeds and folds yield other exits. In all of them, exits near the input are useful on these data,
# and the placements with trial heads find them.

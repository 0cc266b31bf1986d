"""
Comparing training strategies
=============================

The exits of a network can be trained all at once, after the network, stage by stage, or each by
its own loss. The strategies are values of the parameter ``training``, and are compared here by
scikit-learn's own search, on handwritten digits. All strategies with a name but one are included,
some of them also with other parameters. Digits are easy, the network is small and the trainings
are short: this example shows how to compare, and not which strategy is the best.
"""

# %%
# A network
# ---------
# The stem and its head are a hundredth of the cost, and each block is a third. A quarter of the
# training samples is held out for the thresholds.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score, train_test_split

from skearlyexit import CNNBackbone, EarlyExitClassifier
from skearlyexit.metrics import AccuracyAtBudget, CostAccuracyArea
from skearlyexit.training import (
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
    batch_size=96,
    lr=0.015,
    random_state=0,
)

# %%
# The grid
# --------
# A name is a strategy with its default parameters. The second grid uses the gates of ``"gated"``
# as scores, which is possible for this strategy only.
#
# The last grid trains one strategy of the first grid with other seeds. The differences between
# these models show how much of all differences is due to chance.
#
# ``"auxiliary"`` is not included. It removes its exits at the end, and the remaining network has a
# cost of 1 and meets no smaller budget, so that its score would be nan. It is used as a reference.

trainings = [
    *("combined", "combiner", "distillation", "freeze_out", "gated", "joint", "layerwise"),
    *("local_error", "mixed", "separate"),
    JointTraining("depth"),
    JointTraining("ramp"),
    JointTraining("adaptive"),
    JointTraining(equilibrium=True),
    CombinedTraining("free"),
    CombinedTraining("mean"),
    DistillationTraining("next"),
    FreezeOutTraining(spacing="cubic"),
    LayerwiseTraining(local="similarity"),
    LocalErrorTraining("feedback"),
    LocalErrorTraining("similarity"),
]
grid = [
    {"training": trainings},
    {"training": ["gated", GatedTraining(0.5)], "policy": ["gate"]},
    {"training": ["joint"], "random_state": [1, 2]},
]

# %%
# Two kinds of scores are computed. :class:`~skearlyexit.metrics.AccuracyAtBudget` is the accuracy
# at the same budget for all models, here for several budgets.
# :class:`~skearlyexit.metrics.CostAccuracyArea` is the mean accuracy over a range of budgets. The
# accuracy alone would compare models with different costs. All candidates have the same folds.

budgets = [0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8]
scoring = {f"at {budget}": AccuracyAtBudget(budget) for budget in budgets}
scoring["area"] = CostAccuracyArea(0.05, 1.0)
folds = StratifiedKFold(3, shuffle=True, random_state=0)
search = GridSearchCV(clf, grid, scoring=scoring, refit="at 0.2", cv=folds)
search.fit(X_train, y_train)


def label(params):
    """Return a short name of a candidate."""
    name = str(params["training"]).replace("Training", "")
    if "policy" in params:
        name += ", gates as scores"
    if "random_state" in params:
        name += f", seed {params['random_state']}"
    return name


results = search.cv_results_
names = [label(params) for params in results["params"]]
for metric in ("at 0.2", "area"):
    scores = np.array([results[f"split{fold}_test_{metric}"] for fold in range(3)])
    means = scores.mean(axis=0)
    best = means.argmax()
    rivals = (scores >= scores[:, [best]]).any(axis=0).sum() - 1
    seeds = [mean for mean, name in zip(means, names, strict=True) if name.startswith("joint")]
    print(f"{metric}: {names[best]} is the best of {len(names)}, with {means[best]:.1%}")
    print(f"  candidates that are at least as good on a fold: {rivals}")
    print(f"  joint, {len(seeds)} seeds: {min(seeds):.1%} to {max(seeds):.1%}")

# %%
# The best candidate is not the best on every fold, and by the area the seed alone changes the rank
# of a strategy. Candidates that are so close to each other do not differ significantly.
#
# Two networks with a cost of 1 serve as references: one that never had early exits, and one whose
# early exits were removed. They have the same folds but a third more training samples, because a
# network with one exit needs no calibration samples.

references = {}
for name, params in {"plain": {"exits": 1}, "auxiliary": {"training": "auxiliary"}}.items():
    scores = cross_val_score(clone(clf).set_params(**params), X_train, y_train, cv=folds)
    references[name] = scores.mean(), scores.std()
    print(f"{name:<10} {scores.mean():.1%} +- {scores.std():.1%}, at a cost of 1")

# %%
# Learning curves
# ---------------
# ``history_`` has an entry for each epoch with its phase and its exits. With ``early_stopping`` it
# contains the values on validation samples, too. ``n_iter_no_change`` is so large here that no
# phase ends early. These trainings are twice as long as those of the search.

curves = {}
for training in ("joint", "freeze_out", "mixed", "separate", "layerwise"):
    model = clone(clf).set_params(
        training=training, max_epochs=12, early_stopping=True, n_iter_no_change=12
    )
    curves[training] = model.fit(X_train, y_train).history_

figure, panels = plt.subplots(2, 3, figsize=(9, 5.4), sharey=True, layout="constrained")
colors = plt.get_cmap("viridis")(np.linspace(0, 0.85, model.n_exits_))
for axes, (training, history) in zip(panels.flat, curves.items(), strict=False):
    accuracies = np.full((len(history), model.n_exits_), np.nan)
    for i, epoch in enumerate(history):
        accuracies[i, epoch["exits"]] = epoch["valid_exit_accuracies"]
        if i > 0 and epoch["phase"] != history[i - 1]["phase"]:
            axes.axvline(i + 0.5, color="0.6", linestyle=":")
    for exit_, name in enumerate(model.exit_names_):
        axes.plot(
            np.arange(1, len(history) + 1),
            100 * accuracies[:, exit_],
            marker="osD^"[exit_],
            markersize=3.5,
            color=colors[exit_],
            label=name,
        )
    axes.set_title(training)
    axes.set_xticks(np.arange(1, 5) * len(history) // 4)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
panels[1, 2].axis("off")  # for the legend
panels[1, 2].legend(*panels[0, 0].get_legend_handles_labels(), loc="center", title="exit after")
figure.supxlabel("epoch")
figure.supylabel("accuracy on validation samples in %")

# %%
# Dotted lines separate the phases. With ``"joint"`` all exits are trained all the time.
# ``"freeze_out"`` stops the training of the first stages first, so that the exit at the stem
# remains as it is. With ``"mixed"`` the last exit loses some accuracy when the other exits are
# added, and regains it. ``"separate"`` freezes the network in the second phase, so that the last
# exit does not change, and the other exits use embeddings that were not trained for them.
# ``"layerwise"`` trains each stage for all epochs, with about the same number of operations, since
# it trains one stage at a time. The curves are those of about a hundred samples and one seed.

# %%
# All candidates
# --------------
# The small markers are the folds, the large ones are their means, and the error bars are standard
# deviations. The candidates are sorted by the left panel.

order = np.argsort(results["mean_test_at 0.2"])
rows = np.arange(len(order))
same = np.array([names[i].split(",")[0] == "joint" for i in order])
kinds = {"other trainings": ("C0", "o", ~same), "joint, three seeds": ("#D55E00", "D", same)}
figure, panels = plt.subplots(1, 2, figsize=(9, 7.2), sharey=True, layout="constrained")
titles = {"at 0.2": "at a budget of 0.2", "area": "mean over budgets, 0.05 to 1"}
for axes, (metric, title) in zip(panels, titles.items(), strict=True):
    for fold in range(folds.get_n_splits()):
        scores = 100 * results[f"split{fold}_test_{metric}"][order]
        axes.plot(scores, rows, ".", color="0.6", markersize=4)
    for kind, (color, marker, kept) in kinds.items():
        axes.errorbar(
            100 * results[f"mean_test_{metric}"][order][kept],
            rows[kept],
            xerr=100 * results[f"std_test_{metric}"][order][kept],
            fmt=marker,
            color=color,
            markersize=5,
            label=kind,
        )
    axes.set_title(title)
    axes.set_xlabel("accuracy in %")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
panels[0].set_yticks(rows, [names[i] for i in order], fontsize="small")
panels[0].set_ylim(-0.7, len(order) - 0.3)
panels[0].legend(frameon=False, loc="upper left")

# %%
# In the upper half, neighboring candidates differ less than their folds, and their order is
# another one in the right panel. Only the candidates at the lower end are clearly worse. This is
# no general result: six epochs are few, of which ``"mixed"`` and ``"separate"`` leave three for
# the early exits, and ``FreezeOut(spacing='cubic')`` one and a half for the stem. For the same
# gated network, the confidence is a better score than the gates on every fold.

# %%
# Accuracy against cost
# ---------------------
# Five of the candidates at all budgets of the search. The bands and error bars are standard
# deviations over the folds.

figure, axes = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
# Colors that can be distinguished with a color vision deficiency.
shown = {
    "layerwise": "#0072B2",
    "joint": "#E69F00",
    "gated": "#009E73",
    "mixed": "#CC79A7",
    "separate": "#D55E00",
}
for i, (name, color) in enumerate(shown.items()):
    at = names.index(name)
    means = np.array([100 * results[f"mean_test_at {budget}"][at] for budget in budgets])
    spreads = np.array([100 * results[f"std_test_at {budget}"][at] for budget in budgets])
    axes.plot(budgets, means, marker="osD^v"[i], markersize=5, color=color, label=name)
    axes.fill_between(
        budgets, means - spreads, means + spreads, color=color, alpha=0.2, linewidth=0
    )
for (name, (mean, spread)), at, marker in zip(references.items(), (0.99, 1.01), "*P", strict=True):
    axes.errorbar(
        at,
        100 * mean,
        100 * spread,
        fmt=marker,
        color="black",
        markersize=7,
        elinewidth=1,
        capsize=3,
        label=f"{name}, no early exits",
    )
axes.set_xlabel("budget: mean cost per sample (plain network = 1)")
axes.set_ylabel("accuracy in %")
axes.set_title("Digits: accuracy and cost with different strategies")
axes.grid(alpha=0.3)
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False, loc="lower right")

# %%
# The strategies differ most at small budgets, at which many samples have to exit at the stem. From
# a budget of 0.4 on, three of the five are within two percentage points of each other, and up to
# three points below the plain networks, which have more training samples.
#
# The best of many candidates appears better on the folds than it is. Test samples were not used
# for the choice, but the model that predicts them has 50 % more training samples.

print(f"{names[search.best_index_]} at a budget of 0.2")
print(f"  on the folds     {search.best_score_:.1%}")
print(f"  on test samples  {search.score(X_test, y_test):.1%}")

"""
Every way of training, in one search
====================================

How should a network with exits be trained: everything at once, the network first and its heads
after it, stage by stage, every exit by itself? All of these are values of the parameter
``training``, so that scikit-learn's own search compares them like anything else. Here are all that
have a name, and some of their parameters, on handwritten digits. Digits are easy, the network is
small and the trainings are short: the page shows how to compare, and not which training is best.
"""

# %%
# A network
# ---------
# The stem and its head do a hundredth of the work, and each block a third. Thresholds come from a
# quarter of the rows, which is held out of every training.

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
# A name is a strategy as it comes, and an object one with parameters. A list of grids keeps apart
# what belongs together: the gates of ``"gated"`` can be the scores, and only they can.
#
# The last grid trains one strategy of the first again, from other seeds. What these models differ
# by is chance, and shows how much of it there is.
#
# One strategy is left out. ``"auxiliary"`` drops its exits in the end, and what remains costs 1: it
# cannot keep a budget below that, so that a search would give it nan. It comes back as a reference.

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
# There are two kinds of scores. :class:`~skearlyexit.metrics.AccuracyAtBudget` compares models at
# the same price, here at several. :class:`~skearlyexit.metrics.CostAccuracyArea`, the area under
# accuracy against cost, is the mean accuracy over budgets. Plain accuracy would compare models that
# spend differently. All candidates have the same folds.

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
    scores = np.array([results[f"split{fold}_test_{metric}"] for fold in range(3)])
    means = scores.mean(axis=0)
    best = means.argmax()
    rivals = (scores >= scores[:, [best]]).any(axis=0).sum() - 1
    seeds = [mean for mean, name in zip(means, names, strict=True) if name.startswith("joint")]
    print(f"{metric}: {names[best]} is the best of {len(names)}, with {means[best]:.1%}")
    print(f"  as good as it on a fold, or better: {rivals}")
    print(f"  joint, from {len(seeds)} seeds: {min(seeds):.1%} to {max(seeds):.1%}")

# %%
# The best is not the best on every fold, and by the area the seed alone moves a strategy past
# others. What lies as close together as that is not told apart here.
#
# The others are to be compared with two networks that cost 1: one that never had exits, and the one
# whose exits were dropped. They have the same folds, but learn from a third more rows: with one
# exit there is nothing to calibrate, and no rows are held out for it.

references = {}
for name, params in {"plain": {"exits": 1}, "auxiliary": {"training": "auxiliary"}}.items():
    scores = cross_val_score(clone(clf).set_params(**params), X_train, y_train, cv=folds)
    references[name] = scores.mean(), scores.std()
    print(f"{name:<10} {scores.mean():.1%} +- {scores.std():.1%}, at a cost of 1")

# %%
# Learning curves
# ---------------
# ``history_`` has an entry for each epoch, with the phase of the training and the exits that it
# looks at. With ``early_stopping`` the same is kept of validation rows; so much patience stops no
# phase, and all of it is seen. These trainings are twice as long as those of the search.

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
panels[1, 2].axis("off")  # five trainings, and room for the legend
panels[1, 2].legend(*panels[0, 0].get_legend_handles_labels(), loc="center", title="exit behind")
figure.supxlabel("epoch, of all phases")
figure.supylabel("accuracy on validation rows in %")

# %%
# Dotted lines stand between phases. With ``"joint"`` all exits learn all the time.
# ``"freeze_out"`` stops the first stages first, and the stem stays where it is. ``"mixed"`` costs
# the last exit some of its accuracy as the others join, which it regains. ``"separate"`` leaves the
# network as it is in the second phase, and the last exit with it; the others have to do with what
# was not learned for them. ``"layerwise"`` gives each stage all of the epochs, and yet takes about
# as many operations, since it trains one stage at a time. The curves are those of a hundred rows
# and one seed.

# %%
# All candidates
# --------------
# Small marks are the folds, large ones their means, and bars a standard deviation on either side.
# The order is that of the left panel.

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
# In the upper half neighbors lie closer together than their folds do. Their order means little,
# and is another one in the right panel. The lower end lies further behind than that. It is no
# verdict on those trainings: six epochs are few, of which ``"mixed"`` and ``"separate"`` leave
# three to the early exits, and ``FreezeOut(spacing='cubic')`` one and a half to the stem. For the
# same gated network confidence is a better score here than the gates are, on every fold.

# %%
# Accuracy against cost
# ---------------------
# Five of them at all budgets of the search. Bands and bars are standard deviations over the folds.

figure, axes = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
# Colours that are told apart by the color-blind too.
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
        label=f"{name}, no exits",
    )
axes.set_xlabel("budget: mean cost per row (plain network = 1)")
axes.set_ylabel("accuracy in %")
axes.set_title("Digits: accuracy for the cost, by the kind of training")
axes.grid(alpha=0.3)
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False, loc="lower right")

# %%
# Trainings differ most at small budgets, where many rows have to leave at the stem. From a budget
# of 0.4 on three of the five lie within two points of each other, and up to three points below the
# networks without exits, which have learned from more rows.
#
# The best of many looks better on the folds that it was chosen by than it is. Test rows have no
# part in the choice, but the model that answers them has learned from half as many rows again.

print(f"{names[search.best_index_]} at a budget of 0.2")
print(f"  on the folds     {search.best_score_:.1%}")
print(f"  on the test rows {search.score(X_test, y_test):.1%}")

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
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score, train_test_split

from skearlyexit import CNNBackbone, EarlyExitClassifier
from skearlyexit.inspection import CostAccuracyDisplay
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
    JointTraining(0.3),
    JointTraining("depth"),
    JointTraining("ramp"),
    JointTraining("adaptive"),
    JointTraining(equilibrium=True),
    CombinedTraining("free"),
    CombinedTraining("positive"),
    CombinedTraining("mean"),
    CombinedTraining("max"),
    DistillationTraining("next"),
    DistillationTraining("later"),
    FreezeOutTraining(spacing="linear"),
    LayerwiseTraining(local="reconstruction"),
    LayerwiseTraining(local="similarity"),
    LocalErrorTraining("feedback"),
    LocalErrorTraining("similarity"),
    LocalErrorTraining("similarity", projected=True),
]
grid = [
    {"training": trainings},
    {"training": ["gated", GatedTraining(0.02), GatedTraining(0.5)], "policy": ["gate"]},
    {"training": ["joint"], "random_state": [1, 2, 3]},
]

# %%
# Two kinds of scores: the accuracy at one budget, for several of them, and the area under accuracy
# against cost, which is the mean accuracy over budgets. A score by plain accuracy would compare
# models that spend differently. All candidates see the same folds.

budgets = [0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8]
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

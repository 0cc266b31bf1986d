"""
Measures and pictures
=====================

Where does a network with exits waste its work, can its exits be believed, what do the rows look
like that leave early, and which of several models is worth its cost? One model on handwritten
digits, and a picture for each question. :doc:`../guide/measures` explains the measures.
"""

# %%
# A model
# -------
# The rows that are looked at below are test rows: the model was neither trained on them nor
# calibrated with them.

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.manifold import TSNE
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skearlyexit import Budget, EarlyExitClassifier, MLPBackbone
from skearlyexit.inspection import (
    CostAccuracyDisplay,
    EmbeddingDisplay,
    ExtremeRowsDisplay,
    OverthinkingDisplay,
    ReliabilityDisplay,
    RunsDisplay,
    SearchDisplay,
)
from skearlyexit.metrics import (
    AccuracyAtBudget,
    MeanCost,
    cost_accuracy,
    cost_accuracy_auc,
    cost_at_drop,
    decision_auroc,
    monotonicity,
    speedup,
)

torch.set_num_threads(1)  # as fast as more on networks this small

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)


def fit(random_state, **params):
    """Fit a small residual network with four exits."""
    clf = EarlyExitClassifier(
        MLPBackbone(n_blocks=4, width=64, hidden=64),
        calibration=0.3,
        max_epochs=15,
        random_state=random_state,
        **{"exits": ["stem", "block1", "block2"], **params},
    )
    return clf.fit(X_train, y_train)


runs = [fit(seed) for seed in range(3)]
clf = runs[0]

# %%
# Numbers
# -------
# Areas and costs belong to the whole curve; the area is the mean accuracy over budgets. What is
# asked of the scores is their order: does it tell rows that the exit gets right, and rows that no
# later exit would do better at?

table = clf.exit_table(X_test)
correct = table.labels == y_test[:, None]  # the classes are 0 to 9
costs, accuracies = cost_accuracy(correct, table.scores, clf.costs_, clf.frontier_.thresholds)
plain = fit(0, exits=1).score(X_test, y_test)
print(f"area from 0.2 to 1: {cost_accuracy_auc(costs, accuracies, low=0.2, high=1.0):.3f}")
print(f"plain network: accuracy {plain:.3f}")
drops = [0.0, 0.005, 0.01, 0.02]
for drop, cost in zip(drops, cost_at_drop(costs, accuracies, plain, drops), strict=True):
    print(f"  cost at a drop of {drop:.1%}: {cost:.2f}")
right, stop = decision_auroc(table.scores, correct)
print(f"AUROC of being right:             {', '.join(f'{value:.3f}' for value in right)}")
print(f"AUROC of no later exit being so:  {', '.join(f'{value:.3f}' for value in stop)}")
falls = monotonicity(table.probabilities[np.arange(len(y_test)), :, y_test], [0.01, 0.1, 0.5])
print(f"rows that fall by 0.01, 0.1, 0.5: {', '.join(f'{share:.1%}' for share in falls)}")
print(speedup(clf, np.tile(X_test, (20, 1)), budget=0.4))

# %%
# Overthinking
# ------------
# Most rows are right at the first exit already: all that is computed after it is wasted on them. A
# few are right there and wrong at the end.

OverthinkingDisplay.from_estimator(clf, X_test, y_test)

# %%
# Reliability
# -----------
# The first exits of this network are less sure than they could be, and the last one is about right.
# The sizes of the marks tell how many rows are behind them.

ReliabilityDisplay.from_estimator(clf, X_test, y_test, n_bins=10)

# %%
# Embeddings
# ----------
# Rows that leave at the first exit lie within the heaps, and those that go on between them.

EmbeddingDisplay.from_estimator(
    clf, X_test, exit="block1", budget=0.4, projection=TSNE(random_state=0)
)

# %%
# Easy and hard rows
# ------------------
# Under each image stand the answer and its score, and the truth where it is another one.

ExtremeRowsDisplay.from_estimator(clf, X_test, y_test, budget=0.4, image_shape=(8, 8))

# %%
# Rows of a table are drawn as a heat map, of standardized features: tumours that are told at a
# glance, and others.

cancer = load_breast_cancer(as_frame=True)
names = [name for name in cancer.data if name.startswith("mean")]
A_train, A_test, b_train, b_test = train_test_split(
    cancer.data[names], cancer.target_names[cancer.target], random_state=0
)
model = make_pipeline(
    StandardScaler(),
    EarlyExitClassifier(
        MLPBackbone(n_blocks=3, width=32, hidden=32), exits=3, calibration=0.3, random_state=0
    ),
).fit(A_train, b_train)
ExtremeRowsDisplay.from_estimator(model, A_test, b_test, n_rows=3, threshold=0.95)

# %%
# Several runs
# ------------
# The band is one standard deviation of the runs, which differ by their seed alone. The marks are
# those of one run.

display = RunsDisplay.from_estimators(runs, X_test, y_test, name="any seed")
CostAccuracyDisplay.from_estimator(
    clf, X_test, y_test, budget=0.4, name="seed 0", ax=display.ax_, linewidth=1
)

# %%
# A search over accuracy and cost
# -------------------------------
# Two metrics, and candidates that differ in training and budget. Bars are standard deviations over
# the folds; the line joins those that no other candidate beats in both.

search = GridSearchCV(
    EarlyExitClassifier(
        MLPBackbone(n_blocks=4, width=32, hidden=32),
        exits=["stem", "block1", "block2"],
        calibration=0.3,
        max_epochs=10,
        random_state=0,
    ),
    {
        "training": ["joint", "separate", "mixed"],
        "operating_point": [Budget(budget) for budget in (0.3, 0.5, 0.8)],
    },
    scoring={"accuracy": "accuracy", "cost": MeanCost(), "at 0.5": AccuracyAtBudget(0.5)},
    refit="at 0.5",
    cv=2,
)
search.fit(X_train, y_train)
SearchDisplay.from_cv_results(search, group="training")
print(f"best at a budget of 0.5: {search.best_params_['training']}")

"""
Metrics and displays
====================

This example shows the metrics and displays for one model on handwritten digits: samples for which
continuing is useless, the calibration of the exits, samples that exit early, and the comparison of
several models by accuracy and cost. :doc:`../guide/measures` explains the metrics.
"""

# %%
# A model
# -------
# All results below are for test samples, on which the model was neither trained nor calibrated.

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
    ExtremeSamplesDisplay,
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
# Metrics
# -------
# The area is the mean accuracy over a range of budgets. The AUROC evaluates the order of the
# scores at each exit: whether they identify the samples for which this exit is right, and those
# for which no later exit is better.

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
print(f"AUROC of no later exit better:    {', '.join(f'{value:.3f}' for value in stop)}")
falls = monotonicity(table.probabilities[np.arange(len(y_test)), :, y_test], [0.01, 0.1, 0.5])
print(f"share worse by 0.01, 0.1, 0.5:    {', '.join(f'{share:.1%}' for share in falls)}")
print(speedup(clf, np.tile(X_test, (20, 1)), budget=0.4))

# %%
# Overthinking
# ------------
# Most samples are classified correctly by the first exit, so that all further computation is
# wasted for them. A few are right there and wrong at the last exit.

OverthinkingDisplay.from_estimator(clf, X_test, y_test)

# %%
# Reliability
# -----------
# The first exits of this network are less confident than they are accurate. The last one is nearly
# calibrated. The size of a marker is the number of samples in its bin.

ReliabilityDisplay.from_estimator(clf, X_test, y_test, n_bins=10)

# %%
# Embeddings
# ----------
# Samples that exit at the first exit are inside the clusters, and those that continue between
# them.

EmbeddingDisplay.from_estimator(
    clf, X_test, exit="block1", budget=0.4, projection=TSNE(random_state=0)
)

# %%
# Easy and difficult samples
# --------------------------
# The prediction and its score are printed below each image, and the true label if it is another
# one.

ExtremeSamplesDisplay.from_estimator(clf, X_test, y_test, budget=0.4, image_shape=(8, 8))

# %%
# Samples of a table are drawn as a heat map of the standardized features. Here they are tumors
# that are easy or difficult to classify.

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
ExtremeSamplesDisplay.from_estimator(model, A_test, b_test, n_samples=3, threshold=0.95)

# %%
# Several runs
# ------------
# The band is the standard deviation over the runs, which differ only in their seed. The markers
# are those of one run.

display = RunsDisplay.from_estimators(runs, X_test, y_test, name="any seed")
CostAccuracyDisplay.from_estimator(
    clf, X_test, y_test, budget=0.4, name="seed 0", ax=display.ax_, linewidth=1
)

# %%
# A search over accuracy and cost
# -------------------------------
# The search uses several metrics, and its candidates differ in training and budget. The error bars
# are standard deviations over the folds. The line connects the candidates that are not worse than
# another one in both accuracy and cost.

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

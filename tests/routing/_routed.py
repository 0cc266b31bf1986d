"""Models with a router that many tests share, and what they do step by step."""

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.naive_bayes import GaussianNB

from skearlyexit import CascadeClassifier, ExitRouter
from tests._data import blobs

X, y, X_TEST, Y_TEST = blobs()
COSTS = [1, 6, 16]


def three(**params):
    """A cheap estimator, one at half of the cost of the last, and the last."""
    estimators = [
        ("bayes", GaussianNB()),
        ("tree", RandomForestClassifier(5, max_depth=4, random_state=0)),
        ("forest", RandomForestClassifier(20, random_state=1)),
    ]
    defaults = {"cost": COSTS, "router": ExitRouter(), "calibration": 2, "random_state": 0}
    return CascadeClassifier(estimators, **{**defaults, **params})


def dividing(clf):
    """Thresholds under which some samples skip the second exit, and others exit there."""
    scores = clf.exit_table(X_TEST).scores
    return np.array([np.quantile(scores[:, 0], 0.9), np.quantile(scores[:, 1], 0.5)])


def naive(clf, rows, thresholds):
    """Exit and cost of each sample, step by step."""
    table, router = clf.exit_table(rows), clf.cascade_.exit_rule.router
    costs = clf.cost_table_
    own = (costs.head_costs + costs.decision_costs) / costs.plain
    stages = costs.stage_costs / costs.plain
    least = router.least_scores(np.asarray(thresholds))
    exits, paid = [], []
    for scores in table.scores:
        total = 0.0
        for exit_, score in enumerate(scores):
            total += stages[exit_]
            if scores[0] < least[exit_]:
                continue
            total += own[exit_]
            if exit_ == len(thresholds) or score >= thresholds[exit_]:
                break
        exits.append(exit_)
        paid.append(total)
    return np.array(exits), np.array(paid)

"""Classifiers in a row that many tests share."""

from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import CascadeClassifier

COSTS = [1, 4, 16]


def three(**params):
    """Estimators that differ in kind, and are fitted in milliseconds."""
    estimators = [
        ("bayes", GaussianNB()),
        ("logistic", LogisticRegression(max_iter=500)),
        ("tree", DecisionTreeClassifier(max_depth=7)),
    ]
    defaults = {"cost": COSTS, "calibration": 0.3, "random_state": 0}
    return CascadeClassifier(estimators, **{**defaults, **params})

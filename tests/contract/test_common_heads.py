"""scikit-learn's own contract, for its estimators as heads."""

import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from tests._contract import checked, small

# The checks themselves draw from numpy's generator.
pytestmark = pytest.mark.changes("numpy random state")

CONFIGURATIONS = [
    small(head=DecisionTreeClassifier(max_depth=5, min_weight_fraction_leaf=0.01), budget=0.7),
    small(head=[make_pipeline(StandardScaler(), SVC()), "linear"], dtype="float64"),
    small(head=KNeighborsClassifier(3), training="separate", policy="entropy"),
    small(head=[DecisionTreeClassifier(max_depth=3), LogisticRegression()]),
]


@checked(CONFIGURATIONS)
def test_heads(estimator, check):
    check(estimator)

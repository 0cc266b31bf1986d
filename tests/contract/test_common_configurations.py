"""scikit-learn's own contract, for its estimators as heads and for further trainings."""

import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from tests._contract import checked, small

# The checks themselves draw from numpy's generator.
pytestmark = pytest.mark.changes("numpy random state")

CONFIGURATIONS = [
    small(
        head=[
            DecisionTreeClassifier(max_depth=5, min_weight_fraction_leaf=0.01),
            KNeighborsClassifier(3),
        ],
        training="separate",
        policy="entropy",
        budget=0.9,
    ),
    small(
        head=[make_pipeline(StandardScaler(), SVC()), "linear"],
        training="joint",
        policy="patience",
        dtype="float64",
    ),
    small(training="combined", calibration=None, threshold=0.8, early_stopping=True),
    small(training="gated", policy="gate", combine="own"),
    small(training="auxiliary", head="mlp", loss="squared_hinge"),
]


@checked(CONFIGURATIONS)
def test_configurations(estimator, check):
    check(estimator)

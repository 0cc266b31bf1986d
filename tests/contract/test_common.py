"""scikit-learn's own contract."""

import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_param_validation,
    parametrize_with_checks,
)

from skearlyexit import EarlyExitClassifier, MLPBackbone

# The checks themselves draw from numpy's generator.
pytestmark = pytest.mark.changes("numpy random state")

# All checks are run for each configuration, some of them on dozens of fits: as small a network as
# learns enough for them, and one training for each fit, where cross-fitting takes several.
SMALL = {
    "backbone": MLPBackbone(2, width=16, hidden=16),
    "exits": 2,
    "max_epochs": 5,
    "lr": 0.03,
    "calibration": 0.3,
}


def small(**params):
    return EarlyExitClassifier(**{**SMALL, **params})


CONFIGURATIONS = [
    EarlyExitClassifier(max_epochs=4, lr=0.03),
    small(head="mlp", training="joint", policy="patience"),
    small(head=DecisionTreeClassifier(max_depth=5, min_weight_fraction_leaf=0.01), budget=0.7),
    small(head=[make_pipeline(StandardScaler(), SVC()), "linear"], dtype="float64"),
    small(head=KNeighborsClassifier(3), training="separate", policy="entropy"),
    small(head=[DecisionTreeClassifier(max_depth=3), LogisticRegression()]),
    small(training="combined", calibration=None, threshold=0.8, early_stopping=True),
    small(training="gated", policy="gate", combine="own"),
    small(training="auxiliary"),
]

NEVER_EXACT = dict.fromkeys(
    (
        "check_sample_weight_equivalence_on_dense_data",
        "check_sample_weight_equivalence_on_sparse_data",
    ),
    "sample_weight is not equivalent to removing/repeating samples.",
)


@parametrize_with_checks(CONFIGURATIONS, expected_failed_checks=lambda _: NEVER_EXACT)
def test_sklearn_contract(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "check", [check_param_validation, check_dataframe_column_names_consistency]
)
def test_checks_outside_the_public_list(check):
    check("EarlyExitClassifier", small(max_epochs=2))

"""scikit-learn's own contract, for regressors."""

import pytest
from sklearn.linear_model import Ridge
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_param_validation,
)

from skearlyexit import EarlyExitRegressor
from tests._contract import SMALL, checked

# The checks themselves draw from numpy's generator.
pytestmark = pytest.mark.changes("numpy random state")


def small(**params):
    return EarlyExitRegressor(**{**SMALL, "max_epochs": 20, **params})


CONFIGURATIONS = [
    # Cross-fitted as by default, in two parts and not five.
    EarlyExitRegressor(SMALL["backbone"], max_epochs=10, lr=0.05, batch_size=32, calibration=2),
    small(
        head=[DecisionTreeRegressor(min_weight_fraction_leaf=0.01), Ridge()],
        training="separate",
        policy="change",
        budget=0.9,
        max_epochs=8,
        lr=0.05,
    ),
    small(
        loss="huber",
        training="joint",
        policy="patience",
        combine="mean",
        dtype="float64",
        calibration=None,
        threshold=0.8,
        early_stopping=True,
    ),
]


@checked(CONFIGURATIONS)
def test_regressors(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "check", [check_param_validation, check_dataframe_column_names_consistency]
)
def test_checks_outside_the_public_list(check):
    check("EarlyExitRegressor", small(max_epochs=2))

"""scikit-learn's own contract, for the default configuration."""

import pytest
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_param_validation,
)

from skearlyexit import EarlyExitClassifier
from tests._contract import checked, small

# The checks themselves draw from numpy's generator.
pytestmark = pytest.mark.changes("numpy random state")


@checked([EarlyExitClassifier(max_epochs=3, lr=0.03)])
def test_default(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "check", [check_param_validation, check_dataframe_column_names_consistency]
)
def test_checks_outside_the_public_list(check):
    check("EarlyExitClassifier", small(max_epochs=2))

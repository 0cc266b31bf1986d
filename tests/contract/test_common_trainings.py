"""scikit-learn's own contract, for trainings that learn more than stages and heads."""

import pytest

from tests._contract import checked, small

# The checks themselves draw from numpy's generator.
pytestmark = pytest.mark.changes("numpy random state")

CONFIGURATIONS = [
    small(head="mlp", training="joint", policy="patience"),
    small(training="combined", calibration=None, threshold=0.8, early_stopping=True),
    small(training="gated", policy="gate", combine="own"),
    small(training="auxiliary"),
]


@checked(CONFIGURATIONS)
def test_trainings(estimator, check):
    check(estimator)

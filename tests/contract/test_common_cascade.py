"""scikit-learn's own contract, for classifiers in a row."""

import pytest
from sklearn.linear_model import LogisticRegression

from skearlyexit import CascadeClassifier
from tests._contract import checked

# The checks themselves draw from numpy's generator.
pytestmark = pytest.mark.changes("numpy random state")

# Both check for NaN: which of them are called in a prediction depends on the thresholds.
ESTIMATORS = [("small", LogisticRegression(C=0.1)), ("large", LogisticRegression())]


@checked([CascadeClassifier(ESTIMATORS, cost=[1, 4])])
def test_cascade(estimator, check):
    check(estimator)

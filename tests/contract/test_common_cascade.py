"""scikit-learn's own contract, for estimators in a row."""

import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from skearlyexit import CascadeClassifier, CascadeRegressor
from tests._contract import checked

# The checks themselves draw from numpy's generator.
pytestmark = pytest.mark.changes("numpy random state")

# Both check for NaN: which of them are called in a prediction depends on the thresholds.
ESTIMATORS = [("small", LogisticRegression(C=0.1)), ("large", LogisticRegression())]
REGRESSORS = [("small", Ridge(10.0)), ("large", Ridge())]


@checked([CascadeClassifier(ESTIMATORS, cost=[1, 4]), CascadeRegressor(REGRESSORS, cost=[1, 4])])
def test_cascade(estimator, check):
    check(estimator)

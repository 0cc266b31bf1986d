"""Classifiers in a row: what is refused, and what is said of it."""

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import Budget, CascadeClassifier, GivenCost
from skearlyexit.combination import TrainedCombination
from tests._cascades import three
from tests._data import blobs
from tests._estimators import Collective

X, y, X_TEST, Y_TEST = blobs()


@pytest.mark.parametrize(
    ("estimators", "message"),
    [
        ([], "non-empty list"),
        ([("a", GaussianNB()), ("a", GaussianNB())], "not unique"),
        ([("a__b", GaussianNB())], "must not contain __"),
        ([("cost", GaussianNB())], "conflict with constructor"),
        ([("a", StandardScaler())], "should be a classifier"),
        ([("a", "drop")], "All estimators are dropped"),
        ([GaussianNB()], r"list of \(string, estimator\) tuples"),
    ],
)
def test_estimators(estimators, message):
    with pytest.raises(ValueError, match=message):
        CascadeClassifier(estimators).fit(X, y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"threshold": 0.5, "budget": 0.5}, "At most one"),
        ({"threshold": [0.5]}, "threshold"),
        ({"cost": [1, 2]}, "must be 3 finite numbers"),
        ({"cost": [1, 2, -1]}, "must be 3 finite numbers"),
        ({"cost": [1, 2, 0]}, r"cost of the last estimator, 'tree', must be larger than 0"),
        ({"cost": GivenCost([1, 2, 0], decision=1)}, "cost of the last estimator"),
        ({"cost": GivenCost({"bayes": 1, "tree": 2})}, "must name all estimators"),
        ({"policy": "gate"}, "'policy' parameter"),
        ({"combine": "trained"}, "'combine' parameter"),
        ({"combine": TrainedCombination()}, "learns none"),
        ({"calibration": None, "budget": 0.5}, "calibration=None"),
        ({"calibration": 1.5}, "'calibration' parameter"),
        ({"budget": Budget(1, unit="ms")}, "unit"),
    ],
)
def test_parameters(params, message):
    fits = []

    class Expensive(GaussianNB):
        def fit(self, *args, **kwargs):
            fits.append(1)
            return super().fit(*args, **kwargs)

    clf = three(**params).set_params(bayes=Expensive())
    with pytest.raises(ValueError, match=message):
        clf.fit(X, y)
    assert not fits


def test_no_probabilities():
    estimators = [("svc", LinearSVC()), ("tree", DecisionTreeClassifier())]
    with pytest.raises(ValueError, match=r"'svc' \(LinearSVC\) has no predict_proba"):
        CascadeClassifier(estimators).fit(X, y)
    calibrated = CalibratedClassifierCV(LinearSVC(), ensemble=False)
    clf = CascadeClassifier(estimators, cost=[1, 2], random_state=0).set_params(svc=calibrated)
    assert clf.fit(X, y).predict(X_TEST).shape == Y_TEST.shape


def test_weights_that_an_estimator_does_not_support():
    estimators = [("near", KNeighborsClassifier()), ("tree", DecisionTreeClassifier())]
    with pytest.raises(ValueError, match=r"'near' \(KNeighborsClassifier\) does not support"):
        CascadeClassifier(estimators).fit(X, y, sample_weight=np.ones(len(y)))


def test_an_error_in_fit_names_the_estimator():
    clf = three().set_params(logistic__C=-1.0)
    with pytest.raises(ValueError, match="'C' parameter") as caught:
        clf.fit(X, y)
    assert "'logistic'" in " ".join(caught.value.__notes__)


@pytest.mark.parametrize("params", [{}, {"policy": "learned"}])
def test_probabilities_that_are_not_finite(params):
    class Undefined(Collective):
        def predict_proba(self, X):
            return np.where(X[:, :1] > 2.5, np.nan, super().predict_proba(X))

    labels, wrong = (X[:, 0] > 0).astype(int), int(np.argmax(X[:, 0] > 2.5))
    estimators = [("first", Undefined()), ("tree", DecisionTreeClassifier())]
    clf = CascadeClassifier(estimators, cost=[1, 2], random_state=0, **params)
    with pytest.raises(ValueError, match="exit 0 are NaN") as caught:
        clf.fit(X, labels)
    assert "network" not in str(caught.value)
    assert "backbone" not in str(caught.value)
    clf.fit(X[X[:, 0] < 2], labels[X[:, 0] < 2])
    with pytest.raises(ValueError, match=rf"X\[{wrong}\].*predict_proba of the estimator"):
        clf.predict(X, threshold=0.7)


def test_no_samples():
    clf = three(threshold=0.5).fit(X, y)
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        clf.predict(X_TEST[:0])


def test_operations_that_cannot_be_counted():
    with pytest.raises(ValueError, match=r"GaussianNB.*cost='seconds'"):
        three(cost="macs").fit(X, y)

"""Frozen estimators in a row, also those that are not as scikit-learn's are."""

import pickle
import threading

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import CascadeClassifier
from skearlyexit.costs import estimator_macs
from tests._data import blobs, same

X, y, X_TEST, Y_TEST = blobs()
NAMES = np.array(["a", "b", "c", "d"])


class Reordered(ClassifierMixin, BaseEstimator):
    """Has its classes in another order than they are sorted in."""

    order = (2, 0, 3, 1)

    def fit(self, X, y):
        self.inner_ = LogisticRegression(max_iter=999).fit(X, y)
        self.classes_ = self.inner_.classes_[list(self.order)]
        return self

    def predict_proba(self, X):
        return self.inner_.predict_proba(X)[:, self.order]

    def predict(self, X):
        return self.inner_.predict(X)


class Nameless(GaussianNB):
    """Does not say which classes it was fitted on."""

    def fit(self, X, y):
        inner = GaussianNB().fit(X, y)
        self.fitted_ = inner
        return self


class Locked(GaussianNB):
    """Cannot be copied."""

    def fit(self, X, y):
        self.lock_ = threading.Lock()
        return super().fit(X, y)


def chain(first, last=None, **params):
    last = last or DecisionTreeClassifier(max_depth=5, random_state=0)
    return CascadeClassifier(
        [("first", first), ("last", last)], cost=[1, 9], random_state=0, **params
    )


@pytest.mark.parametrize("passing", [False, True])
def test_classes_in_another_order(passing):
    model = Reordered().fit(X[:200], NAMES[y[:200]])
    clf = chain(FrozenEstimator(model), pass_probabilities=passing).fit(X[200:], NAMES[y[200:]])
    assert same(clf.classes_, NAMES)
    assert same(next(clf.staged_predict(X_TEST)), model.predict(X_TEST))
    np.testing.assert_allclose(
        next(clf.staged_predict_proba(X_TEST)), model.inner_.predict_proba(X_TEST), rtol=1e-6
    )


def test_classes_in_two_orders():
    frozen = [
        FrozenEstimator(model.fit(X[:200], NAMES[y[:200]])) for model in (GaussianNB(), Reordered())
    ]
    clf = chain(*frozen).fit(X[200:], NAMES[y[200:]])
    for labels, model in zip(clf.staged_predict(X_TEST), frozen, strict=True):
        assert same(labels, model.predict(X_TEST))


@pytest.mark.parametrize("passing", [False, True])
def test_one_without_classes(passing):
    frozen = FrozenEstimator(Nameless().fit(X, y))
    with pytest.raises(ValueError, match=r"'first' \(Nameless\) has no classes_"):
        chain(frozen, pass_probabilities=passing).fit(X, y)


@pytest.mark.parametrize("passing", [False, True])
def test_one_that_cannot_be_copied(passing):
    frozen = FrozenEstimator(Locked().fit(X, y))
    with pytest.raises(ValueError, match=r"'first' \(Locked\) cannot be copied.*lock.*deepcopy"):
        chain(frozen, pass_probabilities=passing).fit(X, y)


class TestThoseOfScikitLearn:
    small = GaussianNB().fit(X[:200], y[:200])
    large = RandomForestClassifier(20, random_state=0, n_jobs=2).fit(X[:200], y[:200])

    def chain(self, **params):
        estimators = [
            ("small", FrozenEstimator(self.small)),
            ("large", FrozenEstimator(self.large)),
        ]
        return CascadeClassifier(estimators, **{"cost": [1, 10], "random_state": 0, **params})

    @pytest.mark.parametrize("calibration", ["auto", 0.2, 3])
    def test_nothing_is_fitted_and_all_samples_are_used(self, calibration):
        before = pickle.dumps((self.small, self.large))
        clf = self.chain(budget=0.5, calibration=calibration).fit(X[200:], y[200:])
        assert pickle.dumps((self.small, self.large)) == before
        assert clf.operating_point_.n_samples == 300
        first, last = clf.staged_predict(X_TEST)
        assert same(first, self.small.predict(X_TEST))
        assert same(last, self.large.predict(X_TEST))

    def test_one_frozen_and_one_not(self):
        estimators = [("small", FrozenEstimator(self.small)), ("large", GaussianNB())]
        clf = CascadeClassifier(estimators, cost=[1, 10], random_state=0).fit(X[200:], y[200:])
        assert same(next(clf.staged_predict(X_TEST)), self.small.predict(X_TEST))
        assert clf.operating_point_.n_samples == 300

    def test_classes_are_those_of_the_frozen(self):
        rows = X[200:][y[200:] != 3]
        clf = self.chain(budget=0.5).fit(rows, y[200:][y[200:] != 3])
        assert clf.classes_.tolist() == [0, 1, 2, 3]

    def test_a_count_of_operations(self):
        assert estimator_macs(FrozenEstimator(self.large)) == estimator_macs(self.large)

    def test_bad_ones(self):
        other = GaussianNB().fit(X[:50], y[:50] + 1)
        estimators = [("small", FrozenEstimator(self.small)), ("other", FrozenEstimator(other))]
        with pytest.raises(ValueError, match=r"fitted on the same classes.*'small'.*'other'"):
            CascadeClassifier(estimators).fit(X, y)
        with pytest.raises(ValueError, match="not seen in fit"):
            self.chain().fit(X, y + 1)
        estimators = [("small", FrozenEstimator(GaussianNB())), ("large", GaussianNB())]
        with pytest.raises(NotFittedError):
            CascadeClassifier(estimators).fit(X, y)

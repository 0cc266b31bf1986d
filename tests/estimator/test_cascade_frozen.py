"""Frozen estimators that are not as those of scikit-learn."""

import threading

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import CascadeClassifier
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

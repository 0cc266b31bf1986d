"""Samples that are for networks only, and their number in a call."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import BaggingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier
from torch.utils.data import DataLoader

from skearlyexit import CascadeClassifier
from tests._data import Items, blobs, same

X, y, X_TEST, Y_TEST = blobs()


@pytest.mark.parametrize("make", [Items, lambda X, y: DataLoader(Items(X, y))])
def test_datasets_of_torch_are_refused(make):
    estimators = [("bayes", GaussianNB()), ("tree", DecisionTreeClassifier())]
    clf = CascadeClassifier(estimators, cost=[1, 2], threshold=0.7, random_state=0)
    message = r"X is a torch (Items|DataLoader).*Give an array, a data frame, a sparse matrix"
    for labels in (y, None):
        with pytest.raises(TypeError, match=message):
            clf.fit(make(X, y), labels)
    clf.fit(X, y)
    for call in (clf.predict, clf.exit_table, clf.partial_calibrate):
        with pytest.raises(TypeError, match=message):
            call(make(X, y))
    for call in (clf.score, clf.calibrate, clf.exit_report):
        with pytest.raises(TypeError, match=message):
            call(make(X, y), y)
    assert clf.predict(X).shape == np.shape(y)


class Counting(ClassifierMixin, BaseEstimator):
    """Notes the number of samples in each call, on which its answers depend."""

    sizes: list = []

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        self.sizes.append(len(X))
        positive = 1 / (1 + np.exp(-X[:, 0])) * (1 - 1e-9 * len(X))
        return np.column_stack([1 - positive, positive])

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


@pytest.mark.parametrize("frozen", [False, True])
def test_calls_of_any_size(frozen):
    given = [Counting().fit(X, y > 1) for _ in range(2)]
    estimators = [
        (name, FrozenEstimator(each) if frozen else each)
        for name, each in zip("ab", given, strict=True)
    ]
    for batch_invariant in (True, False):
        clf = CascadeClassifier(
            estimators,
            batch_invariant=batch_invariant,
            cost=[1, 2],
            threshold=0.7,
            random_state=0,
        )
        Counting.sizes.clear()
        clf.fit(X, y > 1)
        # It is not tested how answers depend on the number of samples.
        assert (4096 in Counting.sizes) == batch_invariant
        Counting.sizes.clear()
        _, exits = clf.predict(X_TEST[:50], return_exits=True)
        n_left = int(np.sum(exits == 1))
        assert 0 < n_left < 50
        assert Counting.sizes == ([256, 256] if batch_invariant else [50, n_left])
        table = clf.exit_table(X_TEST[:50])
        assert same(table.exits([0.7]), exits)


def test_members_in_calls_of_any_size():
    bagging = BaggingClassifier(Counting(), 2, random_state=0).fit(X, y > 1)
    clf = CascadeClassifier.from_ensemble(
        bagging, [1], batch_invariant=False, cost=[1, 1], threshold=0.7, random_state=0
    ).fit(X, y > 1)
    Counting.sizes.clear()
    _, exits = clf.predict(X_TEST[:50], return_exits=True)
    assert Counting.sizes == [50, int(np.sum(exits == 1))]

"""Samples that wait between estimators in a row: full calls, and the same answers."""

from functools import cache

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import CascadeClassifier
from skearlyexit._data._given import GivenRows
from skearlyexit.runtime._driver import run
from tests._data import blobs, same

X, y, X_TEST, _ = blobs()
SLAB = 32


def alone(**params):
    estimators = [
        ("logistic", LogisticRegression(max_iter=500)),
        ("stump", DecisionTreeClassifier(max_depth=2)),
        ("tree", DecisionTreeClassifier(max_depth=7)),
    ]
    return CascadeClassifier(estimators, cost=[1, 2, 4], random_state=0, **params)


def of_a_forest():
    forest = RandomForestClassifier(30, random_state=0).fit(X[:250], y[:250])
    return CascadeClassifier.from_ensemble(forest, [3, 10], cost="macs", random_state=0)


CHAINS = {
    "alone": alone,
    "passing": lambda: alone(pass_probabilities=True),
    "memory": lambda: alone(combine="mean"),
    "forest": of_a_forest,
}


@cache
def fitted(name):
    return CHAINS[name]().fit(X[250:], y[250:])


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize(
    "container", [np.asarray, np.ndarray.tolist, sparse.csr_array, pd.DataFrame, pl.DataFrame]
)
@pytest.mark.filterwarnings("ignore:X has feature names")
def test_answers_do_not_depend_on_slabs(name, container):
    cascade, rows = fitted(name).cascade_, GivenRows(container(X_TEST))
    scores = fitted(name).exit_table(X_TEST).scores[:, :-1]
    thresholds = np.quantile(scores, 0.6, axis=0, method="nearest")
    one, many = (
        run(cascade, rows, thresholds, with_probabilities=True, slab_rows=n) for n in (400, SLAB)
    )
    assert len(np.unique(one.exits)) == 3
    assert same(many.exits, one.exits)
    assert same(many.labels, one.labels)
    assert same(many.probabilities, one.probabilities)
    without = run(cascade, rows, thresholds, slab_rows=SLAB)
    assert same(without.exits, one.exits)
    assert same(without.labels, one.labels)


class Counting(ClassifierMixin, BaseEstimator):
    """Notes the numbers of samples in its calls."""

    calls: list = []

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        self.calls.append(len(X))
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


def test_samples_left_of_several_slabs_are_asked_for_together():
    estimators = [("bayes", GaussianNB()), ("counting", Counting())]
    clf = CascadeClassifier(estimators, cost=[1, 2], calibration=None, random_state=0).fit(X, y)
    threshold = np.quantile(clf.exit_table(X_TEST).scores[:, 0], 0.4)
    Counting.calls.clear()
    answers = run(clf.cascade_, GivenRows(X_TEST), np.array([threshold]), slab_rows=SLAB)
    n_left = np.count_nonzero(answers.exits)
    assert SLAB < n_left < len(X_TEST) / 2
    assert len(Counting.calls) == -(-n_left // SLAB)
    assert set(Counting.calls[:-1]) == {SLAB}


def test_calls_are_large():
    estimators = [("counting", Counting()), ("bayes", GaussianNB())]
    clf = CascadeClassifier(estimators, cost=[1, 2], calibration=None, random_state=0).fit(X, y)
    rows = np.resize(X_TEST, (10_000, X_TEST.shape[1]))
    Counting.calls.clear()
    clf.predict(rows, threshold=0.9)
    assert Counting.calls == [4096, 4096, 1808]

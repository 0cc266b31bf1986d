"""Classifiers in a row: what they are fitted on, and what their thresholds see."""

import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.model_selection import KFold
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import AccuracyDrop, CascadeClassifier
from tests._cascades import three
from tests._data import blobs, same
from tests._estimators import Memorizing

X, y, X_TEST, Y_TEST = blobs()


@pytest.mark.parametrize("calibration", [0.3, 3, "auto", KFold(4)])
def test_thresholds_see_no_sample_an_estimator_was_fitted_on(calibration):
    rows = np.random.RandomState(0).randn(400, 3)
    labels = (rows[:, 0] > 0).astype(int)
    clf = CascadeClassifier(
        [("memory", Memorizing()), ("tree", DecisionTreeClassifier())],
        operating_point=AccuracyDrop(0.1),
        cost=[1, 10],
        calibration=calibration,
        random_state=0,
    ).fit(rows, labels)
    new = np.random.RandomState(1).randn(200, 3)
    labels, exits = clf.predict(new, return_exits=True)
    # On samples that it was fitted on, the first is always right, and all would exit.
    assert np.all(exits == 1)
    assert np.mean(labels == (new[:, 0] > 0)) > 0.95


def test_exit_rules_see_no_sample_an_estimator_was_fitted_on():
    rows = np.random.RandomState(0).randn(400, 3)
    labels = (rows[:, 0] > 0).astype(int)
    clf = CascadeClassifier(
        [("memory", Memorizing()), ("tree", DecisionTreeClassifier())],
        policy="learned",
        threshold=0.5,
        cost=[1, 10],
        random_state=0,
    ).fit(rows, labels)
    assert clf.exit_table(np.random.RandomState(1).randn(50, 3)).scores[:, 0].max() < 0.1


def test_objects_of_the_user_are_not_changed():
    clf = three()
    before = pickle.dumps(clf)
    clf.fit(X, y)
    assert pickle.dumps(clone(clf)) == pickle.dumps(clone(pickle.loads(before)))
    assert not any(hasattr(each, "classes_") for _, each in clf.estimators)


def test_weights_reach_every_estimator():
    weight = np.random.RandomState(0).exponential(size=len(y))
    clf = three(calibration=None, threshold=0.8).fit(X, y, sample_weight=weight)
    for (_, given), fitted in zip(clf.estimators[:2], clf.estimators_, strict=False):
        expected = clone(given).fit(X, y, sample_weight=weight / weight.mean())
        np.testing.assert_allclose(
            fitted.predict_proba(X_TEST), expected.predict_proba(X_TEST), rtol=1e-6
        )


def test_samples_of_weight_zero_are_ignored():
    weight = np.arange(len(y)) % 2
    expected = three(budget=0.5).fit(X[1::2], y[1::2])
    clf = three(budget=0.5).fit(X, y, sample_weight=weight)
    assert same(clf.predict_proba(X_TEST), expected.predict_proba(X_TEST))


def test_groups_are_not_split():
    groups = np.arange(len(y)) // 50
    held = []

    class Splitter(ClassifierMixin, BaseEstimator):
        def fit(self, X, y):
            self.classes_, self.seen_ = np.unique(y), set(X[:, 0].astype(int) // 50)
            return self

        def predict_proba(self, X):
            held.append((self.seen_, set(X[:, 0].astype(int) // 50)))
            return np.full((len(X), len(self.classes_)), 0.25)

    rows = np.column_stack([np.arange(len(y)), X])
    estimators = [("a", Splitter()), ("b", Splitter())]
    CascadeClassifier(estimators, cost=[1, 2], calibration=2, random_state=0).fit(
        rows, y, groups=groups
    )
    # What is predicted is either a training sample, in a test, or of another group.
    assert all(asked <= seen or not asked & seen for seen, asked in held)
    assert any(not asked & seen for seen, asked in held)


def test_a_model_is_kept_after_an_error():
    clf = three(threshold=0.8).fit(X, y)
    before = clf.predict(X_TEST)
    with pytest.raises(ValueError, match="NaN"):
        clf.fit(np.full((60, 3), np.nan), y[:60])
    assert same(clf.predict(X_TEST), before)

"""Later classifiers in a row that are fitted on the samples likely to reach them."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import CascadeClassifier
from tests._data import blobs, same

X, y, X_TEST, Y_TEST = blobs()
GROUPS = np.arange(len(y)) % 50
#: A number for each sample, and how confident the answers for it are.
ROWS = np.column_stack([np.arange(len(y)), np.random.RandomState(0).uniform(size=len(y))])
SEEN = 0.95


def two(first=None, last=None, **params):
    estimators = [
        ("first", first or LogisticRegression(max_iter=2000)),
        ("last", last or DecisionTreeClassifier(max_depth=6, random_state=0)),
    ]
    defaults = {"train_share": 0.4, "cost": [1, 9], "random_state": 0}
    return CascadeClassifier(estimators, **{**defaults, **params})


class Recognizing(ClassifierMixin, BaseEstimator):
    """As confident as the second column says, but sure of all samples that it was fitted on."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.known_ = set(X[:, 0].tolist())
        return self

    def predict_proba(self, X):
        seen = np.array([each in self.known_ for each in X[:, 0].tolist()])
        positive = np.where(seen, SEEN + 0.04 * (1 - X[:, 1]), 0.55 + 0.3 * X[:, 1])
        return np.column_stack([1 - positive, positive])


@pytest.mark.parametrize("calibration", [0.3, 3, "auto"])
@pytest.mark.parametrize("pass_probabilities", [False, True])
def test_no_model_and_no_threshold_is_judged_on_samples_it_was_fitted_on(
    calibration, pass_probabilities
):
    estimators = [(name, Recognizing()) for name in ("first", "second", "third")]
    clf = CascadeClassifier(
        estimators,
        train_share=0.5,
        calibration=calibration,
        pass_probabilities=pass_probabilities,
        cost=[1, 2, 3],
        threshold=0.7,
        random_state=0,
    ).fit(ROWS, y % 2)
    # Thresholds: no score of a calibration sample is that of a sample seen in training.
    assert len(clf._recent_scores) >= 150
    assert np.all(clf._recent_scores < SEEN)
    # Later models: they are fitted on the samples of least confidence out of fold.
    first, second, third = (each.known_ for each in clf.estimators_)
    assert third < second < first
    for known, before in ((second, first), (third, second)):
        assert len(known) == np.ceil(len(before) / 2)
        rows = np.array(sorted(before), dtype=int)
        lowest = rows[np.argsort(ROWS[rows, 1])[: len(known)]]
        assert known == set(lowest.tolist())


def test_equal_to_estimators_fitted_by_hand():
    clf = two(calibration=None).fit(X, y, groups=GROUPS)
    (_, first), (_, last) = clf.estimators
    options = {"groups": GROUPS, "cv": GroupKFold(5), "method": "predict_proba"}
    scores = cross_val_predict(first, X, y, **options).max(axis=1)
    hard = np.sort(np.argsort(scores)[:200])
    expected = [clone(first).fit(X, y), clone(last).fit(X[hard], y[hard])]
    for found, each in zip(clf.staged_predict_proba(X_TEST), expected, strict=True):
        np.testing.assert_allclose(found, each.predict_proba(X_TEST), rtol=1e-6, atol=1e-9)


def test_all_of_them_is_the_default():
    found = two(train_share=1.0).fit(X, y).predict_proba(X_TEST, threshold=0.7)
    plain = CascadeClassifier(two().estimators, cost=[1, 9], random_state=0).fit(X, y)
    assert same(found, plain.predict_proba(X_TEST, threshold=0.7))


@pytest.mark.parametrize("pass_probabilities", [False, True])
def test_run_equals_table_batch_invariant(pass_probabilities):
    clf = two(pass_probabilities=pass_probabilities, columns={"first": [1, 2, 3]}).fit(X, y)
    table = clf.exit_table(X_TEST)
    found, exits = clf.predict_proba(X_TEST, threshold=0.5, return_exits=True)
    assert len(np.unique(exits)) == 2
    assert same(exits, table.exits([0.5]))
    assert same(found, table.probabilities[np.arange(len(exits)), exits])
    assert same(clf.predict_proba(X_TEST[:9], threshold=0.5), found[:9])


def test_weights_follow_the_samples():
    weight = np.random.RandomState(0).uniform(0.5, 2, size=len(y))
    clf = two(calibration=None).fit(X, y, weight, groups=GROUPS)
    first, last = (each for _, each in clf.estimators)
    scores = np.empty(len(y))
    relative = weight / weight.mean()
    for train, held in GroupKFold(5).split(X, y, GROUPS):
        fitted = clone(first).fit(X[train], y[train], relative[train])
        scores[held] = fitted.predict_proba(X[held]).max(axis=1)
    hard = np.sort(np.argsort(scores)[:200])
    expected = clone(last).fit(X[hard], y[hard], relative[hard])
    *_, found = clf.staged_predict_proba(X_TEST)
    np.testing.assert_allclose(found, expected.predict_proba(X_TEST), rtol=1e-9)


def test_frozen_estimators_say_which_samples_are_hard():
    small = LogisticRegression(max_iter=2000).fit(X[:200], y[:200])
    clf = two(first=FrozenEstimator(small), calibration=None).fit(X[200:], y[200:])
    scores = small.predict_proba(X[200:]).max(axis=1)
    hard = 200 + np.sort(np.argsort(scores)[:120])
    expected = clone(clf.estimators[1][1]).fit(X[hard], y[hard])
    *_, last = clf.staged_predict(X_TEST)
    assert same(last, expected.predict(X_TEST))
    forest = RandomForestClassifier(20, random_state=0).fit(X[:200], y[:200])
    parts = CascadeClassifier.from_ensemble(forest, [5]).estimators
    clf = CascadeClassifier(
        [*parts, ("last", DecisionTreeClassifier(max_depth=6))],
        train_share=0.5,
        cost=[1, 2, 9],
        random_state=0,
    ).fit(X[200:], y[200:])
    assert same(list(clf.staged_predict(X_TEST))[1], forest.predict(X_TEST))


def test_a_single_estimator_and_frozen_ones_need_no_folds():
    few = [0, 1, 250]
    clf = CascadeClassifier([("one", DecisionTreeClassifier())], train_share=0.5, random_state=0)
    assert clf.fit(X[few], [0, 1, 0]).predict(X[:2]).shape == (2,)
    small, large = (DecisionTreeClassifier(max_depth=n, random_state=0).fit(X, y) for n in (2, 9))
    clf = two(FrozenEstimator(small), FrozenEstimator(large)).fit(X_TEST, Y_TEST)
    assert clf.operating_point_.n_samples == len(Y_TEST)


def test_bad_ones():
    with pytest.raises(ValueError, match=r"'first'.*has no predict_proba"):
        two(first=LinearSVC(), policy="patience").fit(X, y)
    with pytest.raises(ValueError, match=r"train_share.*must be a float in the range \(0.0, 1.0\]"):
        two(train_share=0).fit(X, y)
    with pytest.raises(ValueError, match=r"train_share=0.01 leaves .* training samples"):
        two(train_share=0.01).fit(X[:60], y[:60])
    with pytest.raises(ValueError, match="train_share need at least 5 training samples"):
        two(calibration=None).fit(X[:4], [0, 1, 0, 1])

"""The members of a forest or of bagging in a row."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import CascadeClassifier
from skearlyexit.costs import estimator_macs
from tests._data import blobs, same
from tests._estimators import Collective

X, y, X_TEST, Y_TEST = blobs()
NAMES = np.array(["a", "b", "c", "d"])
ENSEMBLES = {
    "forest": RandomForestClassifier(30, random_state=0),
    "extra trees": ExtraTreesClassifier(30, random_state=0),
    "bagging": BaggingClassifier(n_estimators=30, max_features=0.5, random_state=0),
    "few samples each": BaggingClassifier(
        KNeighborsClassifier(1), 30, max_samples=6, random_state=0
    ),
    "votes": BaggingClassifier(LinearSVC(), 30, max_samples=50, random_state=0),
}


def cascade(ensemble, sizes=(3, 10), **params):
    defaults = {"cost": [3, 7, 20], "random_state": 0, "budget": 0.5}
    clf = CascadeClassifier.from_ensemble(ensemble, list(sizes), **{**defaults, **params})
    return clf.fit(X[300:], NAMES[y[300:]])


@pytest.fixture(scope="module")
def forest():
    return clone(ENSEMBLES["forest"]).fit(X[:300], NAMES[y[:300]])


@pytest.mark.parametrize("name", ENSEMBLES)
def test_equal_to_the_ensemble_where_nothing_exits(name):
    ensemble = clone(ENSEMBLES[name]).fit(X[:300], NAMES[y[:300]])
    clf = cascade(ensemble)
    probabilities = clf.predict_proba(X_TEST, threshold=np.inf)
    assert same(probabilities, ensemble.predict_proba(X_TEST))
    assert same(clf.predict(X_TEST, threshold=np.inf), ensemble.predict(X_TEST))
    # And with heads that are computed, at which no sample exits.
    table = clf.exit_table(X_TEST)
    assert same(table.probabilities[:, -1], probabilities)
    assert clf.exit_names_ == ["3", "10", "30"]


def test_an_exit_is_the_mean_of_the_first_members(forest):
    clf = cascade(forest)
    for probabilities, n_trees in zip(clf.staged_predict_proba(X_TEST), (3, 10, 30), strict=True):
        by_tree = [tree.predict_proba(X_TEST) for tree in forest.estimators_[:n_trees]]
        np.testing.assert_allclose(probabilities, np.mean(by_tree, axis=0), rtol=1e-12)


def test_run_equals_table_and_batches_do_not_matter(forest):
    clf = cascade(forest)
    table = clf.exit_table(X_TEST)
    thresholds = np.quantile(table.scores[:, :2], 0.5, axis=0, method="nearest")
    found, exits = clf.predict_proba(X_TEST, threshold=thresholds, return_exits=True)
    assert len(np.unique(exits)) == 3
    assert same(exits, table.exits(thresholds))
    assert same(found, table.probabilities[np.arange(len(exits)), exits])
    for rows in (slice(1), slice(5, 12)):
        assert same(clf.predict_proba(X_TEST[rows], threshold=thresholds), found[rows])


@pytest.mark.parametrize("max_features", [1.0, 0.7])
def test_batches_do_not_matter_if_those_of_a_member_do(max_features):
    linear = BaggingClassifier(
        LogisticRegression(), 20, max_features=max_features, random_state=0
    ).fit(X[:300], NAMES[y[:300]])
    votes = BaggingClassifier(Collective(), 20, random_state=0).fit(X[:300], y[:300] > 1)
    for ensemble, labels in ((linear, NAMES[y]), (votes, y > 1)):
        params = {"cost": [3, 7, 10], "threshold": 0.7, "random_state": 0}
        clf = CascadeClassifier.from_ensemble(ensemble, [3, 10], **params)
        clf.fit(X[300:], labels[300:])
        whole, exits = clf.predict_proba(X_TEST, return_exits=True)
        assert 0 < exits.mean() < 2
        table = clf.exit_table(X_TEST)
        assert same(table.probabilities[np.arange(len(exits)), exits], whole)
        for rows in (slice(1), slice(3, 30), slice(300)):
            assert same(clf.predict_proba(X_TEST[rows]), whole[rows])
        twin = pickle.loads(pickle.dumps(clf))
        assert same(twin.predict_proba(X_TEST), whole)
        np.testing.assert_allclose(
            clf.predict_proba(X_TEST, threshold=np.inf), ensemble.predict_proba(X_TEST), atol=1e-6
        )


def test_no_member_is_called_twice_or_for_samples_that_have_exited(forest, monkeypatch):
    clf = cascade(forest)
    asked = []
    own = DecisionTreeClassifier.predict_proba

    def counted(self, X, check_input=True):
        asked.append((self.random_state, len(X)))
        return own(self, X, check_input)

    monkeypatch.setattr(DecisionTreeClassifier, "predict_proba", counted)
    _, exits = clf.predict(X_TEST, threshold=[0.7, 0.6], return_exits=True)
    reach = [len(exits), np.sum(exits > 0), np.sum(exits > 1)]
    assert 0 < reach[2] < reach[1] < reach[0]
    sizes = np.repeat(reach, [3, 7, 20])
    trees = [tree.random_state for tree in forest.estimators_]
    assert asked == list(zip(trees, sizes, strict=True))
    asked.clear()
    clf.predict(X_TEST, threshold=0.0)
    assert len(asked) == 3


def test_a_part_by_itself_asks_each_member_once(monkeypatch):
    bagging = BaggingClassifier(Collective(), 5, random_state=0).fit(X[:300], y[:300] > 1)
    part = CascadeClassifier.from_ensemble(bagging, [3]).estimators[0][1]
    asked = []
    own = Collective.predict_proba
    monkeypatch.setattr(
        Collective, "predict_proba", lambda self, X: asked.append(len(X)) or own(self, X)
    )
    assert part.predict_proba(X_TEST[:7]).shape == (7, 2)
    assert asked == [7] * 3


def test_all_samples_choose_thresholds_and_the_ensemble_is_not_changed(forest):
    before = pickle.dumps(forest)
    clf = cascade(forest)
    assert pickle.dumps(forest) == before
    assert clf.operating_point_.n_samples == 200
    assert clf.operating_point_.cost <= 0.5
    twin = clone(clf).fit(X[300:], NAMES[y[300:]])
    assert same(twin.predict_proba(X_TEST), clf.predict_proba(X_TEST))
    assert same(pickle.loads(pickle.dumps(clf)).predict_proba(X_TEST), clf.predict_proba(X_TEST))


def test_the_ensemble_runs_in_one_job():
    forest = clone(ENSEMBLES["forest"]).set_params(n_jobs=2).fit(X[:300], NAMES[y[:300]])
    clf = cascade(forest)
    assert all(part.ensemble.n_jobs == 1 for part in clf.estimators_)
    assert forest.n_jobs == 2
    # So that this is equal to the last bit, which two jobs are not.
    found = [each.predict_proba(X_TEST) for each in clf.estimators_]
    assert same(np.array(found), np.array(list(clf.staged_predict_proba(X_TEST))))


def test_costs(forest):
    assert cascade(forest).costs_.tolist() == [0.1, 10 / 30, 1.0]
    clf = cascade(forest, cost="macs")
    assert clf.cost_table_.plain == pytest.approx(estimator_macs(forest))
    assert clf.costs_[-1] == pytest.approx(1.0, abs=1e-3)
    clf = cascade(forest, cost="seconds")
    assert np.all(np.diff(clf.costs_, prepend=0) > 0)
    assert cascade(forest, cost="bytes").costs_[-1] == 1.0


def test_a_dropped_size_is_continued_from_the_one_before(forest):
    clf = cascade(forest).set_params(**{"10": "drop"}, cost=[3, 27])
    clf.fit(X[300:], NAMES[y[300:]])
    assert clf.exit_names_ == ["3", "30"]
    found = clf.predict_proba(X_TEST, threshold=np.inf)
    assert same(found, forest.predict_proba(X_TEST))


def test_after_another_estimator(forest):
    parts = CascadeClassifier.from_ensemble(forest, [10]).estimators
    linear = LogisticRegression(max_iter=999).fit(X[:300], NAMES[y[:300]])
    estimators = [("linear", FrozenEstimator(linear)), *parts]
    clf = CascadeClassifier(estimators, cost=[3, 10, 20], threshold=0.7, random_state=0)
    clf.fit(X[300:], NAMES[y[300:]])
    assert clf.costs_.tolist() == [3 / 30, 13 / 30, 33 / 30]
    first, second, last = clf.staged_predict(X_TEST)
    assert same(first, linear.predict(X_TEST))
    assert same(last, forest.predict(X_TEST))
    assert not same(second, last)
    labels, exits = clf.predict(X_TEST, return_exits=True)
    assert same(labels, np.choose(exits, [first, second, last]))


def test_before_another_estimator(forest):
    parts = CascadeClassifier.from_ensemble(forest, [3, 10]).estimators[:2]
    estimators = [*parts, ("boosting", HistGradientBoostingClassifier(max_iter=5))]
    clf = CascadeClassifier(estimators, cost=[3, 7, 20], threshold=0.7, random_state=0)
    clf.fit(X[300:], NAMES[y[300:]])
    assert clf.costs_.tolist() == [3 / 20, 10 / 20, 30 / 20]
    assert clf.cost_table_.plain == 20


def test_in_another_order(forest):
    (_, few), (_, many), _ = CascadeClassifier.from_ensemble(forest, [3, 10]).estimators
    clf = CascadeClassifier([("many", many), ("few", few)], cost=[1, 2], random_state=0)
    first, last = clf.fit(X[300:], NAMES[y[300:]]).staged_predict_proba(X_TEST)
    assert same(first, many.predict_proba(X_TEST))
    assert same(last, few.predict_proba(X_TEST))


def test_two_ensembles_are_not_mixed(forest):
    other = clone(forest).set_params(random_state=1).fit(X[:300], NAMES[y[:300]])
    one, two = (
        CascadeClassifier.from_ensemble(each, [9]).estimators[0] for each in (forest, other)
    )
    clf = CascadeClassifier(
        [("one", one[1]), ("two", two[1])], cost=[1, 2], threshold=0.7, random_state=0
    )
    clf.fit(X[300:], NAMES[y[300:]])
    *_, last = clf.staged_predict_proba(X_TEST)
    by_tree = [tree.predict_proba(X_TEST) for tree in other.estimators_[:9]]
    np.testing.assert_allclose(last, np.mean(by_tree, axis=0), rtol=1e-12)
    assert clf.costs_.tolist() == [0.5, 1.5]


def test_data_frames():
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])
    forest = clone(ENSEMBLES["forest"]).fit(frame[:300], y[:300])
    clf = CascadeClassifier.from_ensemble(forest, [5], cost=[5, 25], random_state=0)
    clf.fit(frame[300:], y[300:])
    assert same(clf.predict_proba(frame, threshold=np.inf), forest.predict_proba(frame))


@pytest.mark.parametrize("name", ["forest", "bagging"])
def test_features_are_those_of_the_ensemble(name):
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])
    ensemble = clone(ENSEMBLES[name]).fit(frame[:300], y[:300])
    clf = CascadeClassifier.from_ensemble(ensemble, [5], cost=[5, 25], random_state=0)
    with pytest.raises(ValueError, match="must be in the same order"):
        clf.fit(frame.iloc[300:, ::-1], y[300:])
    with pytest.raises(ValueError, match="unseen at fit time"):
        clf.fit(frame.iloc[300:].assign(more=1.0), y[300:])


@pytest.mark.parametrize("n_members", [8, 40])
def test_an_ensemble_with_other_members_is_refused(n_members):
    forest = clone(ENSEMBLES["forest"]).fit(X[:300], y[:300])
    clf = CascadeClassifier.from_ensemble(forest, [5], cost=[5, 25], random_state=0)
    forest.set_params(n_estimators=n_members).fit(X[:300], y[:300])
    with pytest.raises(ValueError, match=rf"has {n_members} members, and had 30.*from_ensemble"):
        clf.fit(X[300:], y[300:])


@pytest.mark.parametrize(
    "sizes", [[0, 5], [5, 3], [5, 5], [31], [2.5], [], [True, 5], 5, None, [[5]]]
)
def test_bad_sizes(forest, sizes):
    with pytest.raises(ValueError, match=r"from 1 to 30, in ascending order\. Got .* instead"):
        CascadeClassifier.from_ensemble(forest, sizes)


def test_sizes_in_an_array(forest):
    clf = CascadeClassifier.from_ensemble(forest, np.array([3, 10]))
    assert [name for name, _ in clf.estimators] == ["3", "10", "30"]


def test_members_are_not_passed_probabilities(forest):
    with pytest.raises(ValueError, match=r"pass_probabilities=True.*fitted"):
        CascadeClassifier.from_ensemble(forest, [5], pass_probabilities=True)


def test_bad_ensembles():
    with pytest.raises(TypeError, match="Got AdaBoostClassifier"):
        CascadeClassifier.from_ensemble(AdaBoostClassifier(), [5])
    with pytest.raises(NotFittedError):
        CascadeClassifier.from_ensemble(RandomForestClassifier(), [5])
    several = RandomForestClassifier(3, random_state=0).fit(X, np.column_stack([y, y]))
    with pytest.raises(ValueError, match="Got 2 outputs"):
        CascadeClassifier.from_ensemble(several, [2])

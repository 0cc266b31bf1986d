"""Predictions with a router: which exits are skipped, and what it saves."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import CNNBackbone, ExitRouter, ExitTable
from skearlyexit.runtime import _torch
from skearlyexit.runtime._driver import run
from tests._data import blobs, digits, quick, same
from tests.routing._routed import dividing, naive, three

X, y, X_TEST, Y_TEST = blobs()
ASKED = [{}, {"budget": 0.7}, {"threshold": 0.8}, {"threshold": [0.7, 2]}, {"threshold": [2, 0.8]}]


class Noting(ClassifierMixin, BaseEstimator):
    """Tree that notes the samples that it is asked for."""

    seen: list = []
    poison = None

    def __init__(self, max_depth=5):
        self.max_depth = max_depth

    def fit(self, X, y):
        self.tree_ = DecisionTreeClassifier(max_depth=self.max_depth, random_state=0).fit(X, y)
        self.classes_ = self.tree_.classes_
        return self

    def predict_proba(self, X):
        self.seen.append(X[:, 0])
        found = self.tree_.predict_proba(X)
        found[X[:, 0] == self.poison] = np.nan
        return found

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class TestPredictions:
    @pytest.mark.parametrize("asked", ASKED)
    @pytest.mark.parametrize("kind", ["chain", "network"])
    def test_are_those_of_the_table(self, kind, asked, request):
        clf = request.getfixturevalue(kind)
        labels, exits = clf.predict(X_TEST, return_exits=True, **asked)
        thresholds = clf._point(asked.get("threshold"), asked.get("budget")).thresholds
        table = clf.exit_table(X_TEST)
        found, paid = table.outcomes(thresholds, clf.costs_)
        by_hand, paid_by_hand = naive(clf, X_TEST, thresholds)
        assert exits.tolist() == found.tolist() == table.exits(thresholds).tolist()
        assert exits.tolist() == by_hand.tolist()
        assert paid == pytest.approx(paid_by_hand)
        assert labels.tolist() == clf.classes_[table.labels[np.arange(len(exits)), exits]].tolist()

    @pytest.mark.parametrize("kind", ["chain", "network"])
    def test_a_sample_alone_skips_the_same_exits(self, kind, request):
        clf = request.getfixturevalue(kind)
        thresholds = dividing(clf)
        labels, exits = clf.predict(X_TEST[:30], threshold=thresholds, return_exits=True)
        for i in range(30):
            alone = clf.predict(X_TEST[i : i + 1], threshold=thresholds, return_exits=True)
            assert (alone[0], alone[1]) == (labels[i], exits[i])

    @pytest.mark.parametrize("kind", ["chain", "network"])
    def test_some_samples_skip_and_others_do_not(self, kind, request):
        clf = request.getfixturevalue(kind)
        thresholds = dividing(clf)
        skipped = clf.exit_table(X_TEST).skipped(thresholds)
        assert 0.1 < skipped[:, 1].mean() < 0.6
        assert not skipped[:, [0, 2]].any()
        _, exits = clf.predict(X_TEST, threshold=thresholds, return_exits=True)
        assert set(exits[skipped[:, 1]]) == {2}
        assert np.bincount(exits).min() > 30

    @pytest.mark.parametrize("kind", ["chain", "network"])
    def test_are_a_samples_own(self, kind, request):
        clf = request.getfixturevalue(kind)
        asked = {"threshold": dividing(clf)}
        p, exits = clf.predict_proba(X_TEST, return_exits=True, **asked)
        for rows in (np.arange(400)[::-1], np.arange(7), np.array([250])):
            found, there = clf.predict_proba(X_TEST[rows], return_exits=True, **asked)
            assert same(found, p[rows])
            assert there.tolist() == exits[rows].tolist()

    def test_of_small_slabs(self, network):
        thresholds = dividing(network)
        whole = run(network.cascade_, X_TEST, thresholds, with_probabilities=True)
        parts = run(network.cascade_, X_TEST, thresholds, with_probabilities=True, slab_rows=32)
        assert whole.exits.tolist() == parts.exits.tolist()
        assert same(whole.probabilities, parts.probabilities)

    def test_of_many_batches(self, network, monkeypatch):
        thresholds = dividing(network)
        table = network.exit_table(X_TEST)
        monkeypatch.setattr(_torch, "BATCH_BYTES", 1)  # batches of 64 samples
        p, exits = network.predict_proba(X_TEST, threshold=thresholds, return_exits=True)
        assert exits.tolist() == table.exits(thresholds).tolist()
        assert same(p, table.probabilities[np.arange(len(exits)), exits])

    def test_of_images(self, monkeypatch):
        X, y, X_test, _ = digits()
        X, X_test = (np.kron(each.reshape(-1, 8, 8), np.ones((3, 3))) for each in (X, X_test[:60]))
        backbone = CNNBackbone((32, 48))
        exits = ["stem", "group1.block1", "group2.block1"]
        params = {"exits": exits, "router": ExitRouter(), "max_epochs": 1, "calibration": 0.5}
        clf = quick(backbone=backbone, **params).fit(X[:120], y[:120])
        table, thresholds = clf.exit_table(X_test), [2.0, 0.0, 0.0]
        middle = np.median(table.scores[:, 0])
        least = np.array([-np.inf, middle, -np.inf, -np.inf])
        monkeypatch.setattr(ExitRouter, "least_scores", lambda self, thresholds: least)
        p, exits = clf.predict_proba(X_test, threshold=thresholds, return_exits=True)
        assert np.bincount(exits).tolist() == [0, 30, 30]
        assert same(p, table.probabilities[np.arange(60), exits])

    def test_skipped_estimators_do_not_run(self):
        clf = three()
        clf.estimators[1] = ("noting", Noting())
        thresholds = dividing(clf.fit(X, y))
        table = clf.exit_table(X_TEST)
        skipped, exits = table.skipped(thresholds)[:, 1], table.exits(thresholds)
        Noting.seen.clear()
        clf.predict(X_TEST, threshold=thresholds)
        assert 30 < skipped.sum() < 300
        assert set(np.concatenate(Noting.seen)) == set(X_TEST[~skipped & (exits > 0), 0])

    def test_skipped_heads_do_not_run(self, network, monkeypatch):
        thresholds = dividing(network)
        table, rows = network.exit_table(X_TEST), []
        n_asked = (~table.skipped(thresholds)[:, 1] & (table.exits(thresholds) > 0)).sum()
        head = network.cascade_.network.heads[1]
        kind, pool = type(head), type(head).pool

        def noting(self, embedding):
            rows.extend(embedding.tolist() if self is head else [])
            return pool(self, embedding)

        monkeypatch.setattr(kind, "pool", noting)
        network.predict(X_TEST, threshold=thresholds)
        assert 100 < n_asked < 300
        assert len(set(map(tuple, rows))) == n_asked  # without the copies that pad a batch

    def test_a_predictor_skips_too(self, network):
        thresholds = dividing(network)
        predictor = network.to_predictor(threshold=thresholds)
        found = predictor.predict(X_TEST, return_exits=True)
        expected = network.predict(X_TEST, threshold=thresholds, return_exits=True)
        assert [each.tolist() for each in found] == [each.tolist() for each in expected]

    def test_outputs_that_are_not_finite_are_those_of_samples_that_are_asked(self):
        clf = three()
        clf.estimators[1] = ("noting", Noting())
        thresholds = dividing(clf.fit(X, y))
        rows = X_TEST.copy()
        skipped = clf.exit_table(rows).skipped(thresholds)[:, 1]
        exits = clf.exit_table(rows).exits(thresholds)
        asked, not_asked = np.flatnonzero(~skipped & (exits > 0))[3], np.flatnonzero(skipped)[3]
        Noting.poison = rows[not_asked, 0]
        clf.predict(rows, threshold=thresholds)
        Noting.poison = rows[asked, 0]
        with pytest.raises(ValueError, match=rf"for 1 sample, X\[{asked}\]"):
            clf.predict(rows, threshold=thresholds)
        Noting.poison = None

    def test_same_seed_same_model(self, chain):
        again = three().fit(X, y)
        assert again.thresholds_.tolist() == chain.thresholds_.tolist()
        router, twin = (each.cascade_.exit_rule.router for each in (chain, again))
        assert same(router.scores_, twin.scores_)

    def test_the_object_given_is_untouched(self):
        router = ExitRouter()
        clf = three(router=router, calibration=0.3).fit(X, y)
        assert vars(router) == {"max_samples": 1000}
        assert clone(clf).get_params()["router__max_samples"] == 1000

    def test_of_two_exits_none_is_skipped(self):
        pair = three().estimators[::2]
        clf = three().set_params(estimators=pair, cost=[1, 16]).fit(X, y)
        assert clf.cascade_.exit_rule.router is None
        assert clf.exit_table(X_TEST).routing is None


class TestTables:
    def test_of_one_model_in_a_row(self, chain):
        whole = chain.exit_table(X_TEST)
        parts = ExitTable.concatenate(
            [chain.exit_table(X_TEST[:150]), chain.exit_table(X_TEST[150:])]
        )
        thresholds = dividing(chain)
        assert len(parts.routing.routers) == 1
        for found, expected in zip(
            parts.outcomes(thresholds, chain.costs_),
            whole.outcomes(thresholds, chain.costs_),
            strict=True,
        ):
            assert found.tolist() == expected.tolist()

    def test_with_one_that_has_no_router(self, chain):
        whole = chain.exit_table(X_TEST)
        other = replace(whole, routing=None)
        assert ExitTable.concatenate([whole, other]).routing is None

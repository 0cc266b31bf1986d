"""Routers: which exits they skip, what it saves, and what is calibrated with them."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import (
    AccuracyDrop,
    Budget,
    CascadeClassifier,
    CNNBackbone,
    ConformalRiskControl,
    ExitRouter,
    ExitTable,
    LinearHead,
    MLPHead,
    RiskControl,
)
from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._data._samples import Samples
from skearlyexit._exit_table import Outputs, Routing
from skearlyexit._fitting._cross_fit import cross_fit
from skearlyexit.calibration import compute_frontier
from skearlyexit.calibration._risks import exit_losses
from skearlyexit.calibration._routed_losses import RoutedLosses
from skearlyexit.combination import OwnCombination
from skearlyexit.costs._compose import RoutedCosts
from skearlyexit.inspection import CostAccuracyDisplay
from skearlyexit.metrics import AccuracyMinusCost, MeanCost
from skearlyexit.policies import ConfidencePolicy
from skearlyexit.runtime import _torch
from skearlyexit.runtime._driver import run
from tests._calibration_data import labeled, simulated
from tests._data import blobs, digits, quick, same

X, y, X_TEST, Y_TEST = blobs()
COSTS = [1, 6, 16]
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


def three(**params):
    """A cheap estimator, one at half of the cost of the last, and the last."""
    estimators = [
        ("bayes", GaussianNB()),
        ("tree", RandomForestClassifier(5, max_depth=4, random_state=0)),
        ("forest", RandomForestClassifier(20, random_state=1)),
    ]
    defaults = {"cost": COSTS, "router": ExitRouter(), "calibration": 2, "random_state": 0}
    return CascadeClassifier(estimators, **{**defaults, **params})


def two(**params):
    clf = three(cost=COSTS[1:], **params)
    return clf.set_params(estimators=clf.estimators[1:])


@pytest.fixture(scope="module")
def chain():
    return three().fit(X, y)


@pytest.fixture(scope="module")
def network():
    return quick(
        exits=["stem", "block1"],
        head=[LinearHead(), MLPHead([48]), LinearHead()],
        router=ExitRouter(),
        calibration=2,
    ).fit(X, y)


def dividing(clf):
    """Thresholds under which some samples skip the second exit, and others exit there."""
    scores = clf.exit_table(X_TEST).scores
    return np.array([np.quantile(scores[:, 0], 0.9), np.quantile(scores[:, 1], 0.5)])


def naive(clf, rows, thresholds):
    """Exit and cost of each sample, step by step."""
    table, router = clf.exit_table(rows), clf.cascade_.exit_rule.router
    costs = clf.cost_table_
    own = (costs.head_costs + costs.decision_costs) / costs.plain
    stages = costs.stage_costs / costs.plain
    least = router.least_scores(np.asarray(thresholds))
    exits, paid = [], []
    for scores in table.scores:
        total = 0.0
        for exit_, score in enumerate(scores):
            total += stages[exit_]
            if scores[0] < least[exit_]:
                continue
            total += own[exit_]
            if exit_ == len(thresholds) or score >= thresholds[exit_]:
                break
        exits.append(exit_)
        paid.append(total)
    return np.array(exits), np.array(paid)


class TestLeastScores:
    @settings(deadline=None, max_examples=30)
    @given(st.integers(0, 10**6), st.sampled_from([None, 1]), st.floats(0.2, 1.1))
    def test_of_three_exits_are_the_best_of_all(self, seed, decimals, last):
        data = simulated(seed, 30, 3, weighted=True, decimals=decimals)
        savings = np.array([0.1, 0.9, 0.9]) * np.diff(data.costs, prepend=0.0)
        router = ExitRouter().fit(
            data.scores, costs=data.costs, savings=savings, sample_weight=data.weight
        )
        thresholds = np.array([last, 0.6])

        def mean_cost(least):
            skips = data.scores[:, 0] < least
            exits = np.where(
                data.scores[:, 0] >= last, 0, np.where(~skips & (data.scores[:, 1] >= 0.6), 1, 2)
            )
            paid = data.costs[exits] - savings[1] * (skips & (exits == 2))
            return np.average(paid, weights=data.weight)

        found = router.least_scores(thresholds)
        assert found[0] == found[2] == -np.inf
        best = min(mean_cost(least) for least in [-np.inf, *data.scores[:, 0], np.inf])
        assert mean_cost(found[1]) == pytest.approx(best)

    @pytest.mark.parametrize("seed", range(5))
    def test_of_many_exits_never_cost_more_than_to_ask_all(self, seed):
        data = simulated(seed, 300, 6)
        savings = 0.7 * np.diff(data.costs, prepend=0.0)
        router = ExitRouter().fit(data.scores, costs=data.costs, savings=savings)
        routed = replace(data, routing=Routing.of(router, 300, savings))
        cheaper = 0
        for level in (0.3, 0.6, 0.8, 0.95, np.inf):
            thresholds = np.full(5, level)
            paid, before = routed.evaluate(thresholds)[0], data.evaluate(thresholds)[0]
            assert paid <= before + 1e-12
            cheaper += paid < 0.99 * before
        assert cheaper > 1

    def test_depend_on_the_kept_samples_only(self):
        data = simulated(0, 500, 3)
        few = ExitRouter(max_samples=50).fit(
            data.scores, costs=data.costs, savings=np.full(3, 0.1), seed=3
        )
        assert few.scores_.shape == (50, 3)
        assert (np.diff(few.scores_[:, 0]) >= 0).all()
        assert {tuple(row) for row in few.scores_} <= {tuple(row) for row in data.scores}


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


class TestCalibration:
    @pytest.mark.parametrize(
        "point",
        [
            Budget(0.6),
            Budget(0.6, method="geometric"),
            Budget(0.6, metric="f1_macro"),
            Budget(0.9),
            AccuracyDrop(0.01),
            RiskControl(0.1),
            RiskControl(0.1, family="common", method="ucb"),
            ConformalRiskControl(0.05),
        ],
    )
    def test_costs_are_those_of_what_runs(self, chain, point):
        clf = copy.deepcopy(chain).calibrate(X_TEST, Y_TEST, point)
        _, paid = naive(clf, X_TEST, clf.thresholds_)
        assert clf.operating_point_.cost == pytest.approx(paid.mean())
        if isinstance(point, Budget):
            assert paid.mean() <= point.value * (1 + 1e-12)
        for i in range(0, len(clf.frontier_), 20):
            _, paid = naive(clf, X_TEST, clf.frontier_.thresholds[i])
            assert clf.frontier_.costs[i] == pytest.approx(paid.mean())

    def test_a_frontier_is_cheaper_than_without_a_router(self):
        # What the second estimator adds is known from the first score for many samples.
        data = simulated(0, 1500, 3)
        savings = np.array([0.1, 0.45, 0.5])
        data = replace(data, costs=np.cumsum(savings))
        router = ExitRouter().fit(data.scores, costs=data.costs, savings=savings)
        routed = replace(data, routing=Routing.of(router, 1500, savings))
        with_router, without = compute_frontier(routed), compute_frontier(data)
        assert (np.diff(with_router.costs) > 0).all()
        budgets = np.linspace(0.2, 1.05, 30)
        best, before = (
            np.array([each.accuracies[each.at_budget(budget)] for budget in budgets])
            for each in (with_router, without)
        )
        assert (best >= before - 0.002).all()
        assert (best - before).max() > 0.005

    @settings(deadline=None, max_examples=6)
    @given(st.integers(0, 10**6))
    def test_losses_of_a_family_are_those_of_each_threshold(self, seed):
        data = simulated(seed, 60, 4, weighted=True)
        savings = 0.8 * np.diff(data.costs, prepend=0.0)
        half = np.arange(60) % 2
        routers = tuple(
            ExitRouter().fit(data.scores[half != i], costs=data.costs, savings=savings)
            for i in range(2)
        )
        data = replace(data, routing=Routing(routers, half, savings))
        losses = exit_losses(data, "performance_gap")
        family = np.linspace(1, 0, 12)
        found, worst = RoutedLosses(data, losses, family), np.full(60, -np.inf)
        for i, level in enumerate(family):
            thresholds, expected = np.full(3, level), np.empty(60)
            for row, scores in enumerate(data.scores):
                least = routers[half[row]].least_scores(thresholds)
                at = [e for e in range(3) if scores[0] >= least[e] and scores[e] >= level]
                expected[row] = losses[row, at[0] if at else 3]
            worst = np.maximum(worst, expected)
            assert found.at(i).tolist() == expected.tolist()
            assert found.monotone().at(i).tolist() == worst.tolist()
            assert found.means(data.weight)[i] == pytest.approx(
                np.average(expected, weights=data.weight)
            )

    @pytest.mark.parametrize("folds", [[120], [50, 70]])
    def test_no_sample_is_judged_by_a_router_that_has_seen_it(self, folds):
        p, labels = labeled(0, n_rows=120).probabilities, labeled(0, n_rows=120).y
        rule = ExitRule(None, OwnCombination(), ConfidencePolicy(), router=ExitRouter())
        costs = RoutedCosts(np.array([0.1, 0.5, 1.2]), np.array([0.1, 0.4, 0.7]))
        final, judged = cross_fit(
            rule, Samples(Outputs(p), labels), folds, lambda: costs, np.random.RandomState(0)
        )
        routing = judged.X.routing
        assert len(set(routing.which)) == (5 if len(folds) == 1 else 2)
        for scores, which in zip(judged.X.scores, routing.which, strict=True):
            learned = routing.routers[which].scores_
            assert not (learned == scores).all(axis=1).any()
            assert (final.router.scores_ == scores).all(axis=1).any()

    def test_a_guarantee_holds_with_a_router(self):
        data = simulated(3, 20_000, 3)
        savings = np.array([0.1, 0.45, 0.5])
        router = ExitRouter().fit(data.scores[:500], costs=np.cumsum(savings), savings=savings)
        data = replace(data, routing=Routing.of(router, 20_000, savings))
        rng, n_broken = np.random.default_rng(0), 0
        for _ in range(40):
            drawn = data.take(rng.integers(500, 20_000, size=800))
            thresholds = RiskControl(0.04, family=np.linspace(1, 0, 41)).thresholds(drawn, None)
            exits = data.exits(thresholds)
            lost = data.correct[:, -1] & ~data.correct[np.arange(20_000), exits]
            n_broken += lost[500:].mean() > 0.04
        assert n_broken <= 9  # of 40, of which 4 are allowed on average


class TestReports:
    @pytest.mark.parametrize("kind", ["chain", "network"])
    def test_count_what_runs(self, kind, request):
        clf = request.getfixturevalue(kind)
        thresholds = dividing(clf)
        report = clf.exit_report(X_TEST, Y_TEST, threshold=thresholds)
        exits, paid = naive(clf, X_TEST, thresholds)
        assert report.overall.mean_cost == pytest.approx(paid.mean())
        low, high = report.overall.mean_cost_interval
        assert low < paid.mean() < high
        by_class = [paid[k == Y_TEST].mean() for k in clf.classes_]
        assert report.classes.mean_cost == pytest.approx(by_class)
        skipped = clf.exit_table(X_TEST).skipped(thresholds)
        assert report.exits.skip_rate == pytest.approx(skipped.mean(axis=0))
        assert report.exits.exit_rate == pytest.approx(np.bincount(exits, minlength=3) / 400)
        assert report.exits.skip_rate_interval[[0, 2]].tolist() == [[0, 0], [0, 0]]
        assert "skip" in str(report)
        assert "skip_rate_low" in report.to_frame()

    def test_have_no_rate_of_skipping_without_a_router(self):
        report = three(router=None).fit(X, y).exit_report(X_TEST, Y_TEST)
        assert report.exits.skip_rate is None
        assert "skip" not in str(report)

    def test_scorers(self, chain):
        clf = copy.deepcopy(chain)
        clf.thresholds_ = dividing(clf)
        _, paid = naive(clf, X_TEST, clf.thresholds_)
        assert MeanCost()(clf, X_TEST) == pytest.approx(-paid.mean())
        value = AccuracyMinusCost(0.5)(clf, X_TEST, Y_TEST)
        assert value == pytest.approx(clf.score(X_TEST, Y_TEST) - 0.5 * paid.mean())

    def test_displays(self, chain):
        thresholds = dividing(chain)
        exits, paid = naive(chain, X_TEST, thresholds)
        in_unit = {"plain_cost": 2 * chain.cost_table_.plain}
        for unit, more in ((1.0, {}), (0.5, in_unit)):
            display = CostAccuracyDisplay.from_estimator(
                chain, X_TEST, Y_TEST, threshold=thresholds, **more
            )
            assert display.point[0] == pytest.approx(unit * paid.mean())
            # Random exits do not follow from scores, by which exits are skipped.
            assert display.random[0] == pytest.approx(unit * chain.costs_[exits].mean())
            last = naive(chain, X_TEST, chain.frontier_.thresholds[-1])[1].mean()
            assert np.abs(display.frontier_costs - unit * last).min() < 1e-9


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: three(policy="patience"), "PatiencePolicy depends on the outputs of all exits"),
        (lambda: three(combine="mean"), "MeanCombination depends on the outputs of all exits"),
        (lambda: three(pass_probabilities=True), "pass_probabilities=True, an estimator needs"),
        (lambda: three(feature_costs=[1.0] * 13), "paid for at the first estimator that needs it"),
        (lambda: three(budget=Budget(0.5, strict=True)), "does not support ExitRouter"),
        (lambda: three(calibration=None), "ExitRouter cannot be used without calibration samples"),
        (lambda: quick(router=ExitRouter(), policy="patience"), "PatiencePolicy depends"),
        (lambda: quick(router=ExitRouter(), training="combined"), "CombinedTraining learns"),
        (lambda: quick(router=ExitRouter(), runtime="onnx"), "cannot be converted to ONNX"),
        (lambda: three(router=ExitRouter(max_samples=0)), "'max_samples' parameter of ExitRouter"),
        (lambda: two(router=ExitRouter(), policy="patience"), "PatiencePolicy depends on"),
        (lambda: two(router=ExitRouter(max_samples=0)), "'max_samples' parameter of ExitRouter"),
    ],
)
def test_what_cannot_be_combined_is_refused_before_training(make, message, untrained):
    with pytest.raises(ValueError, match=message):
        make().fit(X, y)


class TestRefusedLater:
    def test_estimators_that_cannot_be_compared(self):
        with pytest.raises(ValueError, match=r"operations of \['bayes'\] cannot be counted"):
            three(cost="seconds").fit(X, y)

    def test_parts_of_an_ensemble(self):
        forest = RandomForestClassifier(10, random_state=0).fit(X, y)
        clf = CascadeClassifier.from_ensemble(forest, [2, 5], router=ExitRouter())
        with pytest.raises(ValueError, match="'2' is a part of an ensemble"):
            clf.fit(X_TEST, Y_TEST)

    @pytest.mark.parametrize(
        "ask",
        [
            lambda clf: clf.predict(X_TEST, budget=Budget(0.9, strict=True)),
            lambda clf: clf.calibrate(X_TEST, Y_TEST, Budget(0.9, strict=True)),
        ],
    )
    def test_strict_budgets(self, chain, ask):
        with pytest.raises(ValueError, match=r"does not support ExitRouter: samples that skip"):
            ask(copy.deepcopy(chain))

    def test_partial_calibration(self, chain):
        with pytest.raises(ValueError, match=r"with a router the mean cost also depends"):
            chain.partial_calibrate(X_TEST)

    @pytest.mark.parametrize("kind", ["chain", "network"])
    def test_exports(self, kind, request, tmp_path):
        clf = request.getfixturevalue(kind)
        with pytest.raises(ValueError, match="ExitRouter cannot be converted to ONNX"):
            clf.to_onnx(tmp_path / "model.onnx")

    def test_incremental_training(self):
        with pytest.raises(AttributeError, match="held-out samples are required by router"):
            quick(router=ExitRouter(), calibration=None).partial_fit(X, y, classes=np.unique(y))

"""What is calibrated with a router, and what reports and displays then count."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skearlyexit import AccuracyDrop, Budget, ConformalRiskControl, ExitRouter, RiskControl
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
from tests._calibration_data import labeled, simulated
from tests._data import blobs
from tests.routing._routed import dividing, naive, three

X, y, X_TEST, Y_TEST = blobs()


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

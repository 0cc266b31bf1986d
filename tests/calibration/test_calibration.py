from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from skearlyexit._exit_table import ExitTable
from skearlyexit.calibration import (
    AccuracyDrop,
    Budget,
    CalibrationData,
    Frontier,
    NotCertifiedError,
    RiskControl,
    Threshold,
    compute_frontier,
)
from skearlyexit.calibration._geometric import geometric_thresholds
from skearlyexit.calibration._p_values import binomial_p_value
from skearlyexit.calibration._risk_control import FAMILY
from skearlyexit.calibration._risks import FamilyLosses, exit_losses
from skearlyexit.calibration._search import (
    GRID_SIZES,
    quantile_grid,
    search_all,
    search_coordinates,
)


def simulated(seed, n_rows, n_exits, *, weighted=False, decimals=None):
    """Rows of some difficulty, heads that grow better, and scores that know how good they are."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(size=(n_rows, 1))
    skill = np.linspace(0.3, 2.0, n_exits)
    sure = 1 / (1 + np.exp(-2.0 * (skill - difficulty + 0.4 * rng.normal(size=(n_rows, n_exits)))))
    correct = rng.random((n_rows, n_exits)) < sure
    scores = np.clip(sure + 0.05 * rng.normal(size=sure.shape), 0.0, 1.0)
    if decimals is not None:
        scores = scores.round(decimals)
    costs = np.cumsum(rng.uniform(0.5, 1.5, size=n_exits))
    weight = rng.uniform(0.1, 3.0, size=n_rows) if weighted else np.ones(n_rows)
    return CalibrationData(scores, correct, costs * 1.05 / costs[-1], weight)


def without_ties(data):
    scores = np.random.default_rng(0).random(data.scores.shape)
    return replace(data, scores=scores)


@st.composite
def evidences(draw, max_exits=5):
    """Small ones with many ties, certainties and unequal weights."""
    n_rows, n_exits = draw(st.integers(1, 40)), draw(st.integers(2, max_exits))
    return simulated(
        draw(st.integers(0, 10**6)),
        n_rows,
        n_exits,
        weighted=draw(st.booleans()),
        decimals=draw(st.sampled_from([None, 1, 2])),
    )


def naive_exit(scores, thresholds):
    for exit_, threshold in enumerate(thresholds):
        if scores[exit_] >= threshold:
            return exit_
    return len(thresholds)


def naive_evaluate(data, thresholds):
    cost = right = 0.0
    for row, weight in enumerate(data.weight):
        exit_ = naive_exit(data.scores[row], thresholds)
        cost += weight * data.costs[exit_]
        right += weight * data.correct[row, exit_]
    return cost / data.weight.sum(), right / data.weight.sum()


def brute_force(data, thresholds):
    """Costs and accuracies of many thresholds, from the last exit back."""
    costs, accuracies = [], []
    weight = data.weight / data.weight.sum()
    for part in np.array_split(thresholds, max(1, len(thresholds) * len(weight) // 10**6)):
        cost = np.full((len(part), len(weight)), data.costs[-1])
        right = np.repeat(data.correct[None, :, -1], len(part), axis=0)
        for exit_ in reversed(range(part.shape[1])):
            leaves = data.scores[:, exit_] >= part[:, exit_, None]
            cost = np.where(leaves, data.costs[exit_], cost)
            right = np.where(leaves, data.correct[:, exit_], right)
        costs.append(cost @ weight)
        accuracies.append(right @ weight)
    return np.concatenate(costs), np.concatenate(accuracies)


def best_for(budgets, costs, accuracies):
    """Highest accuracy among the points of at most each cost."""
    order = np.argsort(costs, kind="stable")
    best = np.maximum.accumulate(np.asarray(accuracies)[order])
    return best[np.searchsorted(np.asarray(costs)[order], budgets, side="right") - 1]


def assert_same_frontier(found, costs, accuracies):
    """As accurate as the best of the points, at each budget that any of them costs."""
    budgets = np.unique(costs) + 1e-9
    np.testing.assert_allclose(
        best_for(budgets, *found), best_for(budgets, costs, accuracies), atol=1e-9, rtol=0
    )


def coarse_grids(data, size):
    return [quantile_grid(data.scores[:, i], size) for i in range(data.n_exits - 1)]


thresholds_of = st.lists(
    st.one_of(st.sampled_from([0.0, 0.5, 0.9, 1.0, np.inf]), st.floats(0, 1)),
    min_size=4,
    max_size=4,
)


class TestEvidence:
    @settings(deadline=None)
    @given(evidences(), thresholds_of)
    def test_leave_and_evaluate(self, data, thresholds):
        thresholds = np.array(thresholds[: data.n_exits - 1])
        exits = [naive_exit(row, thresholds) for row in data.scores]
        assert data.exits(thresholds).tolist() == exits
        assert data.evaluate(thresholds) == pytest.approx(naive_evaluate(data, thresholds))

    def test_a_score_at_its_threshold_leaves(self):
        data = CalibrationData(
            np.array([[0.5, 0.0, 0.0], [0.4, 0.7, 0.0]]),
            np.array([[1, 0, 0], [0, 0, 1]], dtype=bool),
            np.array([0.2, 0.6, 1.1]),
            np.array([1.0, 3.0]),
        )
        assert data.exits(np.array([0.5, 0.7])).tolist() == [0, 1]
        assert data.evaluate(np.array([0.5, 0.7])) == pytest.approx((0.5, 0.25))
        assert data.evaluate(np.array([0.5, 0.8])) == pytest.approx((0.875, 1.0))

    @settings(deadline=None)
    @given(st.integers(0, 10**6), thresholds_of)
    def test_table_says_the_same(self, seed, thresholds):
        rng = np.random.default_rng(seed)
        p = rng.dirichlet(np.ones(3), size=(20, 5))
        y = rng.integers(3, size=20)
        table = ExitTable(p, p.max(axis=2))
        data = CalibrationData.from_table(table, y, np.arange(1.0, 6.0))
        exits = [naive_exit(row, thresholds) for row in table.scores]
        assert table.exits(thresholds).tolist() == exits
        right = [p[row, exit_].argmax() == y[row] for row, exit_ in enumerate(exits)]
        expected = np.mean(exits) + 1, np.mean(right)
        assert data.evaluate(np.array(thresholds)) == pytest.approx(expected)

    @pytest.mark.parametrize("n_exits", [2, 3])
    def test_whole_weights_are_repeated_rows(self, n_exits):
        times = np.random.default_rng(3).integers(1, 4, size=40)
        once = simulated(3, 40, n_exits)
        weighted = CalibrationData(once.scores, once.correct, once.costs, times.astype(float))
        repeated = CalibrationData(
            np.repeat(once.scores, times, axis=0),
            np.repeat(once.correct, times, axis=0),
            once.costs,
            np.ones(times.sum()),
        )
        for t in product([0.0, 0.3, 0.6, 0.9, np.inf], repeat=n_exits - 1):
            assert weighted.evaluate(np.array(t)) == pytest.approx(repeated.evaluate(np.array(t)))
        # Every score is on the grid, so that both search the same thresholds.
        found, expected = compute_frontier(weighted), compute_frontier(repeated)
        assert_same_frontier((found.costs, found.accuracies), expected.costs, expected.accuracies)
        assert_same_frontier((expected.costs, expected.accuracies), found.costs, found.accuracies)


class TestFrontier:
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize(
        ("n_exits", "n_rows", "decimals"),
        [(2, 400, None), (2, 400, 2), (3, 100, None), (3, 300, 1), (4, 30, None), (4, 300, 1)],
    )
    def test_is_the_best_of_every_combination(self, n_exits, n_rows, decimals, weighted):
        data = simulated(n_exits, n_rows, n_exits, weighted=weighted, decimals=decimals)
        # Few enough different scores to try them all, so that nothing better exists.
        assert len(np.unique(data.scores[:, 0])) <= GRID_SIZES[n_exits - 1]
        scores = [np.append(np.unique(column), np.inf) for column in data.scores[:, :-1].T]
        every = brute_force(data, np.array(list(product(*scores))))
        frontier = compute_frontier(data)
        assert_same_frontier((frontier.costs, frontier.accuracies), *every)

    @pytest.mark.parametrize("n_exits", [2, 3])
    def test_is_the_best_of_the_grid_and_the_geometric_family(self, n_exits):
        data = simulated(7, 1500 if n_exits == 2 else 250, n_exits)
        grids = coarse_grids(data, GRID_SIZES[n_exits - 1])
        assert len(grids[0]) < len(np.unique(data.scores[:, 0]))
        tried = [
            *product(*grids),
            *(geometric_thresholds(data, ratio) for ratio in np.geomspace(1e-3, 1e3, 61)),
        ]
        every = brute_force(data, np.array(tried))
        frontier = compute_frontier(data)
        assert_same_frontier((frontier.costs, frontier.accuracies), *every)

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize(("n_exits", "size"), [(2, 9), (3, 9), (4, 9), (5, 6)])
    def test_search_of_all_equals_brute_force(self, n_exits, size, seed):
        data = simulated(seed, 300, n_exits, weighted=seed == 1)
        grids = coarse_grids(data, size)
        thresholds, costs, accuracies = search_all(data, grids)
        every = brute_force(data, np.array(list(product(*grids))))
        assert_same_frontier((costs, accuracies), *every)
        for row, cost, accuracy in zip(thresholds, costs, accuracies, strict=True):
            assert naive_evaluate(data, row) == pytest.approx((cost, accuracy))

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize(("n_exits", "size"), [(5, 7), (6, 4)])
    def test_search_by_coordinate_is_nearly_exact(self, n_exits, size, seed):
        data = simulated(seed, 1000, n_exits)
        grids = coarse_grids(data, size)
        thresholds, costs, accuracies = search_coordinates(data, grids)
        every = brute_force(data, np.array(list(product(*grids))))
        budgets = np.unique(every[0]) + 1e-9
        lost = best_for(budgets, *every) - best_for(budgets, costs, accuracies)
        assert lost.min() > -1e-9
        assert lost.max() <= 0.002
        for row, cost, accuracy in zip(thresholds[::5], costs[::5], accuracies[::5], strict=True):
            assert naive_evaluate(data, row) == pytest.approx((cost, accuracy))

    @settings(deadline=None, max_examples=30)
    @given(evidences())
    def test_no_point_dominates_another_and_each_is_true(self, data):
        frontier = compute_frontier(data)
        assert len(frontier) == len(frontier.thresholds)
        assert np.all(np.diff(frontier.costs) > 0)
        assert np.all(np.diff(frontier.accuracies) > 0)
        for row, *values in zip(
            frontier.thresholds, frontier.costs, frontier.accuracies, strict=True
        ):
            assert naive_evaluate(data, row) == pytest.approx(tuple(values))

    @settings(deadline=None, max_examples=30)
    @given(evidences())
    def test_reaches_from_the_first_exit_to_the_accuracy_of_the_last(self, data):
        frontier = compute_frontier(data)
        assert frontier.costs[0] == pytest.approx(data.costs[0])
        last = np.average(data.correct[:, -1], weights=data.weight)
        assert frontier.accuracies[-1] >= last - 1e-12

    def test_of_keeps_what_nothing_dominates(self):
        costs = np.array([0.5, 0.2, 0.5, 0.9, 0.3, 1.0])
        accuracies = np.array([0.7, 0.6, 0.8, 0.8, 0.5, 0.9])
        frontier = Frontier.of(np.arange(6.0)[:, None], costs, accuracies)
        assert frontier.thresholds.ravel().tolist() == [1.0, 2.0, 5.0]
        assert frontier.costs.tolist() == [0.2, 0.5, 1.0]
        assert frontier.accuracies.tolist() == [0.6, 0.8, 0.9]

    @settings(deadline=None)
    @given(
        st.lists(st.sampled_from([0.0, 0.1, 0.1 + 1e-9, 0.5, 1.0]), min_size=1), st.integers(2, 9)
    )
    def test_quantile_grid(self, scores, size):
        grid = quantile_grid(np.array(scores), size)
        assert grid[0] == 0
        assert grid[-1] == np.inf
        assert np.all(np.diff(grid) > 0)
        assert len(grid) <= size + 2
        assert set(grid[1:-1]) <= set(scores)
        if len(set(scores)) <= size:
            assert set(grid) == {0.0, np.inf, *scores}

    @settings(deadline=None)
    @given(st.integers(0, 10**6), st.integers(1, 60), st.integers(2, 9))
    def test_quantile_grid_takes_whole_weights_as_repeated_rows(self, seed, n_rows, size):
        rng = np.random.default_rng(seed)
        scores, times = rng.random(n_rows).round(2), rng.integers(1, 5, size=n_rows)
        weighted = quantile_grid(scores, size, times.astype(float))
        assert weighted.tolist() == quantile_grid(np.repeat(scores, times), size).tolist()


class TestBudget:
    @settings(deadline=None, max_examples=40)
    @given(evidences(), st.floats(0, 1.2), st.sampled_from(["search", "geometric"]))
    def test_is_never_exceeded(self, data, share, method):
        low, high = data.costs[0], data.costs[-1]
        budget = low * (1 + 1e-9) + share * (high - low)
        thresholds = Budget(budget, method=method).thresholds(data, compute_frontier(data))
        assert naive_evaluate(data, thresholds)[0] <= budget * (1 + 1e-12)

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("n_exits", [3, 4, 6])
    def test_search_is_never_worse_than_geometric(self, n_exits, seed):
        data = simulated(seed, 700, n_exits, weighted=seed == 2)
        frontier = compute_frontier(data)
        gains = []
        for budget in np.linspace(data.costs[0] * (1 + 1e-9), data.costs[-1], 30):
            searched, geometric = (
                data.evaluate(Budget(budget, method=method).thresholds(data, frontier))
                for method in ("search", "geometric")
            )
            assert max(searched[0], geometric[0]) <= budget * (1 + 1e-12)
            gains.append(searched[1] - geometric[1])
        assert min(gains) >= -1e-12
        assert max(gains) > 0.01

    @pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
    def test_geometric_spends_the_budget(self, share):
        data = without_ties(simulated(0, 2000, 4))
        budget = data.costs[0] + share * (data.costs[-1] - data.costs[0])
        point = Budget(budget, method="geometric").calibrate(data, compute_frontier(data))
        # A row more that goes on to the end costs at most this.
        one_row = (data.costs[-1] - data.costs[0]) / 2000
        assert budget - 4 * one_row <= point.cost <= budget

    @pytest.mark.parametrize("ratio", [0.2, 0.9, 1.0, 1.7])
    @pytest.mark.parametrize("n_exits", [2, 4])
    def test_geometric_shares_are_powers(self, ratio, n_exits):
        data = without_ties(simulated(1, 5000, n_exits))
        exits = data.exits(geometric_thresholds(data, ratio))
        powers = np.array([ratio**k for k in range(n_exits)])
        shares = np.bincount(exits, minlength=n_exits) / 5000
        assert np.abs(shares - powers / powers.sum()).max() <= n_exits / 5000

    def test_geometric_counts_weights(self):
        data = without_ties(simulated(2, 5000, 3, weighted=True))
        exits = data.exits(geometric_thresholds(data, 0.5))
        shares = np.bincount(exits, data.weight) / data.weight.sum()
        assert np.abs(shares - np.array([4, 2, 1]) / 7).max() < 3 * 3.0 / data.weight.sum()

    @settings(deadline=None, max_examples=60)
    @given(evidences())
    def test_cost_of_the_first_exit_is_enough(self, data):
        point = Budget(data.costs[0]).calibrate(data, compute_frontier(data))
        assert point.cost == pytest.approx(data.costs[0])

    @pytest.mark.parametrize("method", ["search", "geometric"])
    def test_less_than_the_first_exit_costs(self, method):
        data = simulated(0, 50, 3)
        least = data.costs[0]
        with pytest.raises(ValueError, match=f"first exit alone costs {least:.4g}") as error:
            Budget(0.9 * least, method=method).thresholds(data, compute_frontier(data))
        assert repr(0.9 * least) in str(error.value)

    @pytest.mark.parametrize("value", [0, -0.5, float("nan"), "half", None])
    def test_no_budget(self, value):
        data = simulated(0, 50, 3)
        with pytest.raises(ValueError, match="must be a positive number"):
            Budget(value).thresholds(data, compute_frontier(data))

    def test_unknown_method(self):
        with pytest.raises(ValueError, match=r"'method' parameter of Budget .* Got 'grid'"):
            Budget(0.8, method="grid")._validate_params()


class TestAccuracyDrop:
    @settings(deadline=None, max_examples=40)
    @given(evidences(max_exits=4), st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]))
    def test_is_the_cheapest_that_keeps_the_drop(self, data, drop):
        frontier = compute_frontier(data)
        thresholds = AccuracyDrop(drop).thresholds(data, frontier)
        cost, accuracy = naive_evaluate(data, thresholds)
        wanted = np.average(data.correct[:, -1], weights=data.weight) - drop - 1e-9
        assert accuracy >= wanted
        good_enough = [
            c for c, a in zip(frontier.costs, frontier.accuracies, strict=True) if a >= wanted
        ]
        assert cost == pytest.approx(min(good_enough))

    @pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
    def test_no_share(self, value):
        with pytest.raises(ValueError, match="'value' parameter of AccuracyDrop must be"):
            AccuracyDrop(value)._validate_params()


class TestThreshold:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (0.7, [0.7, 0.7]),
            (0, [0.0, 0.0]),
            (np.inf, [np.inf, np.inf]),
            ([0.9, np.inf], [0.9, np.inf]),
            ((0.0, 2), [0.0, 2.0]),
            (np.array([0.5, 0.25]), [0.5, 0.25]),
        ],
    )
    def test_is_what_was_given(self, value, expected):
        assert Threshold(value).fixed_thresholds(3).tolist() == expected
        data = simulated(0, 20, 3)
        point = Threshold(value).calibrate(data, compute_frontier(data))
        assert point.thresholds.tolist() == expected
        assert (point.cost, point.accuracy) == pytest.approx(naive_evaluate(data, expected))
        assert point.certified is None

    def test_one_exit_needs_none(self):
        assert Threshold(0.5).fixed_thresholds(1).shape == (0,)

    @pytest.mark.parametrize("value", [[0.5], [0.1, 0.2, 0.3], [[0.5, 0.5]], []])
    def test_wrong_number(self, value):
        with pytest.raises(ValueError, match="a number or 2 of them, one for each of the 3 exits"):
            Threshold(value).fixed_thresholds(3)

    @pytest.mark.parametrize("value", [-0.1, [0.5, -1e-9], float("nan"), [np.nan, 0.5], -np.inf])
    def test_no_threshold(self, value):
        with pytest.raises(ValueError, match="must not be negative or nan"):
            Threshold(value).fixed_thresholds(3)


def naive_risk(data, threshold):
    lost = 0.0
    for row, weight in enumerate(data.weight):
        exit_ = naive_exit(data.scores[row], [threshold] * (data.n_exits - 1))
        lost += weight * (data.correct[row, -1] and not data.correct[row, exit_])
    return lost / data.weight.sum()


def perfect(n_rows):
    return CalibrationData(
        np.ones((n_rows, 3)),
        np.ones((n_rows, 3), dtype=bool),
        np.array([0.3, 0.7, 1.1]),
        np.ones(n_rows),
    )


def family_risks(data, family):
    losses = FamilyLosses(data.scores, exit_losses(data, "performance_gap"), family)
    return losses.means(data.weight)


class TestRiskControl:
    @settings(deadline=None)
    @given(evidences(), st.lists(st.floats(0, 1), min_size=1, max_size=8))
    def test_risks_of_the_family(self, data, thresholds):
        family = np.array(sorted({1.0, 0.5, 0.1, 0.0, *thresholds}, reverse=True))
        expected = [naive_risk(data, threshold) for threshold in family]
        np.testing.assert_allclose(family_risks(data, family), expected, atol=1e-12)

    def test_family_is_fixed_and_falls_from_one_to_zero(self):
        assert FAMILY[0] == 1
        assert FAMILY[-1] == 0
        assert np.all(np.diff(FAMILY) < 0)

    @pytest.mark.parametrize("n_rows", [1, 7, 230, 5000])
    @pytest.mark.parametrize("level", [0.01, 0.1, 0.5])
    def test_p_value_is_the_binomial_distribution_function(self, n_rows, level):
        losses = np.unique(np.linspace(0, n_rows, 40).round())
        np.testing.assert_allclose(
            binomial_p_value(losses / n_rows, n_rows, level),
            binom.cdf(losses, n_rows, level),
            rtol=1e-9,
            atol=1e-300,
        )

    def test_p_value_grows_with_the_risk_and_falls_with_the_rows(self):
        risks = np.linspace(0, 0.1, 101)
        assert np.all(np.diff(binomial_p_value(risks, 333.3, 0.05)) > 0)
        few, many = (binomial_p_value(risks[:30], n, 0.05) for n in (100.5, 301.2))
        assert np.all(many < few)

    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize(("level", "confidence"), [(0.05, 0.9), (0.02, 0.8), (0.1, 0.99)])
    def test_stops_before_the_first_that_is_not_certified(self, seed, level, confidence):
        data = simulated(seed, 300, 3)
        expected = np.inf
        for threshold in FAMILY:
            losses = round(naive_risk(data, threshold) * 300)
            if binom.cdf(losses, 300, level) > 1 - confidence:
                break
            expected = threshold
        request = RiskControl(level, confidence_level=confidence)
        if np.isinf(expected):
            with pytest.raises(NotCertifiedError):
                request.calibrate(data, None)
            return
        point = request.calibrate(data, None)
        assert point.thresholds.tolist() == [expected, expected]
        assert point.certified is True

    def test_a_later_pass_does_not_count(self):
        # Wrong between 0.6 and 0.7 only: below, an earlier exit answers, and rightly.
        scores = np.repeat([[0.5, 0.7, 0.0]], 1000, axis=0)
        correct = np.repeat([[True, False, True]], 1000, axis=0)
        data = CalibrationData(scores, correct, np.array([0.3, 0.7, 1.1]), np.ones(1000))
        found = RiskControl(0.05).thresholds(data, compute_frontier(data))
        assert naive_risk(data, 0.5) == 0
        assert found.tolist() == [FAMILY[FAMILY > 0.7].min()] * 2

    def test_needs_enough_rows(self):
        # 0.99 ** n falls below a tenth between 229 and 230 rows.
        request = RiskControl(0.01, confidence_level=0.9)
        for n_rows, least in ((200, 0.012), (229, 0.011)):
            for refused in (
                lambda n_rows=n_rows: request.calibrate(perfect(n_rows), None),
                lambda n_rows=n_rows: request.check_samples(n_rows),
            ):
                message = rf"least target_level that {n_rows} calibration samples .* is {least}\."
                with pytest.raises(NotCertifiedError, match=message):
                    refused()
            enough = RiskControl(least, confidence_level=0.9)
            assert enough.calibrate(perfect(n_rows), None).certified
        request.check_samples(230)
        point = request.calibrate(perfect(230), None)
        assert point.certified is True
        assert point.n_samples == 230
        assert point.thresholds.tolist() == [0.0, 0.0]
        assert point.cost == pytest.approx(0.3)

    def test_unequal_weights_are_refused_and_equal_ones_are_none(self):
        data = perfect(4000)
        weight = np.where(np.arange(4000) < 40, 50.0, 1.0)
        uneven = CalibrationData(data.scores, data.correct, data.costs, weight)
        scaled = CalibrationData(data.scores, data.correct, data.costs, np.full(4000, 0.01))
        assert np.isfinite(RiskControl().thresholds(scaled, None)).all()
        with pytest.raises(NotCertifiedError, match="Give it as max_weight"):
            RiskControl().thresholds(uneven, None)

    @pytest.mark.parametrize("value", [0, 1, -0.1, float("nan")])
    @pytest.mark.parametrize("name", ["target_level", "confidence_level"])
    def test_no_level(self, name, value):
        with pytest.raises(ValueError, match=f"'{name}' parameter of RiskControl must be"):
            RiskControl(**{name: value})._validate_params()

    @pytest.mark.parametrize(("level", "confidence"), [(0.05, 0.9), (0.02, 0.8)])
    def test_keeps_its_promise(self, level, confidence):
        population = simulated(11, 20_000, 3)
        risks = np.append(
            family_risks(population, FAMILY),  # equal to the naive loop, as tested above
            0.0,
        )
        rng = np.random.default_rng(0)
        request = RiskControl(level, confidence_level=confidence)
        n_draws, n_broken, n_early = 500, 0, 0
        for _ in range(n_draws):
            rows = rng.integers(20_000, size=600)
            sample = CalibrationData(
                population.scores[rows], population.correct[rows], population.costs, np.ones(600)
            )
            try:
                index = np.flatnonzero(request.thresholds(sample, None)[0] == FAMILY)
            except NotCertifiedError:
                index = []
            n_early += len(index)
            n_broken += risks[index[0] if len(index) else -1] > level
        allowed = 1 - confidence
        assert n_broken / n_draws <= allowed + 3 * np.sqrt(allowed * confidence / n_draws)
        # Not by doing nothing: it comes close to what it may.
        assert n_early > 0.9 * n_draws
        assert n_broken > 0

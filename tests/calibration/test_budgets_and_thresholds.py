"""Budgets, drops of accuracy and thresholds, on calibration samples drawn at random."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skearlyexit.calibration import (
    AccuracyDrop,
    Budget,
    Threshold,
    _geometric,
    compute_frontier,
)
from skearlyexit.calibration._geometric import geometric_family, geometric_thresholds
from tests._calibration_data import evidences, naive_evaluate, simulated, without_ties


class TestBudget:
    @settings(deadline=None, max_examples=40)
    @given(evidences(), st.floats(0, 1.2), st.sampled_from(["search", "geometric"]))
    def test_is_never_exceeded(self, data, share, method):
        low, high = data.costs[0], data.costs[-1]
        budget = low * (1 + 1e-9) + share * (high - low)
        thresholds = Budget(budget, method=method).thresholds(data, compute_frontier(data))
        assert naive_evaluate(data, thresholds)[0] <= budget * (1 + 1e-12)

    @pytest.mark.parametrize("seed", range(2))
    @pytest.mark.parametrize("n_exits", [3, 4, 6])
    def test_search_is_never_worse_than_geometric(self, n_exits, seed):
        data = simulated(seed, 500, n_exits, weighted=seed == 1)
        frontier = compute_frontier(data)
        gains = []
        for budget in np.linspace(data.costs[0] * (1 + 1e-9), data.costs[-1], 12):
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

    def test_geometric_thresholds_do_not_depend_on_the_memory(self, monkeypatch):
        data, ratios = simulated(3, 200, 4, weighted=True), np.geomspace(1e-3, 1e3, 7)
        together = geometric_family(data, ratios)
        assert np.array_equal(together, [geometric_thresholds(data, ratio) for ratio in ratios])
        monkeypatch.setattr(_geometric, "MAX_VALUES", 400)  # two ratios at once
        assert np.array_equal(together, geometric_family(data, ratios))

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
        # Accuracies of the frontier are estimates.
        points = zip(frontier.thresholds, frontier.accuracies, strict=True)
        evaluated = [(*naive_evaluate(data, row), estimate) for row, estimate in points]
        good_enough = [c for c, a, estimate in evaluated if a >= wanted and estimate >= wanted]
        assert cost == pytest.approx(min([*good_enough, data.costs[-1]]))

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

    @pytest.mark.parametrize(
        "value", [[0.5], [0.1, 0.2, 0.3], [[0.5, 0.5]], [], True, [True, False]]
    )
    def test_wrong_number(self, value):
        with pytest.raises(ValueError, match="a number or 2 of them, one for each of the 3 exits"):
            Threshold(value).fixed_thresholds(3)

    @pytest.mark.parametrize("value", [-0.1, [0.5, -1e-9], float("nan"), [np.nan, 0.5], -np.inf])
    def test_no_threshold(self, value):
        with pytest.raises(ValueError, match="must not be negative or nan"):
            Threshold(value).fixed_thresholds(3)

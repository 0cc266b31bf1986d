"""The frontier and its search, against every combination of thresholds."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skearlyexit._exit_table import ExitTable
from skearlyexit.calibration import CalibrationData, Frontier
from skearlyexit.calibration._geometric import geometric_thresholds
from skearlyexit.calibration._search import (
    GRID_SIZES,
    quantile_grid,
    search_all,
    search_coordinates,
    search_frontier,
)
from tests._calibration_data import (
    assert_same_frontier,
    best_for,
    brute_force,
    evidences,
    naive_evaluate,
    naive_exit,
    simulated,
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
        found, expected = search_frontier(weighted), search_frontier(repeated)
        assert_same_frontier((found.costs, found.accuracies), expected.costs, expected.accuracies)
        assert_same_frontier((expected.costs, expected.accuracies), found.costs, found.accuracies)


class TestSearch:
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
        frontier = search_frontier(data)
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
        frontier = search_frontier(data)
        assert_same_frontier((frontier.costs, frontier.accuracies), *every)

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize(("n_exits", "size"), [(2, 9), (3, 9), (4, 9), (5, 6)])
    def test_search_of_all_equals_brute_force(self, n_exits, size, seed):
        data = simulated(seed, 300, n_exits, weighted=seed == 1)
        grids = coarse_grids(data, size)
        thresholds = search_all(data, grids)
        costs, accuracies = np.array([data.evaluate(each) for each in thresholds]).T
        every = brute_force(data, np.array(list(product(*grids))))
        assert_same_frontier((costs, accuracies), *every)
        for row, cost, accuracy in zip(thresholds, costs, accuracies, strict=True):
            assert naive_evaluate(data, row) == pytest.approx((cost, accuracy))

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize(("n_exits", "size"), [(5, 7), (6, 4)])
    def test_search_by_coordinate_is_nearly_exact(self, n_exits, size, seed):
        data = simulated(seed, 1000, n_exits)
        grids = coarse_grids(data, size)
        thresholds = search_coordinates(data, grids)
        costs, accuracies = np.array([data.evaluate(each) for each in thresholds]).T
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
        frontier = search_frontier(data)
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
        frontier = search_frontier(data)
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

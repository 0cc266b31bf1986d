"""Routers by themselves: the scores below which exits are skipped."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skearlyexit import ExitRouter
from skearlyexit._exit_table import Routing
from tests._calibration_data import simulated


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

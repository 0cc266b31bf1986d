import tracemalloc
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skearlyexit._exit_table import ExitTable
from skearlyexit.calibration import CalibrationData, compute_frontier
from skearlyexit.calibration._best_at_budget import best_at_budget
from skearlyexit.placement import (
    AdaptivePlacement,
    Candidates,
    CostShare,
    EfficiencyTest,
    ExactPlacement,
    GreedyPlacement,
)
from skearlyexit.placement._cost_share import SCHEDULES
from skearlyexit.policies import ConfidencePolicy, PatiencePolicy
from tests._probes import MeanConfidence, brute_force, placed, simulated, small

OTHERS = [
    EfficiencyTest(),
    EfficiencyTest("printed", max_drop=0.05),
    GreedyPlacement(),
    GreedyPlacement(1.0, "printed", max_drop=0.05),
    AdaptivePlacement(),
    AdaptivePlacement(0.4),
]
seeds = st.integers(0, 10**6)


def evidence_of(probed, chosen):
    table, costs = probed.subset(chosen)
    return CalibrationData.from_table(
        table, probed.samples.y, costs, probed.samples.calibration_weight
    )


def accuracy_at(probed, ends, budget):
    data = evidence_of(probed, ends)
    return best_at_budget(data, budget)[2] if data.costs[0] <= budget else 0.0


class TestExact:
    @pytest.mark.parametrize("policy", [ConfidencePolicy(), PatiencePolicy(2), MeanConfidence()])
    @pytest.mark.parametrize("n_exits", [1, 2, 3])
    @pytest.mark.parametrize("seed", range(3))
    def test_equals_brute_force(self, seed, n_exits, policy):
        probed = simulated(seed, 25, 4, policy=policy, weighted=seed == 1)
        for budget in (0.5, 0.8, 1.2):
            every = brute_force(probed, n_exits, budget)
            placement = ExactPlacement(n_exits, budget=budget)
            if not every:
                with pytest.raises(ValueError, match="smallest budget"):
                    placed(placement, probed)
                continue
            result = placed(placement, probed)
            assert len(result.ends) == n_exits
            best = max(accuracy for accuracy, _ in every.values())
            cheapest = min(cost for accuracy, cost in every.values() if accuracy == best)
            assert every[tuple(result.ends[:-1])] == pytest.approx((best, cheapest))
            for i in range(3):
                for title, wanted in [("best with", True), ("best without", False)]:
                    found = [every[exits][0] for exits in every if (i in exits) == wanted]
                    expected = max(found, default=np.nan)
                    told = result.report.figures[title][i]
                    assert told == pytest.approx(expected, nan_ok=True)

    @settings(deadline=None, max_examples=25)
    @given(seeds, st.integers(2, 6), st.floats(0.3, 1.2), seeds)
    def test_is_never_below_the_others(self, seed, n_places, budget, draw):
        probed = simulated(seed, 100, n_places, decimals=2)
        rng = np.random.default_rng(draw)
        others = [[*np.flatnonzero(rng.random(n_places - 1) < 0.5), n_places - 1]]
        placements = [*OTHERS, *(CostShare(4, schedule=name) for name in SCHEDULES)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            for placement in placements:
                if placement.needs_probe:
                    others.append(placed(placement, probed).ends)
                else:
                    blocks = Candidates([str(i) for i in range(n_places)], probed.stages)
                    others.append(placement.place(blocks).ends)
        for n_exits in {len(ends) for ends in others}:
            accuracies = [accuracy_at(probed, e, budget) for e in others if len(e) == n_exits]
            if max(accuracies):
                best = placed(ExactPlacement(n_exits, budget=budget), probed).ends
                assert accuracy_at(probed, best, budget) >= max(accuracies) - 1e-12

    @pytest.mark.parametrize(("n_places", "lost"), [(1, 0), (3, 0), (4, 0), (6, 0.003), (8, 0.01)])
    def test_search_is_about_as_good_as_the_frontier(self, n_places, lost):
        gains = []
        for seed in range(3):
            data = evidence_of(simulated(seed, 600, n_places), range(n_places))
            frontier = compute_frontier(data)
            for budget in (0.7, 0.9, 1.2):
                if budget < data.costs[0]:
                    continue
                thresholds, cost, accuracy = best_at_budget(data, budget)
                assert data.evaluate(thresholds) == (cost, accuracy)
                assert cost <= budget * (1 + 1e-12)
                gains.append(accuracy - frontier.accuracies[frontier.at_budget(budget)])
        assert min(gains) >= -lost - 1e-12
        if n_places == 4:
            # Its last steps are on a finer grid.
            assert max(gains) > 0

    @pytest.mark.parametrize("n_places", [12, 16, 17, 24])
    def test_any_number_of_exits_is_searched_in_bounded_memory(self, n_places):
        data = evidence_of(simulated(0, 300, n_places), range(n_places))
        budget = float(data.costs.mean())
        tracemalloc.start()
        thresholds, cost, accuracy = best_at_budget(data, budget)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 50e6
        assert cost <= budget * (1 + 1e-12)
        assert data.evaluate(thresholds) == (cost, accuracy)
        assert accuracy > data.correct[:, 0].mean()

    def test_of_equal_ones_the_cheapest_then_the_first(self):
        # Every place is right, so that all leave at the first exit.
        probed = simulated(0, n_places=4)
        right = np.repeat(0.98 * np.eye(3)[probed.samples.y][:, None] + 0.01, 4, axis=1)
        probed = replace(probed, table=ExitTable(right, right.max(axis=2)))
        assert placed(ExactPlacement(3, budget=1.0), probed).ends == [0, 1, 3]

    def test_budget_that_no_subset_can_meet(self):
        probed = small()
        with pytest.raises(ValueError) as error:
            placed(ExactPlacement(2, budget=0.4), probed)
        assert str(error.value) == (
            "The 'budget' parameter of ExactPlacement must be at least the cost of the first exit. "
            "Got 0.4 instead; the smallest budget that 2 exits among 2 candidates can meet is 0.5."
        )
        assert placed(ExactPlacement(2, budget=0.5), probed).ends == [0, 1]

    def test_a_subset_that_cannot_meet_the_budget_does_not_count(self):
        result = placed(ExactPlacement(2, budget=0.4), simulated(0, n_places=5))
        reasons = result.report.reasons
        assert reasons[3] == "no subset with it meets the budget"
        assert np.isnan(result.report.figures["best with"][3])
        assert "accuracy" in reasons[result.ends[0]]

    def test_refuses_too_many_subsets_before_any_head_is_trained(self):
        blocks = Candidates([str(i) for i in range(30)], np.ones(30))
        with pytest.raises(ValueError, match=r"try 77520 subsets.*Lower 'max_candidates'"):
            ExactPlacement(8, max_candidates=21).place(blocks, pytest.fail)
        with pytest.raises(ValueError, match=r"165 subsets .*'max_subsets' is 164"):
            ExactPlacement(4, max_subsets=164).place(blocks, pytest.fail)

    def test_more_exits_than_places(self):
        with pytest.warns(UserWarning, match="holds 3 of the 4 exits asked for"):
            assert placed(ExactPlacement(4, budget=1.5), simulated(0, n_places=3)).ends == [0, 1, 2]

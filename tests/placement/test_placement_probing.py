from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from skearlyexit.placement import (
    AdaptivePlacement,
    Candidates,
    EfficiencyTest,
    ExactPlacement,
    GreedyPlacement,
)
from skearlyexit.placement._places import places_to_probe
from skearlyexit.placement._resolve import resolve_placement
from skearlyexit.policies import ConfidencePolicy, PatiencePolicy
from tests._probes import (
    MeanConfidence,
    naive_dropping,
    naive_efficiency,
    naive_exit,
    naive_greedy,
    naive_test,
    of_rows,
    placed,
    reweighted,
    simulated,
    small,
)

PLACEMENTS = [
    EfficiencyTest(),
    EfficiencyTest("printed", max_drop=0.05),
    EfficiencyTest(max_drop=0.02, max_subsets=2),
    GreedyPlacement(),
    GreedyPlacement(0.97, "printed", max_drop=0.05),
    AdaptivePlacement(),
    AdaptivePlacement(0.4, min_gain=0.005),
    ExactPlacement(2, budget=3.0),
    ExactPlacement(2, budget=0.7),
]
POLICIES = [ConfidencePolicy(), PatiencePolicy(2), MeanConfidence()]
FORMS = ["corrected", "printed"]
seeds = st.integers(0, 10**6)
n_places_of = st.integers(2, 5)


def figures(result, title):
    return result.report.figures[title]


class TestPlaces:
    def test_few_are_all_looked_at(self):
        blocks = Candidates(list("abcd"), np.array([1.0, 0, 2, 3]))
        assert places_to_probe(blocks, 3) == [1, 2, 3]

    @pytest.mark.parametrize("unit", [1, 0.1, 1 / 3, 1e9])
    def test_equal_shares_of_the_cost(self, unit):
        for number in range(2, 13):
            blocks = Candidates([str(i) for i in range(12 * number)], np.full(12 * number, unit))
            assert places_to_probe(blocks, number) == [12 * i + 11 for i in range(number)]

    def test_none_of_the_number_is_lost(self):
        heavy_first = Candidates(list("abcde"), np.array([96.0, 1, 1, 1, 1]))
        heavy_last = Candidates(list("abcde"), np.array([1.0, 1, 1, 1, 96]))
        assert places_to_probe(heavy_first, 3) == [0, 1, 4]
        assert places_to_probe(heavy_last, 3) == [2, 3, 4]

    @settings(deadline=None)
    @given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(2, 12))
    def test_ascending_with_the_end(self, costs, max_candidates):
        blocks = Candidates([str(i) for i in range(len(costs))], np.array(costs, dtype=float))
        places = places_to_probe(blocks, max_candidates)
        assert len(places) == min(max_candidates, len(blocks.places))
        assert set(places) <= set(blocks.places)
        assert places == sorted(set(places))
        assert places[-1] == len(costs) - 1


class TestAll:
    @pytest.mark.parametrize("placement", PLACEMENTS, ids=str)
    @settings(deadline=None, max_examples=15)
    @given(seeds, st.integers(2, 40), n_places_of, st.booleans(), st.sampled_from([None, 1]))
    def test_exits_and_report(self, placement, seed, n_rows, n_places, weighted, decimals):
        probed = simulated(seed, n_rows, n_places, weighted=weighted, decimals=decimals)
        if isinstance(placement, ExactPlacement):
            placement = clone(placement).set_params(budget=3.0)
        result, again = placed(placement, probed), placed(placement, probed)
        assert result.ends == sorted(set(result.ends))
        assert set(result.ends) <= set(range(n_places))
        assert result.ends[-1] == n_places - 1
        report = result.report
        assert report.method == repr(placement)
        assert report.names == [f"b{i}" for i in range(n_places)]
        assert np.flatnonzero(report.chosen).tolist() == result.ends
        assert len(report.reasons) == n_places
        assert all(report.reasons)
        assert report.reasons[-1] == "the end"
        assert report.to_frame().shape == (n_places, 4 + len(report.figures))
        assert (again.ends, str(again.report)) == (result.ends, str(report))

    @pytest.mark.parametrize("placement", PLACEMENTS, ids=str)
    @pytest.mark.parametrize("seed", range(4))
    def test_weights(self, placement, seed):
        probed = simulated(seed, 80)
        times = np.repeat(np.random.default_rng(seed).integers(0, 4, size=40), 2)
        weighted = reweighted(probed, times.astype(float))
        # Pairs are repeated, so that every copy stays in its half.
        pairs = np.repeat(np.arange(80).reshape(-1, 2), times[::2], axis=0).ravel()
        a, b = placed(placement, weighted), placed(placement, of_rows(probed, pairs))
        assert a.ends == b.ends
        for title in a.report.figures:
            np.testing.assert_allclose(figures(a, title), figures(b, title), atol=1e-9)

    @pytest.mark.parametrize("placement", PLACEMENTS, ids=str)
    @pytest.mark.parametrize("unit", [7.3, 1e-7])
    def test_unit_of_cost(self, placement, unit):
        for seed in range(4):
            probed = simulated(seed, n_places=5)
            scaled = replace(
                probed,
                stages=probed.stages * unit,
                heads=probed.heads * unit,
                decisions=probed.decisions * unit,
            )
            a, b = placed(placement, probed), placed(placement, scaled)
            assert a.ends == b.ends
            for title in a.report.figures:
                np.testing.assert_allclose(figures(a, title), figures(b, title), rtol=1e-9)

    @pytest.mark.parametrize("placement", PLACEMENTS, ids=str)
    def test_looks_at_few_natural_places_only(self, placement):
        names = [f"b{i}" for i in range(9)]
        natural = [i % 2 == 0 for i in range(9)]
        blocks = Candidates(names, np.full(9, 10.0), natural=natural)
        calls = []

        def probe(places):
            calls.append(list(places))
            return replace(simulated(0, n_places=len(places)), places=np.array(places))

        result = clone(placement).set_params(max_candidates=3).place(blocks, probe)
        assert calls == [[2, 6, 8]]
        assert set(result.ends) <= {2, 6, 8}
        assert result.ends[-1] == 8
        assert result.report.names == ["b2", "b6", "b8"]
        np.testing.assert_allclose(result.report.shares, [3 / 9, 7 / 9, 1])

    @pytest.mark.parametrize("placement", PLACEMENTS, ids=str)
    def test_network_of_one_block(self, placement):
        placement = clone(placement)
        if isinstance(placement, ExactPlacement):
            placement.set_params(n_exits=1, budget=1.0)
        result = placement.place(Candidates(["b"], np.ones(1)), probe=pytest.fail)
        assert result.ends == [0]
        assert result.report.reasons == ["the end"]

    @pytest.mark.parametrize("placement", PLACEMENTS, ids=str)
    def test_is_an_estimator_of_scikit_learn(self, placement):
        assert placement.needs_probe
        assert clone(placement).get_params() == placement.get_params()
        resolved = resolve_placement(placement.set_params(max_candidates=16))
        assert resolved is not placement
        assert resolved.get_params() == placement.get_params()

    @pytest.mark.parametrize(
        ("kind", "name", "value"),
        [
            (EfficiencyTest, "form", "exact"),
            (EfficiencyTest, "max_drop", -0.1),
            (EfficiencyTest, "max_candidates", 1),
            (EfficiencyTest, "max_subsets", 0),
            (GreedyPlacement, "max_share", 1.1),
            (GreedyPlacement, "form", None),
            (AdaptivePlacement, "price", -1),
            (AdaptivePlacement, "min_gain", "no"),
            (ExactPlacement, "n_exits", 0),
            (ExactPlacement, "budget", 0),
            (ExactPlacement, "max_subsets", 2.5),
        ],
    )
    def test_bad_parameters(self, kind, name, value):
        with pytest.raises(ValueError, match=f"'{name}' parameter of {kind.__name__} must be"):
            resolve_placement(kind(**{name: value}))

    @pytest.mark.parametrize("placement", PLACEMENTS, ids=str)
    def test_bad_probes(self, placement):
        with pytest.raises(ValueError, match=f"{type(placement).__name__} .* Got no probe"):
            placement.place(Candidates(["a", "b"], np.ones(2)))
        probed = simulated(0)
        with pytest.raises(ValueError, match=r"at least two held-out samples.* Got 1 instead"):
            placed(placement, reweighted(probed, np.eye(60)[3]))
        probed.table.probabilities[5, 1] = np.nan
        with pytest.raises(ValueError, match="are NaN"):
            placed(placement, probed)


class TestEfficiencyTest:
    def test_by_hand(self):
        result = placed(EfficiencyTest(), small())
        assert result.ends == [0, 1]
        expected = {
            "threshold": 0.8,  # 0.7 and 0.6 would be wrong
            "reach": 1.0,
            "passed on": 0.5,
            "way on": 0.6,  # 50 and 10 of 100
            "head": 0.1,
            "saved": 0.3,
            "paid": 0.1,
        }
        for title, value in expected.items():
            np.testing.assert_allclose(figures(result, title), [value, np.nan])
        assert result.report.reasons[0] == "saves 30.00% of the network, is charged 10.00%"

    def test_forms_differ(self):
        # The exit saves 0.3. All samples pay the head, 0.24; as printed, the half of them that goes
        # on is charged stage and head, 0.64.
        probed = small(heads=(24.0, 10.0))
        corrected, printed = (placed(EfficiencyTest(form), probed) for form in FORMS)
        assert (corrected.ends, printed.ends) == ([0, 1], [1])
        assert figures(corrected, "paid")[0] == pytest.approx(0.24)
        assert figures(printed, "paid")[0] == pytest.approx(0.32)

    def test_of_the_subsets_that_pass_the_cheapest_is_taken(self):
        # No sample goes on, so that nothing is charged as printed; but the head costs 0.7.
        probed = small([True] * 4, heads=(70.0, 10.0))
        assert placed(EfficiencyTest("printed", max_subsets=1), probed).ends == [0, 1]
        result = placed(EfficiencyTest("printed"), probed)
        assert result.ends == [1]
        assert result.report.reasons[0] == (
            "saves 60.00% of the network, is charged 0.00%; "
            "but samples would cost 110.00% instead of 100.00%"
        )

    def test_allowed_drop(self):
        # One of four rows to choose by would be lost at 0.7, two at 0.6.
        for drop, threshold in [(0.24, 0.8), (0.25, 0.7), (0.49, 0.7), (0.5, 0.0)]:
            result = placed(EfficiencyTest(max_drop=drop), small())
            assert figures(result, "threshold")[0] == threshold

    def test_no_threshold_keeps_the_accuracy(self):
        result = placed(EfficiencyTest(), small([False] * 4))
        assert result.ends == [1]
        assert result.report.reasons[0] == "no threshold keeps the accuracy"

    @settings(deadline=None, max_examples=40)
    @given(
        seeds,
        n_places_of,
        st.sampled_from(FORMS),
        st.sampled_from([0.0, 0.02, 0.1]),
        st.booleans(),
        st.sampled_from(POLICIES),
    )
    def test_equals_loops(self, seed, n_places, form, max_drop, weighted, policy):
        probed = simulated(seed, 40, n_places, policy=policy, weighted=weighted)
        end = n_places - 1
        result = placed(EfficiencyTest(form, max_drop=max_drop), probed)
        assert result.ends[:-1] == naive_efficiency(probed, form, max_drop)
        chosen = result.ends[:-1]
        for i in range(end):
            exits = sorted({*chosen, i})
            sides, _ = naive_test(probed, exits, form, max_drop)
            told = figures(result, "saved")[i], figures(result, "paid")[i]
            assert told == pytest.approx(sides[exits.index(i)], abs=1e-12)
        dropping = EfficiencyTest(form, max_drop=max_drop, max_subsets=2 ** (end - 1))
        assert placed(dropping, probed).ends[:-1] == naive_dropping(probed, form, max_drop)

    def test_says_what_speaks_against_an_exit_that_would_pay(self):
        placement = EfficiencyTest(max_drop=0.02)
        reasons = [
            reason
            for seed in range(40)
            for reason in placed(placement, simulated(seed, 200, 6)).report.reasons
        ]
        assert any("but with it another exit would no longer pass" in text for text in reasons)


class TestGreedy:
    def test_by_hand(self):
        # 40 to the exit, 10 for its head, and 60 from there for half of the rows.
        for form, share in [("corrected", 0.8), ("printed", 0.75)]:
            result = placed(GreedyPlacement(0.8, form), small())
            assert result.ends == [0, 1]
            for title, value in {
                "threshold": 0.8,
                "reach": 1.0,
                "passed on": 0.5,
                "stage": 0.4,
                "head": 0.1,
                "rest": 0.6,
                "share paid": share,
            }.items():
                np.testing.assert_allclose(figures(result, title), [value, np.nan])

    def test_forms_differ(self):
        corrected, printed = (placed(GreedyPlacement(0.78, form), small()) for form in FORMS)
        assert (corrected.ends, printed.ends) == ([1], [0, 1])
        assert corrected.report.reasons[0] == (
            "80.0% of the cost up to the end would be paid, at most 78.0% may be"
        )

    @pytest.mark.parametrize("form", FORMS)
    def test_nobody_leaves(self, form):
        probed = small([False] * 4, heads=(0.0, 10.0))
        result = placed(GreedyPlacement(1.0, form), probed)
        assert result.ends == [1]
        assert result.report.reasons[0] == "no threshold keeps the accuracy"

    @settings(deadline=None, max_examples=60)
    @given(
        seeds,
        n_places_of,
        st.sampled_from(FORMS),
        st.floats(0.5, 1),
        st.sampled_from([0.0, 0.05, 0.3]),
        st.booleans(),
        st.sampled_from(POLICIES),
    )
    def test_equals_loops(self, seed, n_places, form, max_share, max_drop, weighted, policy):
        probed = simulated(seed, 40, n_places, policy=policy, weighted=weighted)
        result = placed(GreedyPlacement(max_share, form, max_drop=max_drop), probed)
        assert result.ends[:-1] == naive_greedy(probed, max_share, form, max_drop)


class TestAdaptive:
    def test_by_hand(self):
        # Leaving costs 0.25 and being wrong 1, going on 0.55, and the head is a tenth of 0.5.
        result = placed(AdaptivePlacement(0.5, min_gain=0.09), small())
        assert result.ends == [0, 1]
        for title, value in {
            "threshold": 0.8,
            "reach": 1.0,
            "deciding": 0.4,
            "always": 0.75,
            "never": 0.5,
            "gain": 0.1,
        }.items():
            np.testing.assert_allclose(figures(result, title), [value, np.nan])
        assert result.report.reasons[0] == "deciding per sample gains 0.1000 against no exit"
        result = placed(AdaptivePlacement(0.5, min_gain=0.11), small())
        assert result.ends == [1]
        assert result.report.reasons[0] == (
            "deciding per sample gains 0.1000 against no exit, not more than 0.11"
        )

    def test_where_everybody_might_leave_nothing_is_decided(self):
        result = placed(AdaptivePlacement(0.5), small([True] * 4))
        assert result.ends == [1]
        assert figures(result, "threshold")[0] == 0
        assert result.report.reasons[0] == (
            "deciding per sample gains 0.0000 against exiting always, not more than 0"
        )

    def test_where_nobody_should_leave_there_is_no_exit(self):
        result = placed(AdaptivePlacement(0.5), small([False] * 4))
        assert result.ends == [1]
        assert figures(result, "gain")[0] == pytest.approx(-0.05)

    @pytest.mark.parametrize("policy", POLICIES, ids=str)
    @pytest.mark.parametrize("decimals", [None, 1])
    @pytest.mark.parametrize("seed", range(8))
    def test_nothing_is_left_to_change(self, seed, policy, decimals):
        """Each exit kept has the best threshold given the others, and gains enough."""
        price, min_gain = [(0.05, 0.0), (0.4, 0.0), (0.7, 0.002), (0.2, 0.01)][seed % 4]
        n_rows = 120
        probed = simulated(
            seed, n_rows, 7, policy=policy, weighted=seed % 2 == 1, decimals=decimals
        )
        result = placed(AdaptivePlacement(price, min_gain=min_gain), probed)
        _, costs = probed.subset(result.ends)
        scores = policy.score(probed.table.probabilities[:, result.ends])
        thresholds = figures(result, "threshold")[result.ends[:-1]]
        unit = probed.stages.sum() + probed.heads[-1]

        def lost(rows, at, threshold):
            """By the rows that reach an exit, and their share."""
            total = share = 0.0
            given_ = [*thresholds[:at], threshold, *thresholds[at + 1 :]]
            for row in rows:
                exit_ = naive_exit(scores[row], given_)
                if exit_ >= at:
                    wrong = probed.samples.y[row] != probed.table.labels[row, result.ends[exit_]]
                    total += probed.samples.calibration_weight[row] * (wrong + price * costs[exit_])
                    share += probed.samples.calibration_weight[row]
            return total / probed.samples.calibration_weight[
                rows
            ].sum(), share / probed.samples.calibration_weight[rows].sum()

        learn, judge = np.arange(0, n_rows, 2), np.arange(1, n_rows, 2)
        for at, place in enumerate(result.ends[:-1]):
            best = min(lost(learn, at, t)[0] for t in {0.0, np.inf, *scores[learn, at]})
            assert lost(learn, at, thresholds[at])[0] == pytest.approx(best, abs=1e-9)
            deciding, share = lost(judge, at, thresholds[at])
            always, _ = lost(judge, at, 0.0)
            head = (probed.heads[place] + probed.decisions[place]) / unit
            never = lost(judge, at, np.inf)[0] - price * head * share
            told = [figures(result, t)[place] for t in ("reach", "deciding", "always", "never")]
            assert told == pytest.approx([share, deciding, always, never], abs=1e-9)
            assert min(always, never) - deciding > min_gain

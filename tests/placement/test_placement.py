import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skearlyexit.placement import Candidates, CostRatio, CostShare, FixedExits, PlacementReport
from skearlyexit.placement._cost_share import SCHEDULES
from skearlyexit.placement._resolve import resolve_placement

block_costs = st.lists(st.one_of(st.just(0), st.integers(1, 10**6)), min_size=1, max_size=12)


def candidates(macs):
    return Candidates([f"block{i}" for i in range(len(macs))], np.array(macs, dtype=np.float64))


def naive_ends(macs, n_exits):
    """All choices of different places, one after each group of blocks that ends in free ones."""
    places = [i for i in range(len(macs) - 1) if macs[i + 1] and any(macs[: i + 1])]
    last = len(macs) - 1
    if n_exits > len(places):
        return [[*places, last]]
    total = sum(macs)

    def missed(ends):
        spent = [sum(macs[: end + 1]) for end in ends]
        return sum(abs(n_exits * cost - (i + 1) * total) for i, cost in enumerate(spent))

    choices = list(itertools.combinations(places, n_exits - 1))
    least = min(map(missed, choices))
    return [[*ends, last] for ends in choices if missed(ends) <= least + 1e-9 * n_exits * total]


class TestCostShare:
    @settings(deadline=None, max_examples=300)
    @given(block_costs, st.integers(1, 8))
    def test_is_where_the_cost_is_nearest_to_each_share(self, macs, n_exits):
        expected = naive_ends(macs, n_exits)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert CostShare(n_exits).place(candidates(macs)).ends in expected
        n_placed = len(expected[0])
        assert [str(w.message).split(".")[0] for w in caught] == (
            [f"The backbone holds {n_placed} of the {n_exits} exits asked for"]
            if n_placed < n_exits
            else []
        )

    @pytest.mark.parametrize("unit", [1, 0.1, 1 / 3, 1e9])
    def test_shares_reached_exactly_stay_whatever_the_unit(self, unit):
        for n_exits in range(1, 13):
            placed = CostShare(n_exits).place(candidates(np.full(12 * n_exits, unit)))
            assert placed.ends == [12 * (i + 1) - 1 for i in range(n_exits)]

    def test_free_blocks_belong_to_the_exit_before_them(self):
        assert CostShare(2).place(candidates([5, 0, 0, 5, 0])).ends == [2, 4]
        assert CostShare(2).place(candidates([0, 0, 5, 5])).ends == [2, 3]

    def test_all_candidates_if_there_are_fewer(self):
        with pytest.warns(UserWarning, match="holds 3 of the 4 exits asked for.*fewer exits"):
            assert CostShare(4).place(candidates([1, 98, 1])).ends == [0, 1, 2]

    def test_one_that_is_before_its_share(self):
        # Cost so far: 28, 81, 100. The first that reaches a third would be the second.
        assert CostShare(3).place(candidates([28, 53, 19])).ends == [0, 1, 2]

    def test_network_without_a_cost_has_one_exit(self):
        with pytest.warns(UserWarning, match="holds 1 of the 2"):
            assert CostShare(2).place(candidates([0, 0, 0])).ends == [2]

    def test_report(self):
        report = CostShare(3).place(candidates([10, 0, 50, 20, 20])).report
        assert str(report) == "\n".join(
            [
                "CostShare(n_exits=3)",
                "block     cost  exit  why",
                "block1   10.0%   yes  nearest to 33.3%",
                "block2   60.0%   yes  nearest to 66.7%",
                "block3   80.0%     -  no share is nearest to it",
                "block4  100.0%   yes  the end",
            ]
        )

    @pytest.mark.parametrize("n_exits", [0, -1])
    def test_needs_an_exit(self, n_exits):
        with pytest.raises(ValueError, match=f"'n_exits' parameter of CostShare .* Got {n_exits}"):
            resolve_placement(CostShare(n_exits))


class TestCostRatio:
    @pytest.mark.filterwarnings("ignore:No sample exits early")
    @settings(deadline=None, max_examples=300)
    @given(block_costs, st.floats(1, 4), st.floats(0, 0.5))
    def test_costs_grow_by_the_ratio(self, macs, ratio, first):
        placement = CostRatio(ratio, first=first)
        placed = placement.place(candidates(macs))
        spent = np.cumsum(macs)
        costs = spent[placed.ends]
        assert placed.ends[-1] == len(macs) - 1
        if len(costs) > 1:
            assert costs[0] >= first * costs[-1] * (1 - 1e-9)
            assert (costs[1:] >= ratio * costs[:-1] * (1 - 1e-9)).all()
        # None of the others could be added before the exit that follows it.
        places = {end for end in candidates(macs).places if spent[end]}
        for end in places - set(placed.ends):
            before = max((e for e in placed.ends if e < end), default=None)
            near = 0.0 if before is None else ratio * spent[before]
            early = max(near, first * spent[-1])
            assert spent[end] <= early * (1 + 1e-9) or spent[end] * ratio >= spent[-1] * (1 - 1e-9)

    @pytest.mark.parametrize(
        ("macs", "says"),
        [
            ([90, 5, 5], r"The first candidate, 'block0', has 90% of it\. Give fewer features"),
            ([100], "list_exits"),
            ([0, 100], "list_exits"),
        ],
    )
    def test_what_to_do_without_a_candidate(self, macs, says):
        with pytest.warns(UserWarning, match=says):
            CostRatio().place(candidates(macs))

    def test_report(self):
        report = CostRatio(2, first=0.1).place(candidates([5, 10, 5, 40, 40])).report
        assert str(report) == "\n".join(
            [
                "CostRatio(first=0.1, ratio=2)",
                "block     cost  exit  why",
                "block0    5.0%     -  too early",
                "block1   15.0%   yes  the first",
                "block2   20.0%     -  too close to the exit before",
                "block3   60.0%     -  too close to the end",
                "block4  100.0%   yes  the end",
            ]
        )

    def test_is_the_default(self):
        assert isinstance(resolve_placement("auto"), CostRatio)

    @pytest.mark.parametrize("params", [{"ratio": 0.9}, {"first": 1.5}])
    def test_invalid(self, params):
        with pytest.raises(ValueError, match=f"'{next(iter(params))}' parameter of CostRatio"):
            resolve_placement(CostRatio(**params))


class TestSchedules:
    #: A hundred blocks of equal cost: block i ends at (i + 1) %.
    blocks = candidates(np.ones(100))

    @pytest.mark.parametrize(
        ("schedule", "n_exits", "percent"),
        [
            ("linear", 5, [20, 40, 60, 80, 100]),
            ("sdn", 7, [15, 30, 45, 60, 75, 90, 100]),
            ("sdn", 4, [30, 60, 90, 100]),
            ("pareto", 5, [20, 36, 49, 59, 100]),  # 20, 36, 48.8, 59.04
            ("fine", 5, [5, 10, 14, 19, 100]),  # 5, 9.75, 14.26, 18.55
            ("golden", 5, [15, 24, 38, 62, 100]),  # 14.6, 23.6, 38.2, 61.8
            ([0.101, 0.5, 0.9], 4, [10, 50, 90, 100]),
            ((0.25,), 9, [25, 100]),
            (np.array([0.3]), 4, [30, 100]),
            ([], 4, [100]),
        ],
    )
    def test_by_hand(self, schedule, n_exits, percent):
        placed = resolve_placement(CostShare(n_exits, schedule=schedule)).place(self.blocks)
        assert [end + 1 for end in placed.ends] == percent
        assert np.flatnonzero(placed.report.chosen).tolist() == placed.ends

    @pytest.mark.parametrize("schedule", SCHEDULES)
    def test_one_exit_is_the_end(self, schedule):
        assert CostShare(1, schedule=schedule).place(self.blocks).ends == [99]

    @pytest.mark.parametrize("schedule", [[0.0, 0.5], [1.0], [-0.1], [[0.5]], [np.nan]])
    def test_no_shares(self, schedule):
        with pytest.raises(ValueError, match=r"shares of the cost between 0 and 1\. Got"):
            CostShare(schedule=schedule).place(self.blocks)

    def test_unknown_name(self):
        with pytest.raises(ValueError, match=r"'schedule' parameter of CostShare .* Got 'gold'"):
            resolve_placement(CostShare(schedule="gold"))


class TestCandidates:
    @settings(deadline=None)
    @given(block_costs, st.data())
    def test_places(self, costs, data):
        """Natural ones, and of several at the same cost the last."""
        flags = st.lists(st.booleans(), min_size=len(costs), max_size=len(costs))
        natural = data.draw(st.one_of(st.none(), flags))
        blocks = replace(candidates(costs), natural=natural)
        expected = {}
        for i in range(len(costs)):
            if natural is None or natural[i] or i == len(costs) - 1:
                expected[sum(costs[: i + 1])] = i
        assert blocks.places.tolist() == sorted(expected.values())

    def test_automatic_exits_stand_at_natural_places_only(self):
        natural = [False, True, False, False, True, False]
        blocks = Candidates(list("abcdef"), np.ones(6), natural=natural)
        placed = CostShare(3).place(blocks)
        assert placed.ends == [1, 4, 5]
        assert placed.report.names == ["b", "e", "f"]
        np.testing.assert_allclose(placed.report.shares, [2 / 6, 5 / 6, 1])
        # By name an exit may stand anywhere.
        assert FixedExits(["c"]).place(blocks).ends == [2, 5]


@pytest.mark.parametrize("schedule", [[0.6, 0.2], [0.2, 0.2, 0.6], (0.2, 0.6, 0.2)])
def test_shares_in_another_order_or_given_twice_are_refused(schedule):
    with pytest.raises(ValueError, match="must be ascending and name each share once") as error:
        CostShare(schedule=schedule).place(candidates([1, 1, 1, 1]))
    assert str(error.value).endswith(f"Got {schedule!r}; give [0.2, 0.6].")


class TestFixedExits:
    blocks = Candidates(["stem", "a", "b", "c"], np.ones(4))

    @pytest.mark.parametrize(
        ("given_", "expected"),
        [
            (["stem", "b"], [0, 2, 3]),
            (["stem", 1], [0, 1, 3]),
            ([-2], [2, 3]),
            ([-4, -1], [0, 3]),
            (["c"], [3]),
            ([np.int64(1), "b"], [1, 2, 3]),
            ([], [3]),
        ],
    )
    def test_names_and_indices(self, given_, expected):
        assert FixedExits(given_).place(self.blocks).ends == expected

    def test_aliases(self):
        blocks = Candidates(["conv", "relu", "fc"], np.ones(3), aliases={"features.1": 1})
        placed = FixedExits(["conv", "features.1"]).place(blocks)
        assert placed.ends == [0, 1, 2]
        assert str(placed.report) == "\n".join(
            [
                "exits=['conv', 'features.1']",
                "block    cost  exit  why",
                "conv    33.3%   yes  asked for as 'conv'",
                "relu    66.7%   yes  asked for as 'features.1'",
                "fc     100.0%   yes  the end",
            ]
        )

    @pytest.mark.parametrize(
        ("given_", "in_order"),
        [
            (["b", "stem"], ["stem", "b"]),
            ([-2, 1], [1, -2]),
            (["stem", "c", "a"], ["stem", "a", "c"]),
        ],
    )
    def test_another_order_than_the_network_s_is_refused(self, given_, in_order):
        with pytest.raises(ValueError, match="in the order of the network") as error:
            FixedExits(given_).place(self.blocks)
        assert str(error.value).endswith(f"Got {given_!r}; give {in_order!r}.")

    @pytest.mark.parametrize("given_", [["a", "a"], [1, "a"], ["c", -1], [2, -2], ["stem", 3, "c"]])
    def test_the_same_block_twice_is_refused(self, given_):
        first, second = given_[-2:]
        with pytest.raises(ValueError, match="must name each block once") as error:
            FixedExits(given_).place(self.blocks)
        assert str(error.value).endswith(f"{first!r} and {second!r} are the same block.")

    def test_a_name_of_a_block_comes_before_an_alias(self):
        blocks = Candidates(["a", "b", "c"], np.ones(3), aliases={"b": 0})
        assert FixedExits(["b"]).place(blocks).ends == [1, 2]

    def test_obstacles(self):
        blocks = Candidates(
            ["a", "b"], np.ones(2), obstacles={"a.conv": "the sum needs its input."}
        )
        with pytest.raises(ValueError) as error:
            FixedExits(["a.conv"]).place(blocks)
        assert str(error.value) == (
            "The 'exits' parameter names 'a.conv', after which no exit can be placed: "
            "the sum needs its input."
        )

    def test_large_network_tells_names_that_look_alike(self):
        names = [f"layer{i // 10}.{i % 10}" for i in range(60)]
        with pytest.raises(ValueError, match=r"60, which skearlyexit.list_exits shows") as error:
            FixedExits(["layer3_4"]).place(Candidates(names, np.ones(60)))
        assert "'layer3.4'" in str(error.value)
        assert len(str(error.value)) < 400

    @pytest.mark.parametrize("unknown", ["head", 4, -5, 1.0, None])
    def test_unknown_block(self, unknown):
        with pytest.raises(ValueError) as error:
            FixedExits(["stem", unknown]).place(self.blocks)
        assert str(error.value) == (
            f"The 'exits' parameter names {unknown!r}, which is no block of the backbone. Its "
            "blocks are ['stem', 'a', 'b', 'c'], or the indices 0 to 3."
        )


class TestResolve:
    def test_kinds(self):
        blocks = candidates([1, 1, 1, 1])
        assert resolve_placement(2).place(blocks).ends == [1, 3]
        assert resolve_placement(np.int64(4)).place(blocks).ends == [0, 1, 2, 3]
        assert resolve_placement((0, "block1")).place(blocks).ends == [0, 1, 3]
        assert resolve_placement(np.array([0, 2])).place(blocks).ends == [0, 2, 3]

    def test_placement_object_is_copied(self):
        mine = CostShare(3)
        resolved = resolve_placement(mine)
        assert resolved is not mine
        assert resolved.get_params() == {"n_exits": 3, "schedule": "linear"}


class TestReport:
    report = PlacementReport(
        "Method(<1>)",
        ["a", "long name"],
        np.array([0.5, 1.0]),
        np.array([False, True]),
        ["too dear", ""],
        {"gain": np.array([0.123456, np.nan]), "share": np.array([-2.0, 100.0])},
    )

    def test_text(self):
        assert str(self.report) == "\n".join(
            [
                "Method(<1>)",
                "block        cost    gain  share  exit  why",
                "a           50.0%  0.1235     -2     -  too dear",
                "long name  100.0%            100   yes",
            ]
        )
        assert self.report._repr_html_().startswith("<pre>Method(&lt;1&gt;)\nblock")

    def test_frame(self):
        frame = self.report.to_frame()
        assert frame.columns.tolist() == (
            ["block", "share of cost", "gain", "share", "exit", "reason"]
        )
        assert frame["share of cost"].tolist() == [0.5, 1.0]
        assert frame["exit"].tolist() == [False, True]
        assert frame["gain"].isna().tolist() == [False, True]
        assert frame["reason"].tolist() == ["too dear", ""]

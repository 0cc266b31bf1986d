import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skearlyexit.placement import Candidates, CostShare, FixedExits, resolve_placement

block_costs = st.lists(st.one_of(st.just(0), st.integers(1, 10**6)), min_size=1, max_size=12)


def candidates(macs):
    return Candidates([f"block{i}" for i in range(len(macs))], np.array(macs, dtype=np.float64))


def naive_ends(macs, n_exits):
    """Walk the blocks for each share, in whole numbers; free blocks after it belong to it."""
    ends = set()
    for share in range(1, n_exits + 1):
        end, spent = 0, macs[0]
        while spent * n_exits < share * sum(macs):
            end += 1
            spent += macs[end]
        while end + 1 < len(macs) and macs[end + 1] == 0:
            end += 1
        ends.add(end)
    return sorted(ends | {len(macs) - 1})


class TestCostShare:
    @settings(deadline=None, max_examples=300)
    @given(block_costs, st.integers(1, 8))
    def test_is_where_the_cost_first_reaches_each_share(self, macs, n_exits):
        expected = naive_ends(macs, n_exits)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert CostShare(n_exits).place(candidates(macs)) == expected
        assert [str(w.message).split(":")[0] for w in caught] == (
            [f"The backbone holds {len(expected)} of the {n_exits} exits asked for"]
            if len(expected) < n_exits
            else []
        )

    @pytest.mark.parametrize("unit", [1, 0.1, 1 / 3, 1e9])
    def test_shares_reached_exactly_stay_whatever_the_unit(self, unit):
        for n_exits in range(1, 13):
            ends = CostShare(n_exits).place(candidates(np.full(12 * n_exits, unit)))
            assert ends == [12 * (i + 1) - 1 for i in range(n_exits)]

    def test_free_blocks_belong_to_the_exit_before_them(self):
        assert CostShare(2).place(candidates([5, 0, 0, 5, 0])) == [2, 4]
        assert CostShare(2).place(candidates([0, 0, 5, 5])) == [2, 3]

    def test_coinciding_shares_are_one_exit(self):
        with pytest.warns(UserWarning, match="holds 2 of the 4 exits asked for.*fewer exits"):
            assert CostShare(4).place(candidates([1, 98, 1])) == [1, 2]

    def test_network_without_a_cost_has_one_exit(self):
        with pytest.warns(UserWarning, match="holds 1 of the 2"):
            assert CostShare(2).place(candidates([0, 0, 0])) == [2]

    @pytest.mark.parametrize("n_exits", [0, -1])
    def test_needs_an_exit(self, n_exits):
        with pytest.raises(ValueError, match=f"'n_exits' parameter of CostShare .* Got {n_exits}"):
            resolve_placement(CostShare(n_exits))


class TestFixedExits:
    blocks = Candidates(["stem", "a", "b", "c"], np.ones(4))

    @pytest.mark.parametrize(
        ("given_", "expected"),
        [
            (["stem", "b"], [0, 2, 3]),
            ([1, "stem"], [0, 1, 3]),
            ([-2], [2, 3]),
            ([-4, -1], [0, 3]),
            (["c", 3, -1], [3]),
            ([np.int64(1), "a"], [1, 3]),
            ([], [3]),
        ],
    )
    def test_names_and_indices(self, given_, expected):
        assert FixedExits(given_).place(self.blocks) == expected

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
        assert resolve_placement(2).place(blocks) == [1, 3]
        assert resolve_placement(np.int64(4)).place(blocks) == [0, 1, 2, 3]
        assert resolve_placement(("block1", 0)).place(blocks) == [0, 1, 3]
        assert resolve_placement(np.array([0, 2])).place(blocks) == [0, 2, 3]

    def test_placement_object_is_copied(self):
        mine = CostShare(3)
        resolved = resolve_placement(mine)
        assert resolved is not mine
        assert resolved.get_params() == {"n_exits": 3}

"""Placement after blocks given by the user."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from skearlyexit._utils._names import block_index
from skearlyexit.placement._base import Candidates, Placed, Placement, Probe, placed_at

#: Largest number of names that an error message lists.
MAX_NAMES = 40


class FixedExits(Placement):
    """Placement after blocks given by index or name.

    The end of the network is always an exit as well.

    Parameters
    ----------
    blocks : sequence of int or str
        Indices or names of the blocks, in the order of the network and each of them once. Negative
        indices count from the end.

    Examples
    --------
    >>> import numpy as np
    >>> FixedExits(["stem", -2]).place(Candidates(["stem", "a", "b", "c"], np.ones(4))).ends
    [0, 2, 3]
    """

    def __init__(self, blocks: Sequence[int | str]) -> None:
        self.blocks = blocks

    def place(self, candidates: Candidates, probe: Probe | None = None) -> Placed:
        if isinstance(self.blocks, str):
            raise ValueError(
                f"FixedExits needs a sequence of blocks. Got {self.blocks!r} instead; give "
                f"[{self.blocks!r}]."
            )
        end = len(candidates.names) - 1
        asked: dict[int, int | str] = {}
        for block in self.blocks:
            index = self._index(block, candidates)
            if index in asked:
                raise ValueError(
                    f"The 'exits' parameter must name each block once. Got {list(self.blocks)!r}, "
                    f"in which {asked[index]!r} and {block!r} are the same block."
                )
            asked[index] = block
        in_order = [asked[index] for index in sorted(asked)]
        if in_order != list(asked.values()):
            raise ValueError(
                "The 'exits' parameter must name blocks in the order of the network, since heads "
                f"and thresholds are given in that order. Got {list(self.blocks)!r}; give "
                f"{in_order!r}."
            )
        ends = sorted({*asked, end})
        reasons = [f"asked for as {asked[i]!r}" if i in asked else "the end" for i in ends]
        method = f"exits={list(self.blocks)!r}"
        return placed_at(range(len(ends)), ends, candidates, method, reasons)

    def _index(self, block: int | str, candidates: Candidates) -> int:
        names = candidates.names
        index = block_index(block, names, candidates.aliases)
        if index is not None:
            return index
        if isinstance(block, str) and block in candidates.obstacles:
            raise ValueError(
                f"The 'exits' parameter names {block!r}, after which no exit can be placed: "
                f"{candidates.obstacles[block]}"
            )
        raise ValueError(
            f"The 'exits' parameter names {block!r}, which is no block of the backbone. Its blocks "
            f"are {_shown(names, block)}, or the indices 0 to {len(names) - 1}."
        )


def _shown(names: list[str], block: int | str) -> str:
    """All names of the blocks, or those similar to a name if there are many."""
    if len(names) <= MAX_NAMES:
        return str(names)
    near = get_close_matches(str(block), names, n=8, cutoff=0.3)
    return f"{len(names)}, which skearlyexit.list_exits shows (among them {near or names[:8]})"

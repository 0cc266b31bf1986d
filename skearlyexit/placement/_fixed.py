"""Exits that the user names."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

from skearlyexit.placement._base import Candidates, Placement


class FixedExits(Placement):
    """Exits after the blocks given by index or name; the end of the network is always one.

    Parameters
    ----------
    blocks : sequence of int or str
        In any order. Negative indices count from the end.

    Examples
    --------
    >>> import numpy as np
    >>> FixedExits(["stem", -2]).place(Candidates(["stem", "a", "b", "c"], np.ones(4)))
    [0, 2, 3]
    """

    def __init__(self, blocks: Sequence[int | str]) -> None:
        self.blocks = blocks

    def place(self, candidates: Candidates) -> list[int]:
        """Choose the exits; see `Placement.place`."""
        n_blocks = len(candidates.names)
        return sorted(
            {self._index(block, candidates.names) for block in self.blocks} | {n_blocks - 1}
        )

    def _index(self, block: int | str, names: list[str]) -> int:
        if isinstance(block, str) and block in names:
            return names.index(block)
        if isinstance(block, Integral) and -len(names) <= block < len(names):
            return int(block) % len(names)
        raise ValueError(
            f"The 'exits' parameter names {block!r}, which is no block of the backbone. Its blocks "
            f"are {names}, or the indices 0 to {len(names) - 1}."
        )

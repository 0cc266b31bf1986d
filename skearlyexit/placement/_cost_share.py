"""Exits at shares of the backbone's cost."""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval

from skearlyexit.placement._base import Candidates, Placement


class CostShare(Placement):
    """Exits where the backbone's cumulative cost first reaches given shares of the total.

    Blocks that cost nothing (activations, pooling) belong to the block before them, so that the
    exit stands after them. Two shares reached at the same block become one exit.

    Parameters
    ----------
    n_exits : int, default=4
        Number of exits, the last included, at equal shares of the cost.

    References
    ----------
    Kaya, Hong, Dumitras, "Shallow-deep networks: understanding and mitigating network
    overthinking", ICML 2019.

    Examples
    --------
    >>> import numpy as np
    >>> CostShare(2).place(Candidates(["a", "relu", "b", "c"], np.array([5.0, 0, 2, 3])))
    [1, 3]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_exits": [Interval(Integral, 1, None, closed="left")]
    }

    def __init__(self, n_exits: int = 4) -> None:
        self.n_exits = n_exits

    def place(self, candidates: Candidates) -> list[int]:
        """Choose the exits; see `Placement.place`. Warns if the network cannot hold them all."""
        cumulative = np.cumsum(candidates.macs)
        wanted = cumulative[-1] * np.arange(1, self.n_exits + 1) / self.n_exits
        # Rounding must not push a share that is reached exactly to the next block.
        first = np.searchsorted(cumulative, wanted * (1 - 1e-12), side="left")
        ends = np.searchsorted(cumulative, cumulative[first], side="right") - 1
        placed = sorted({int(end) for end in ends} | {len(cumulative) - 1})
        if len(placed) < self.n_exits:
            warnings.warn(
                f"The backbone holds {len(placed)} of the {self.n_exits} exits asked for: some "
                "shares of its cost are reached within the same block. Ask for fewer exits, or "
                "name the blocks.",
                UserWarning,
                stacklevel=2,
            )
        return placed

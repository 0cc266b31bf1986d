"""Costs that the user knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from skearlyexit._utils._names import block_index
from skearlyexit.costs._base import Cost
from skearlyexit.costs._parts import CostInput, CostMeasurement


class GivenCost(Cost):
    """Costs that were found elsewhere, such as joules on the device in question.

    Parameters
    ----------
    blocks : array-like of shape (n_blocks,) or dict of str to float
        Cost per row of each block of the network, which `skearlyexit.list_exits` names; or, by
        name, the cost of all blocks after the one named before, up to and with this one; exits
        may then stand after these blocks only. The end of the network has to be among them.
    heads : float or array-like of shape (n_exits,), default=0.0
        Cost per row of each head.
    decision : float, default=0.0
        Cost per row of one decision.
    unit : str, default=""
        Their unit.

    Examples
    --------
    >>> cost = GivenCost({"block1": 3.0, "block3": 5.0}, heads=0.1, unit="mJ")
    >>> cost.of_blocks([], names=["block1", "block2", "block3"], aliases={})
    array([3., 0., 5.])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "blocks": ["array-like", dict],
        "heads": ["array-like", Real],
        "decision": [Real],
        "unit": [str],
    }

    def __init__(
        self,
        blocks: Sequence[float] | Mapping[str, float],
        *,
        heads: float | Sequence[float] = 0.0,
        decision: float = 0.0,
        unit: str = "",
    ) -> None:
        self.blocks = blocks
        self.heads = heads
        self.decision = decision
        self.unit = unit

    @property
    def unit_name(self) -> str:
        """As given."""
        return self.unit

    def read(self, parts: Sequence[CostInput]) -> list[CostMeasurement]:
        """Nothing can be measured of a part alone."""
        raise ValueError("GivenCost knows blocks, heads and decisions of one network only.")

    def check(self, n_exits: int | None) -> None:
        """Refuse a number of heads that is not that of the exits; see `Cost.check`."""
        _checked([self.decision], 1, "decision")
        if not np.ndim(self.heads):
            _checked([self.heads], 1, "heads")
            return
        if n_exits is None:
            raise ValueError(
                "A placement that is chosen by data tries heads at all places; the 'heads' of "
                f"GivenCost must be a single number then. Got {self.heads!r} instead."
            )
        _checked(self.heads, n_exits, "heads")

    def priced_blocks(self, names: Sequence[str], aliases: Mapping[str, int]) -> list[bool]:
        """Those that are named, or all; see `Cost.priced_blocks`."""
        if not isinstance(self.blocks, Mapping):
            return [True] * len(names)
        indices = {block_index(name, names, aliases) for name in self.blocks}
        return [i in indices for i in range(len(names))]

    def of_blocks(
        self, parts: Sequence[CostInput], names: Sequence[str], aliases: Mapping[str, int]
    ) -> np.ndarray:
        """Costs as given; see `Cost.of_blocks`."""
        if not isinstance(self.blocks, Mapping):
            return _checked(self.blocks, len(names), "blocks")
        found = [block_index(name, names, aliases) for name in self.blocks]
        indices = [index for index in found if index is not None]
        if len(set(indices)) < len(found) or len(names) - 1 not in indices:
            raise ValueError(
                "The 'blocks' of GivenCost must be named as those of the network, each once, the "
                f"last one, {names[-1]!r}, among them. Got {list(self.blocks)}; the network has "
                f"{list(names)}."
            )
        costs = np.zeros(len(names))
        costs[indices] = _checked(list(self.blocks.values()), len(indices), "blocks")
        return costs

    def of_cascade(
        self,
        stages: Sequence[CostInput],
        heads: Sequence[CostInput],
        decisions: Sequence[CostInput],
        blocks: np.ndarray,
    ) -> tuple[list[CostMeasurement], list[CostMeasurement], list[CostMeasurement]]:
        """Costs as given; see `Cost.of_cascade`."""
        values = self.heads if np.ndim(self.heads) else [self.heads] * len(heads)
        return (
            [CostMeasurement.exactly(value, "given") for value in blocks],
            [
                CostMeasurement.exactly(value, "given")
                for value in _checked(values, len(heads), "heads")
            ],
            [CostMeasurement.exactly(_checked([self.decision], 1, "decision")[0], "given")]
            * len(decisions),
        )


def _checked(values: Any, n_values: int, name: str) -> np.ndarray:
    costs = np.asarray(values, dtype=np.float64)
    if costs.shape != (n_values,) or not np.all((costs >= 0) & np.isfinite(costs)):
        raise ValueError(
            f"The '{name}' of GivenCost must be {n_values} finite numbers of at least 0. "
            f"Got {values!r} instead."
        )
    return costs

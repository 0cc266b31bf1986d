"""Costs given by the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from skearlyexit._utils._names import block_index
from skearlyexit.costs._base import Cost
from skearlyexit.costs._parts import CostInput, CostMeasurement


class GivenCost(Cost):
    """Costs given by the user, such as joules measured on another device.

    Parameters
    ----------
    blocks : array-like of shape (n_blocks,) or dict of str to float
        Cost per sample of each block of the network, as listed by `skearlyexit.list_exits`. A dict
        maps names of some blocks to costs, each of which includes all blocks since the previous
        one that is named. Exits can then be placed after the named blocks only, and the last block
        must be one of them.
    heads : float or array-like of shape (n_exits,), default=0.0
        Cost per sample of each head. A number applies to all heads.
    decision : float, default=0.0
        Cost per sample of one decision: the computation from the outputs of the heads to a
        prediction and its score. Gates and trained combinations count as further decisions.
    unit : str, default=""
        Unit of the costs.

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
        """Unit of the costs."""
        return self.unit

    def read(self, parts: Sequence[CostInput]) -> list[CostMeasurement]:
        """Raise a ValueError, since the costs of single parts are not known.

        Parameters
        ----------
        parts : sequence of CostInput
            Parts of the network.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError("GivenCost knows blocks, heads and decisions of one network only.")

    def check(self, n_exits: int | None) -> None:
        _checked([self.decision], 1, "decision")
        if not np.ndim(self.heads):
            _checked([self.heads], 1, "heads")
            return
        if n_exits is None:
            raise ValueError(
                "A placement that is chosen by data tries heads at all candidates; the 'heads' of "
                f"GivenCost must be a single number then. Got {self.heads!r} instead."
            )
        _checked(self.heads, n_exits, "heads")

    def priced_blocks(self, names: Sequence[str], aliases: Mapping[str, int]) -> list[bool]:
        if not isinstance(self.blocks, Mapping):
            return [True] * len(names)
        indices = {block_index(name, names, aliases) for name in self.blocks}
        return [i in indices for i in range(len(names))]

    def of_blocks(
        self, parts: Sequence[CostInput], names: Sequence[str], aliases: Mapping[str, int]
    ) -> np.ndarray:
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

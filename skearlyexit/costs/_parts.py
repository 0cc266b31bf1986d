"""Inputs of the cost measurement, and its results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class CostInput:
    """Something that runs on rows: a stage, a head, a decision.

    Attributes
    ----------
    run : callable
        Called as ``run(inputs)``.
    inputs : Tensor, ndarray or tuple of Tensor
        A few rows of what it is called with.
    model : torch.nn.Module, fitted estimator or None
        What it consists of, for counting; None has no memory of its own.
    macs : float or None, default=None
        Operations per row, where they are known without looking at the model.
    pooling : torch.nn.Module or None, default=None
        What the inputs go through before the model, if the model is not a torch module itself.

    Examples
    --------
    >>> import torch
    >>> from skearlyexit.costs import CostInput, MACsCost
    >>> layer = torch.nn.Linear(8, 4)
    >>> part = CostInput(run=layer, inputs=torch.zeros(2, 8), model=layer)
    >>> part.n_rows, part.with_rows(5).shape
    (2, torch.Size([5, 8]))
    >>> MACsCost().read([part])
    [CostMeasurement(value=32.0, low=32.0, high=32.0, how='counted')]
    """

    run: Callable[[Any], Any]
    inputs: Any
    model: Any
    macs: float | None = None
    pooling: torch.nn.Module | None = None

    def with_rows(self, n_rows: int) -> Any:
        """Inputs of this many rows, by repeating those that there are."""
        if isinstance(self.inputs, tuple):
            return tuple(_repeat(tensor, n_rows) for tensor in self.inputs)
        return _repeat(self.inputs, n_rows)

    @property
    def n_rows(self) -> int:
        """Number of rows of the inputs."""
        return len(self.inputs[0] if isinstance(self.inputs, tuple) else self.inputs)


def _repeat(rows: Any, n_rows: int) -> Any:
    if isinstance(rows, np.ndarray):
        return rows[np.arange(n_rows) % len(rows)]
    return rows.index_select(0, torch.arange(n_rows, device=rows.device) % len(rows))


@dataclass(frozen=True)
class CostMeasurement:
    """Cost of a part, per row.

    Attributes
    ----------
    value : float
        In the unit of the cost.
    low, high : float
        Quartiles of what was measured; the value itself where it was counted or given.
    how : {"counted", "measured", "given"}

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.costs import CostMeasurement
    >>> CostMeasurement.of_times(np.array([3.0, 1.0, 2.0, 5.0, 4.0]))
    CostMeasurement(value=3.0, low=2.0, high=4.0, how='measured')
    >>> CostMeasurement.total([CostMeasurement.exactly(40), CostMeasurement.exactly(10)]).value
    50.0
    """

    value: float
    low: float
    high: float
    how: str = "counted"

    @classmethod
    def exactly(cls, value: float, how: str = "counted") -> CostMeasurement:
        """Reading without a spread."""
        return cls(float(value), float(value), float(value), how)

    @classmethod
    def of_times(cls, times: np.ndarray) -> CostMeasurement:
        """Median and quartiles of repeated measurements."""
        low, value, high = np.percentile(times, [25, 50, 75])
        return cls(float(value), float(low), float(high), "measured")

    @classmethod
    def total(cls, readings: Sequence[CostMeasurement]) -> CostMeasurement:
        """Sum of readings, nothing for none."""
        if len(readings) == 1:
            return readings[0]
        values, lows, highs = (
            sum(getattr(each, name) for each in readings) for name in ("value", "low", "high")
        )
        hows = {each.how for each in readings}
        return cls(
            values, lows, highs, "measured" if "measured" in hows else min(hows, default="counted")
        )

    def scaled(self, factor: float) -> CostMeasurement:
        """The same in another unit."""
        return CostMeasurement(self.value * factor, self.low * factor, self.high * factor, self.how)

"""Inputs of the cost measurement, and its results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class CostInput:
    """Input of a cost measurement: a stage, a head or a decision, with input for it.

    Parameters
    ----------
    run : callable
        Function that runs the part, called as ``run(inputs)``.
    inputs : Tensor, ndarray or tuple of Tensor
        Input of the part for a few samples. That of an estimator in a `CascadeClassifier` is of the
        type that the user gave, in a container with a length, which is indexed by arrays.
    model : torch.nn.Module, fitted estimator or None
        Model whose operations and parameters are counted. None if the part has no parameters.
    macs : float or None, default=None
        Operations per sample, if they are known. They are then not counted.
    pooling : torch.nn.Module or None, default=None
        Module that is applied to the input before the model, if the model is not a torch module.

    Examples
    --------
    >>> import torch
    >>> from skearlyexit.costs import CostInput, MACsCost
    >>> layer = torch.nn.Linear(8, 4)
    >>> part = CostInput(run=layer, inputs=torch.zeros(2, 8), model=layer)
    >>> part.n_samples, part.with_samples(5).shape
    (2, torch.Size([5, 8]))
    >>> MACsCost().read([part])
    [CostMeasurement(value=32.0, low=32.0, high=32.0, how='counted')]
    """

    run: Callable[[Any], Any]
    inputs: Any
    model: Any
    macs: float | None = None
    pooling: torch.nn.Module | None = None

    def with_samples(self, n_rows: int) -> Any:
        """Repeat the samples of the input to get a given number.

        Parameters
        ----------
        n_rows : int
            Number of samples.

        Returns
        -------
        inputs : Tensor, ndarray or tuple of Tensor
            Input of the part for this number of samples.
        """
        if isinstance(self.inputs, tuple):
            return tuple(repeat(tensor, n_rows) for tensor in self.inputs)
        return repeat(self.inputs, n_rows)

    @property
    def n_samples(self) -> int:
        """Number of samples of the input."""
        return len(self.inputs[0] if isinstance(self.inputs, tuple) else self.inputs)


def repeat(rows: Any, n_rows: int) -> Any:
    """Repeat samples to get a given number."""
    if isinstance(rows, torch.Tensor):
        return rows.index_select(0, torch.arange(n_rows, device=rows.device) % len(rows))
    return rows[np.arange(n_rows) % len(rows)]


@dataclass(frozen=True)
class CostMeasurement:
    """Result of a cost measurement: the cost per sample of a part.

    Parameters
    ----------
    value : float
        The cost. If measured repeatedly, it is the median.
    low, high : float
        Lower and upper quartile of repeated measurements. Equal to `value` if the cost was counted
        or given.
    how : {"counted", "measured", "given"}, default="counted"
        How the cost was determined.

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
        """Create the measurement of a cost that is known exactly.

        Parameters
        ----------
        value : float
            The cost.
        how : {"counted", "measured", "given"}, default="counted"
            How the cost was determined.

        Returns
        -------
        measurement : CostMeasurement
            Measurement whose quartiles are equal to the value.
        """
        return cls(float(value), float(value), float(value), how)

    @classmethod
    def of_times(cls, times: np.ndarray) -> CostMeasurement:
        """Create the measurement from repeated timings.

        Parameters
        ----------
        times : ndarray of shape (n_repeats,)
            Time per sample of each repetition.

        Returns
        -------
        measurement : CostMeasurement
            Median and quartiles of the times.
        """
        low, value, high = np.percentile(times, [25, 50, 75])
        return cls(float(value), float(low), float(high), "measured")

    @classmethod
    def total(cls, readings: Sequence[CostMeasurement]) -> CostMeasurement:
        """Sum several measurements.

        Parameters
        ----------
        readings : sequence of CostMeasurement
            Measurements; their sum is 0 if there is none.

        Returns
        -------
        total : CostMeasurement
            Sums of the values and of the quartiles. It is marked as measured if any of the
            measurements is.
        """
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
        """Convert the measurement to another unit.

        Parameters
        ----------
        factor : float
            Factor by which the value and the quartiles are multiplied.

        Returns
        -------
        scaled : CostMeasurement
            The converted measurement.
        """
        return CostMeasurement(self.value * factor, self.low * factor, self.high * factor, self.how)


#: Measurements of the stages, of the heads and of the decisions, one for each exit.
PartMeasurements = tuple[list[CostMeasurement], list[CostMeasurement], list[CostMeasurement]]

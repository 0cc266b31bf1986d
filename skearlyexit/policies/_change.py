"""Change of the predicted values from exit to exit as the score."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval

from skearlyexit._onnx._graph import Graph
from skearlyexit.policies._base import State
from skearlyexit.policies._regression import RegressionPolicy

#: Changes that exceed a tolerance by less than this are small in ONNX, whose values are rounded to
#: single precision: those of trees are equal but for rounding.
ROUNDING = 1e-6


class ChangePolicy(RegressionPolicy):
    """Policy whose score is high if the predicted value has changed little since the last exit.

    It is for regression. The score is ``1 / (1 + change / scale)``, where `change` is the absolute
    difference of the predicted value from that of the previous exit, in standard deviations of the
    target, or the largest of those of several targets. It is 0 at the first exit.

    Parameters
    ----------
    scale : float, default=0.1
        Change at which the score is 0.5, in standard deviations of the target.

    Examples
    --------
    >>> import numpy as np
    >>> values = np.array([[[0.5], [0.6], [0.6]]])  # 1 sample, 3 exits, 1 target
    >>> ChangePolicy(scale=0.1).score(values)
    array([[0. , 0.5, 1. ]])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "scale": [Interval(Real, 0, None, closed="neither")]
    }
    has_memory: ClassVar[bool] = True

    def __init__(self, scale: float = 0.1) -> None:
        self.scale = scale

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        if state is None:
            return np.zeros(len(probabilities)), probabilities
        return 1.0 / (1.0 + change(state, probabilities) / self.scale), probabilities

    def onnx(
        self,
        graph: Graph,
        state: str | None,
        probabilities: str,
        exit_: int,
        gates: str | None = None,
    ) -> tuple[str, str | None]:
        if state is None:
            return add_zeros(graph, probabilities), probabilities
        relative = graph.op(
            "Div", add_change(graph, state, probabilities), graph.constant(float(self.scale))
        )
        score = graph.op("Reciprocal", graph.op("Add", relative, graph.constant(1.0)))
        return score, probabilities


class TolerancePolicy(RegressionPolicy):
    """Policy whose score is the number of consecutive exits with little change.

    It is for regression. The score is the number of consecutive exits, up to this one, whose
    predicted values differ by at most `tolerance` from those of the previous exit, divided by
    `patience`, at most 1. It is 0 at the first exit.

    Parameters
    ----------
    patience : int, default=1
        Number of such exits for which the score is 1.
    tolerance : float, default=0.05
        Largest absolute difference, in standard deviations of the target. With several targets, it
        holds for each.

    References
    ----------
    Zhou et al., "BERT loses patience: fast and robust inference with early exit", NeurIPS 2020.

    Examples
    --------
    >>> import numpy as np
    >>> values = np.array([[[0.5], [0.52], [0.53]]])  # 1 sample, 3 exits, 1 target
    >>> TolerancePolicy(patience=2, tolerance=0.05).score(values)
    array([[0. , 0.5, 1. ]])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "patience": [Interval(Integral, 1, None, closed="left")],
        "tolerance": [Interval(Real, 0, None, closed="left")],
    }
    has_memory: ClassVar[bool] = True

    def __init__(self, patience: int = 1, *, tolerance: float = 0.05) -> None:
        self.patience = patience
        self.tolerance = tolerance

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        # The state consists of the last values of each sample and its number of small changes.
        n_small = np.zeros(len(probabilities))
        if state is not None:
            is_small = change(state[:, :-1], probabilities) <= self.tolerance
            n_small = np.where(is_small, state[:, -1] + 1, 0.0)
        score = np.minimum(n_small / self.patience, 1.0)
        return score, np.column_stack([probabilities, n_small])

    def onnx(
        self,
        graph: Graph,
        state: str | None,
        probabilities: str,
        exit_: int,
        gates: str | None = None,
    ) -> tuple[str, str | None]:
        axis, none = graph.constant([1]), add_zeros(graph, probabilities)
        n_small = none
        if state is not None:
            before, count = (
                graph.op("Slice", state, graph.constant([start]), graph.constant([stop]), axis)
                for start, stop in ((0, -1), (-1, np.iinfo(np.int64).max))
            )
            more = graph.op("Add", graph.op("Squeeze", count, axis), graph.constant(1.0))
            is_small = graph.op(
                "LessOrEqual",
                add_change(graph, before, probabilities),
                graph.constant(self.tolerance + ROUNDING),
            )
            n_small = graph.op("Where", is_small, more, none)
        share = graph.op("Div", n_small, graph.constant(float(self.patience)))
        score = graph.op("Min", share, graph.constant(1.0))
        column = graph.op("Unsqueeze", n_small, axis)
        return score, graph.op("Concat", probabilities, column, axis=1)


def change(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Largest absolute difference of the values of each sample, shape (n_samples,)."""
    return np.asarray(np.abs(now - before).max(axis=1))


def add_change(graph: Graph, before: str, now: str) -> str:
    """Add `change` to a graph in the ONNX format; name of it."""
    distance = graph.op("Abs", graph.op("Sub", now, before))
    return graph.op("ReduceMax", distance, graph.constant([1]), keepdims=0)


def add_zeros(graph: Graph, values: str) -> str:
    """Add a 0 for each sample, shape (n_samples,)."""
    return graph.op("Expand", graph.constant(0.0), graph.op("Shape", values, start=0, end=1))

"""Difference between the two largest predicted probabilities as the score."""

from __future__ import annotations

import numpy as np

from skearlyexit._onnx._graph import Graph
from skearlyexit.policies._base import Policy, State


class MarginPolicy(Policy):
    """Policy whose score is the difference between the two largest predicted probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> MarginPolicy().step(None, np.array([[0.25, 0.75]]))[0]
    array([0.5])
    """

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        largest = np.partition(probabilities, -2, axis=1)
        return largest[:, -1] - largest[:, -2], None

    def onnx(self, graph: Graph, probabilities: str, exit_: int) -> str:
        largest = graph.op("ReduceMax", probabilities, graph.constant([1]), keepdims=1)
        first = graph.op("ArgMax", probabilities, axis=1, keepdims=1)
        nothing = graph.op("Sub", largest, largest)
        rest = graph.op("ScatterElements", probabilities, first, nothing, axis=1)
        second = graph.op("ReduceMax", rest, graph.constant([1]), keepdims=1)
        return graph.op("Squeeze", graph.op("Sub", largest, second), graph.constant([1]))

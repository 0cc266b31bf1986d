"""Difference between the two largest predicted probabilities as the score."""

from __future__ import annotations

import numpy as np

from skearlyexit._onnx._graph import Graph
from skearlyexit.policies._base import Policy, State
from skearlyexit.policies._features import add_largest, add_margin


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

    def onnx(
        self,
        graph: Graph,
        state: str | None,
        probabilities: str,
        exit_: int,
        gates: str | None = None,
    ) -> tuple[str, str | None]:
        return add_margin(graph, add_largest(graph, probabilities, graph.constant([2]))), None

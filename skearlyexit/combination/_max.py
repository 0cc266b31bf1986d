"""Largest probability of each class over the heads up to an exit."""

from __future__ import annotations

import numpy as np

from skearlyexit._onnx._graph import Graph
from skearlyexit.combination._base import Combination, State


class MaxCombination(Combination):
    """Largest probability that the heads predict for each class, normalized to the sum 1.

    References
    ----------
    Teerapittayanon, McDanel, Kung, "Distributed deep neural networks over the cloud, the edge and
    end devices", ICDCS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> outputs = np.array([[[0.8, 0.2], [0.4, 0.6]]])  # 1 sample, 2 heads
    >>> MaxCombination().answers(outputs).round(3)
    array([[[0.8  , 0.2  ],
            [0.571, 0.429]]])
    """

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        largest = probabilities if state is None else np.maximum(state, probabilities)
        return largest / largest.sum(axis=1, keepdims=True), largest

    def onnx(
        self,
        graph: Graph,
        state: str | None,
        probabilities: str,
        exit_: int,
        gates: str | None = None,
    ) -> tuple[str, str | None]:
        largest = probabilities if state is None else graph.op("Max", state, probabilities)
        total = graph.op("ReduceSum", largest, graph.constant([1]), keepdims=1)
        return graph.op("Div", largest, total), largest

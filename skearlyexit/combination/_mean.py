"""Mean of the heads up to an exit."""

from __future__ import annotations

import numpy as np

from skearlyexit._onnx._graph import Graph
from skearlyexit.combination._base import Combination, State


class MeanCombination(Combination):
    """Mean of the probabilities predicted by the heads up to an exit.

    For heads without predicted probabilities, it is the share of the heads that predict each class.

    Examples
    --------
    >>> import numpy as np
    >>> outputs = np.array([[[0.8, 0.2], [0.2, 0.8]]])  # 1 sample, 2 heads
    >>> MeanCombination().answers(outputs)
    array([[[0.8, 0.2],
            [0.5, 0.5]]])
    """

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        # The state consists of weighted sums and, in its last column, the sum of the weights.
        weight = self._weight(exit_)
        n_rows, n_classes = probabilities.shape
        sums = np.empty((n_rows, n_classes + 1))
        sums[:, :-1], sums[:, -1] = weight * probabilities, weight
        if state is not None:
            sums += state
        return sums[:, :-1] / sums[:, -1:], sums

    def _weight(self, exit_: int) -> float:
        return 1.0

    def obstacle_to_regression(self) -> str:
        return ""

    def onnx(
        self,
        graph: Graph,
        state: str | None,
        probabilities: str,
        exit_: int,
        gates: str | None = None,
    ) -> tuple[str, str | None]:
        weights = [self._weight(i) for i in range(exit_ + 1)]
        sums = graph.op("Mul", probabilities, graph.constant(weights[-1]))
        if state is not None:
            sums = graph.op("Add", sums, state)
        return graph.op("Div", sums, graph.constant(sum(weights))), sums

"""Output of the most confident head up to an exit."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from skearlyexit._onnx._graph import Graph
from skearlyexit.combination._base import Combination, State


class MostConfidentCombination(Combination):
    """Probabilities predicted by the most confident head up to an exit.

    The confidence of a head is its largest predicted probability. Of equally confident heads, the
    last one is used. `temperature_scaling` makes the confidences of different heads comparable.

    Examples
    --------
    >>> import numpy as np
    >>> outputs = np.array([[[0.9, 0.1], [0.4, 0.6]]])  # 1 sample, 2 heads
    >>> MostConfidentCombination().answers(outputs)
    array([[[0.9, 0.1],
            [0.9, 0.1]]])
    """

    needs_probabilities: ClassVar[bool] = True

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        # The state consists of the combined probabilities.
        if state is None:
            return probabilities, probabilities
        is_used = probabilities.max(axis=1) >= state.max(axis=1)
        answer = np.where(is_used[:, None], probabilities, state)
        return answer, answer

    def onnx(
        self,
        graph: Graph,
        state: str | None,
        probabilities: str,
        exit_: int,
        gates: str | None = None,
    ) -> tuple[str, str | None]:
        if state is None:
            return probabilities, probabilities
        here, before = (
            graph.op("ReduceMax", each, graph.constant([1]), keepdims=1)
            for each in (probabilities, state)
        )
        is_used = graph.op("GreaterOrEqual", here, before)
        answer = graph.op("Where", is_used, probabilities, state)
        return answer, answer

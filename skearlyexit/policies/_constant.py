"""The same score for every sample."""

from __future__ import annotations

import numpy as np

from skearlyexit._onnx._graph import Graph
from skearlyexit.policies._base import State
from skearlyexit.policies._regression import RegressionPolicy


class ConstantPolicy(RegressionPolicy):
    """Policy whose score is 1 for every sample, where nothing is to be decided.

    It is for regression.

    Examples
    --------
    >>> import numpy as np
    >>> ConstantPolicy().score(np.array([[[0.5], [0.6]]]))  # 1 sample, 2 exits, 1 target
    array([[1., 1.]])
    """

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        return np.ones(len(probabilities)), None

    def onnx(
        self,
        graph: Graph,
        state: str | None,
        probabilities: str,
        exit_: int,
        gates: str | None = None,
    ) -> tuple[str, str | None]:
        n_rows = graph.op("Shape", probabilities, start=0, end=1)
        return graph.op("Expand", graph.constant(1.0), n_rows), None

"""One minus the normalized entropy of the predicted probabilities as the score."""

from __future__ import annotations

import numpy as np
from scipy.special import entr

from skearlyexit._onnx._graph import Graph
from skearlyexit.policies._base import Policy, State


class EntropyPolicy(Policy):
    """Policy whose score is one minus the normalized entropy of the predicted probabilities.

    The entropy is divided by its maximum, the logarithm of the number of classes. An upper bound b
    on the normalized entropy corresponds to the threshold 1 - b.

    References
    ----------
    Teerapittayanon, McDanel, Kung, "BranchyNet: fast inference via early exiting from deep neural
    networks", ICPR 2016.

    Examples
    --------
    >>> import numpy as np
    >>> EntropyPolicy().step(None, np.array([[0.5, 0.5], [1.0, 0.0]]))[0]
    array([0., 1.])
    """

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        entropy = entr(probabilities).sum(axis=1) / np.log(probabilities.shape[1])
        return np.clip(1.0 - entropy, 0.0, 1.0), None

    def onnx(self, graph: Graph, probabilities: str, exit_: int) -> str:
        # The smallest number in place of 0, whose product with its logarithm is 0 up to rounding.
        positive = graph.op("Max", probabilities, graph.constant(np.finfo(np.float64).tiny))
        terms = graph.op("Mul", probabilities, graph.op("Log", positive))
        axis = graph.constant([1])
        one = graph.constant(1.0)
        total = graph.op("ReduceSum", terms, axis, keepdims=0)
        shape = graph.op("Shape", probabilities, start=1)
        n_classes = graph.op("Squeeze", graph.cast(shape, np.float64))
        score = graph.op("Add", one, graph.op("Div", total, graph.op("Log", n_classes)))
        return graph.op("Clip", score, graph.constant(0.0), one)

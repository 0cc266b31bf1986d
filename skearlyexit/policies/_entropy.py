"""One minus the normalized entropy of the predicted probabilities as the score."""

from __future__ import annotations

import numpy as np
from scipy.special import entr

from skearlyexit._onnx._graph import Graph
from skearlyexit.policies._base import Policy, State
from skearlyexit.policies._features import add_entropy


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

    def onnx(
        self,
        graph: Graph,
        state: str | None,
        probabilities: str,
        exit_: int,
        gates: str | None = None,
    ) -> tuple[str, str | None]:
        one = graph.constant(1.0)
        score = graph.op("Sub", one, add_entropy(graph, probabilities))
        return graph.op("Clip", score, graph.constant(0.0), one), None

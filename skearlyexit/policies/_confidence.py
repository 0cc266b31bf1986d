"""Largest predicted probability as the score."""

from __future__ import annotations

import numpy as np

from skearlyexit._onnx._graph import Graph
from skearlyexit.policies._base import Policy, State


class ConfidencePolicy(Policy):
    """Policy whose score is the largest predicted probability.

    References
    ----------
    Wang et al., "IDK cascades: fast deep learning by learning not to overthink", UAI 2018.

    Examples
    --------
    >>> import numpy as np
    >>> ConfidencePolicy().step(None, np.array([[0.25, 0.75]]))[0]
    array([0.75])
    """

    @property
    def needs_only_largest(self) -> bool:
        kind = type(self)  # which may be derived from this one
        return kind.step is ConfidencePolicy.step and kind.judge is Policy.judge

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        return probabilities.max(axis=1), None

    def onnx(
        self,
        graph: Graph,
        state: str | None,
        probabilities: str,
        exit_: int,
        gates: str | None = None,
    ) -> tuple[str, str | None]:
        return graph.op("ReduceMax", probabilities, graph.constant([1]), keepdims=0), None

"""Number of consecutive agreements with the previous exit as the score."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval

from skearlyexit._onnx._graph import Graph
from skearlyexit.policies._base import Policy, State


class PatiencePolicy(Policy):
    """Policy whose score is the number of consecutive agreements with the previous exit.

    The score is the number of consecutive exits, up to this one, whose prediction agrees with that
    of the previous exit, divided by `patience`, at most 1. It is 0 at the first exit. Predicted
    probabilities are not required.

    Parameters
    ----------
    patience : int, default=1
        Number of agreements for which the score is 1: ``patience + 1`` exits have then predicted
        the same class.

    References
    ----------
    Zhou et al., "BERT loses patience: fast and robust inference with early exit", NeurIPS 2020.

    Examples
    --------
    >>> import numpy as np
    >>> probabilities = np.array([[[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]]])  # 1 sample, 3 exits
    >>> PatiencePolicy(2).score(probabilities)
    array([[0. , 0.5, 1. ]])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "patience": [Interval(Integral, 1, None, closed="left")]
    }
    needs_probabilities: ClassVar[bool] = False
    has_memory: ClassVar[bool] = True

    def __init__(self, patience: int = 1) -> None:
        self.patience = patience

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        # The state consists of the last label of each sample and its number of agreements.
        labels = probabilities.argmax(axis=1)
        if state is None:
            agreements = np.zeros_like(labels)
        else:
            agreements = np.where(labels == state[:, 0], state[:, 1] + 1, 0)
        return (
            np.minimum(agreements / self.patience, 1.0),
            np.stack([labels, agreements], axis=1),
        )

    def onnx(
        self,
        graph: Graph,
        state: str | None,
        probabilities: str,
        exit_: int,
        gates: str | None = None,
    ) -> tuple[str, str | None]:
        labels = graph.cast(graph.op("ArgMax", probabilities, axis=1, keepdims=1), np.float64)
        agreements = none = graph.op("Sub", labels, labels)
        if state is not None:
            before, count = (graph.op("Gather", state, graph.constant([i]), axis=1) for i in (0, 1))
            more = graph.op("Add", count, graph.constant(1.0))
            agreements = graph.op("Where", graph.op("Equal", labels, before), more, none)
        share = graph.op("Div", agreements, graph.constant(float(self.patience)))
        score = graph.op(
            "Squeeze", graph.op("Min", share, graph.constant(1.0)), graph.constant([1])
        )
        return score, graph.op("Concat", labels, agreements, axis=1)

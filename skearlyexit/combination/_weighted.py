"""Weighted product of the heads up to an exit, with given weights."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from skearlyexit._onnx._graph import Graph
from skearlyexit.combination._base import LEAST, Combination, State, add_logs, softmax


class WeightedCombination(Combination):
    """Weighted product of the probabilities predicted by the heads, with given weights.

    The product is normalized to the sum 1 over the classes.

    Parameters
    ----------
    weights : sequence of float of length n_exits
        Exponents of the probabilities predicted by the heads.
    normalize : bool, default=True
        Whether the weights of the heads up to an exit are divided by their sum, so that the product
        is a weighted geometric mean. If True, no weight may be negative and the first must be
        positive.

    See Also
    --------
    GeometricCombination : Weights that are fitted to held-out samples.
    skearlyexit.training.CombinedTraining : Weights that are learned with the network.

    Examples
    --------
    >>> import numpy as np
    >>> outputs = np.array([[[0.5, 0.5], [0.2, 0.8]]])  # 1 sample, 2 heads
    >>> WeightedCombination([1.0, 3.0]).answers(outputs).round(3)
    array([[[0.5  , 0.5  ],
            [0.261, 0.739]]])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "weights": ["array-like"],
        "normalize": ["boolean"],
    }
    needs_probabilities: ClassVar[bool] = True

    def __init__(self, weights: Sequence[float], *, normalize: bool = True) -> None:
        self.weights = weights
        self.normalize = normalize

    def _validate_params(self) -> None:
        super()._validate_params()
        weights = list(self.weights)
        numbers = all(isinstance(each, Real) and np.isfinite(each) for each in weights)
        if not (weights and numbers):
            raise ValueError(
                "The 'weights' of WeightedCombination must be finite numbers, one for each exit. "
                f"Got {self.weights!r} instead."
            )
        if self.normalize and not (min(weights) >= 0 and weights[0] > 0):
            raise ValueError(
                "With normalize=True, the 'weights' of WeightedCombination must not be negative, "
                f"and the first one must be positive. Got {self.weights!r} instead."
            )

    def check(self, n_classes: int, n_exits: int) -> None:
        """Check that there is one weight for each exit.

        Parameters
        ----------
        n_classes : int
            Ignored.
        n_exits : int
            Number of exits, including the last one.

        Raises
        ------
        ValueError
            If the number of weights differs from the number of exits.
        """
        if n_exits != len(self.weights):
            raise ValueError(
                "WeightedCombination needs one weight for each exit, including the last one. Got "
                f"{len(self.weights)} weights for {n_exits} exits."
            )

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        # The state is the weighted sum of the logarithms.
        total = self.weights[exit_] * np.log(np.maximum(probabilities, LEAST))
        if state is not None:
            total += state
        return softmax(total / self._scale(exit_)), total

    def onnx(
        self,
        graph: Graph,
        state: str | None,
        probabilities: str,
        exit_: int,
        gates: str | None = None,
    ) -> tuple[str, str | None]:
        total = graph.op(
            "Mul", add_logs(graph, probabilities), graph.constant(float(self.weights[exit_]))
        )
        if state is not None:
            total = graph.op("Add", total, state)
        scaled = graph.op("Div", total, graph.constant(self._scale(exit_)))
        return graph.op("Softmax", scaled, axis=1), total

    def _scale(self, exit_: int) -> float:
        """Sum of the weights up to an exit, if they are normalized."""
        return float(np.sum(self.weights[: exit_ + 1])) if self.normalize else 1.0

"""Weighted products of all heads so far, the weights given."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from skearlyexit.combination._base import LEAST, Combination, State, softmax


class WeightedCombination(Combination):
    """Weighted product of the probabilities of all heads so far, with given weights.

    Parameters
    ----------
    weights : sequence of float
        One for each exit: exponents of the probabilities.
    normalize : bool, default=True
        Whether the weights of the heads so far are divided by their sum, which makes a geometric
        mean of the product. They may not be negative then, nor the first one 0.

    See Also
    --------
    GeometricCombination : Learns such weights from held-out rows.
    skearlyexit.training.CombinedTraining : Learns them with the network.

    Examples
    --------
    >>> import numpy as np
    >>> rule = WeightedCombination([1.0, 3.0])
    >>> rule.answers(np.array([[[0.5, 0.5], [0.2, 0.8]]])).round(3)
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
                "With normalize=True the 'weights' of WeightedCombination may not be negative, nor "
                f"the first one 0. Got {self.weights!r} instead."
            )

    def check(self, n_classes: int, n_exits: int) -> None:
        """Refuse another number of exits; see `Combination.check`."""
        if n_exits != len(self.weights):
            raise ValueError(
                "WeightedCombination needs one weight for each exit, the last one included. Got "
                f"{len(self.weights)} weights for {n_exits} exits."
            )

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        """Answer at one exit; the state holds the weighted sum of logarithms."""
        total = self.weights[exit_] * np.log(np.maximum(probabilities, LEAST))
        if state is not None:
            total += state
        scale = float(np.sum(self.weights[: exit_ + 1])) if self.normalize else 1.0
        return softmax(total / scale), total

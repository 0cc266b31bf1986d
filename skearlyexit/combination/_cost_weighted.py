"""The mean of all heads so far, the costly ones counting more."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np

from skearlyexit.combination._mean import MeanCombination


class CostWeightedCombination(MeanCombination):
    """Mean of the probabilities of all heads so far, weighted by what it costs to get to each.

    Heads whose cost is timed count as free here, since no two timings are the same.

    Attributes
    ----------
    costs_ : ndarray of shape (n_exits,)
        The weights.

    Examples
    --------
    >>> import numpy as np
    >>> two = np.array([[[0.8, 0.2], [0.2, 0.8]]])
    >>> rule = CostWeightedCombination()
    >>> costs = np.array([0.5, 1.0])
    >>> rule.fit(two[:0], np.empty(0), costs=costs, sample_weight=np.empty(0)).answers(two)
    array([[[0.8, 0.2],
            [0.4, 0.6]]])
    """

    uses_costs: ClassVar[bool] = True

    def fit(
        self, outputs: np.ndarray, y: np.ndarray, *, costs: np.ndarray, sample_weight: np.ndarray
    ) -> Self:
        """Take the costs as weights; see `Combination.fit`."""
        # A network of which all is free counts every head the same.
        self.costs_ = np.where(costs > 0, costs, 0.0) if np.any(costs > 0) else np.ones(len(costs))
        return self

    def _weight(self, exit_: int) -> float:
        return max(float(self.costs_[exit_]), float(np.finfo(np.float64).tiny))

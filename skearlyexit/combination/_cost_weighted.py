"""Mean of the heads up to an exit, weighted by cost."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np

from skearlyexit.combination._mean import MeanCombination


class CostWeightedCombination(MeanCombination):
    """Mean of the probabilities predicted by the heads, weighted by the cost of their exits.

    The weight of a head is the cumulative cost of exiting at its exit. The weights are
    reproducible: where a cost is measured as a time, operations are counted instead, and a part
    whose operations cannot be counted has cost 0.

    Attributes
    ----------
    costs_ : ndarray of shape (n_exits,)
        Weights of the heads.

    Examples
    --------
    >>> import numpy as np
    >>> outputs = np.array([[[0.8, 0.2], [0.2, 0.8]]])  # 1 sample, 2 heads
    >>> none = np.empty(0)  # only the costs are used
    >>> combination = CostWeightedCombination().fit(
    ...     outputs[:0], none, costs=np.array([0.5, 1.0]), sample_weight=none)
    >>> combination.answers(outputs)
    array([[[0.8, 0.2],
            [0.4, 0.6]]])
    """

    uses_costs: ClassVar[bool] = True

    def fit(
        self, outputs: np.ndarray, y: np.ndarray, *, costs: np.ndarray, sample_weight: np.ndarray
    ) -> Self:
        # If all costs are 0, the weights are equal.
        self.costs_ = np.where(costs > 0, costs, 0.0) if np.any(costs > 0) else np.ones(len(costs))
        return self

    def _weight(self, exit_: int) -> float:
        return max(float(self.costs_[exit_]), float(np.finfo(np.float64).tiny))

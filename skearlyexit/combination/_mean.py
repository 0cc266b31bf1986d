"""The mean of all heads so far."""

from __future__ import annotations

import numpy as np

from skearlyexit.combination._base import Combination, State


class MeanCombination(Combination):
    """Mean of the probabilities of all heads so far; of labels it is a vote.

    Examples
    --------
    >>> import numpy as np
    >>> MeanCombination().answers(np.array([[[0.8, 0.2], [0.2, 0.8]]]))
    array([[[0.8, 0.2],
            [0.5, 0.5]]])
    """

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        """Answer at one exit; the state holds weighted sums, and in the last column the weights."""
        weight = self._weight(exit_)
        n_rows, n_classes = probabilities.shape
        sums = np.empty((n_rows, n_classes + 1))
        sums[:, :-1], sums[:, -1] = weight * probabilities, weight
        if state is not None:
            sums += state
        return sums[:, :-1] / sums[:, -1:], sums

    def _weight(self, exit_: int) -> float:
        return 1.0

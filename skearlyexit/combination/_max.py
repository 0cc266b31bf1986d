"""The largest probability of each class."""

from __future__ import annotations

import numpy as np

from skearlyexit.combination._base import Combination, State


class MaxCombination(Combination):
    """Largest probability that any head so far gave to each class, divided by their sum.

    References
    ----------
    Teerapittayanon, McDanel, Kung, "Distributed deep neural networks over the cloud, the edge and
    end devices", ICDCS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> MaxCombination().answers(np.array([[[0.8, 0.2], [0.4, 0.6]]])).round(3)
    array([[[0.8  , 0.2  ],
            [0.571, 0.429]]])
    """

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        """Answer at one exit; the state holds the largest ones."""
        largest = probabilities if state is None else np.maximum(state, probabilities)
        return largest / largest.sum(axis=1, keepdims=True), largest

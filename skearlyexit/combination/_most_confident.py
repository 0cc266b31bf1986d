"""The most confident head so far."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from skearlyexit.combination._base import Combination, State


class MostConfidentCombination(Combination):
    """Answer of the head so far whose most probable class is the most probable; of equals the last.

    Heads are compared by their probabilities, which `temperature_scaling` makes comparable.

    Examples
    --------
    >>> import numpy as np
    >>> MostConfidentCombination().answers(np.array([[[0.9, 0.1], [0.4, 0.6]]]))
    array([[[0.9, 0.1],
            [0.9, 0.1]]])
    """

    needs_probabilities: ClassVar[bool] = True

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        """Answer at one exit; the state is the answer."""
        if state is None:
            return probabilities, probabilities
        surer = probabilities.max(axis=1) >= state.max(axis=1)
        answer = np.where(surer[:, None], probabilities, state)
        return answer, answer

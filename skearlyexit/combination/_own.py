"""What the head at the exit says."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from skearlyexit.combination._base import Combination, State


class OwnCombination(Combination):
    """The answer of the exit at which the row leaves.

    Examples
    --------
    >>> import numpy as np
    >>> OwnCombination().step(None, np.array([[0.25, 0.75]]))[0]
    array([[0.25, 0.75]])
    """

    has_memory: ClassVar[bool] = False

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        """Answer at one exit; see `Combination.step`."""
        return probabilities, None

    def macs(self, n_classes: int, exit_: int = 0) -> float:
        """Nothing."""
        return 0.0

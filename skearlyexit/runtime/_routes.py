"""Which samples of a run skip an exit."""

from __future__ import annotations

import numpy as np


class Routes:
    """Exits that the samples of a run skip, by their score at the first exit.

    Parameters
    ----------
    least : ndarray of shape (n_exits,)
        Least first score with which each exit is asked.
    n_samples : int
        Number of samples.
    """

    def __init__(self, least: np.ndarray, n_samples: int) -> None:
        self.least = least
        self.first = np.empty(n_samples)

    def note(self, exit_: int, rows: np.ndarray, score: np.ndarray) -> None:
        """Store the scores of samples, by index, if the exit is the first."""
        if exit_ == 0:
            self.first[rows] = score

    def asked(self, exit_: int, rows: np.ndarray) -> np.ndarray | None:
        """Positions in `rows` of the samples for which an exit is asked. None if it is for all."""
        if exit_ == 0 or self.least[exit_] == -np.inf:
            return None
        asked = np.flatnonzero(self.first[rows] >= self.least[exit_])
        return None if len(asked) == len(rows) else asked

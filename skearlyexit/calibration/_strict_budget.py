"""Number of samples of a batch that have to exit at each exit to keep a budget."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class StrictBudget:
    """Budget that is kept on every batch of samples.

    Attributes
    ----------
    budget : float
        Maximum mean cost per sample.
    costs : ndarray of shape (n_exits,)
        Cumulative cost of exiting at each exit.
    onward : ndarray of shape (n_exits - 1,)
        For each exit but the last, cost reserved for a sample that continues after it: the mean
        cost of such calibration samples, and at least that of the next exit.
    """

    budget: float
    costs: np.ndarray
    onward: np.ndarray

    @classmethod
    def of_shares(cls, budget: float, costs: np.ndarray, shares: np.ndarray) -> StrictBudget:
        """Make a strict budget from the exit rates of the calibration samples.

        Parameters
        ----------
        budget : float
            At least the mean cost of these exit rates, unless they are those of weighted samples.
        costs, shares : ndarray of shape (n_exits,)
            Cumulative costs and exit rates.
        """
        beyond = np.cumsum(shares[::-1])[::-1][1:]
        spent = np.cumsum((shares * costs)[::-1])[::-1][1:]
        # If no calibration sample continued after an exit, the cost of the next exit is reserved.
        onward = np.where(beyond > 1e-12, spent / np.maximum(beyond, 1e-300), costs[1:])
        return cls(budget, costs, np.maximum(onward, costs[1:]))

    def n_leaving(self, exit_: int, n_samples: int, left: float) -> int:
        """Minimum number of samples that have to exit at an exit.

        Parameters
        ----------
        exit_ : int
            Index of an exit other than the last.
        n_samples : int
            Number of samples that reach the exit.
        left : float
            Remaining budget of the batch for these samples.
        """
        saved = self.onward[exit_] - self.costs[exit_]
        short = n_samples * self.onward[exit_] - left
        if short <= 1e-12 * n_samples:
            return 0
        return min(n_samples, int(np.ceil(short / saved - 1e-12 * n_samples)))

    def heads_needed(self, used: np.ndarray) -> np.ndarray:
        """Heads that have to be computed for samples to exit wherever the budget may require it.

        Thresholds may have changed since the budget was made, and a sample cannot exit where no
        head is computed. A head may be skipped only if the remaining budget per sample is at least
        the cost of the next exit.

        Parameters
        ----------
        used : ndarray of shape (n_exits,), bool
            Heads that the thresholds need.

        Returns
        -------
        needed : ndarray of shape (n_exits,), bool
            Heads of `used` and those that the budget needs.
        """
        needed = used.copy()
        left = self.budget  # lower bound for each sample that reaches the exit
        for exit_, onward in enumerate(self.onward):
            needed[exit_] |= left < self.costs[exit_ + 1] * (1 - 1e-12)
            if needed[exit_]:
                left = max(left, onward)
        return needed

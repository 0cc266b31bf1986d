"""How many rows of a batch have to leave where, so that it does not exceed its budget."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class StrictBudget:
    """A budget that is kept on every batch, whatever rows it holds.

    Attributes
    ----------
    budget : float
        Largest mean cost per row.
    costs : ndarray of shape (n_exits,)
        Cumulative cost of leaving at each exit.
    onward : ndarray of shape (n_exits - 1,)
        For each exit but the last, what is set aside for a row that goes on past it: as much as
        such rows cost in the mean where the operating point was calibrated.
    """

    budget: float
    costs: np.ndarray
    onward: np.ndarray

    @classmethod
    def of_shares(cls, budget: float, costs: np.ndarray, shares: np.ndarray) -> StrictBudget:
        """Quota for a budget that covers the mean cost of these shares of leaving.

        Parameters
        ----------
        budget : float
        costs, shares : ndarray of shape (n_exits,)
        """
        beyond = np.cumsum(shares[::-1])[::-1][1:]
        spent = np.cumsum((shares * costs)[::-1])[::-1][1:]
        # Past an exit that no sample passed, the next one is the least that can be set aside.
        onward = np.where(beyond > 1e-12, spent / np.maximum(beyond, 1e-300), costs[1:])
        return cls(budget, costs, np.maximum(onward, costs[1:]))

    def n_leaving(self, exit_: int, n_rows: int, left: float) -> int:
        """Least number of rows that have to leave at an exit.

        Parameters
        ----------
        exit_ : int
            Any but the last.
        n_rows : int
            Rows that have come so far.
        left : float
            What is left of the batch's budget for them.
        """
        saved = self.onward[exit_] - self.costs[exit_]
        short = n_rows * self.onward[exit_] - left
        if short <= 1e-12 * n_rows:
            return 0
        return min(n_rows, int(np.ceil(short / saved - 1e-12 * n_rows)))

    def heads_needed(self, used: np.ndarray) -> np.ndarray:
        """Heads that have to run so that samples can exit wherever the budget may ask for it.

        Thresholds may have moved since the quota was made, and a sample cannot exit where no head
        runs. One may be skipped only if what is left for each sample covers the next exit.

        Parameters
        ----------
        used : ndarray of shape (n_exits,), bool
            Heads that the thresholds need.

        Returns
        -------
        needed : ndarray of shape (n_exits,), bool
            These and further ones.
        """
        needed = used.copy()
        left = self.budget  # at least so much for each sample that arrives
        for exit_, onward in enumerate(self.onward):
            needed[exit_] |= left < self.costs[exit_ + 1] * (1 - 1e-12)
            if needed[exit_]:
                left = max(left, onward)
        return needed

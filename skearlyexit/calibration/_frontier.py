"""The best operating points for all budgets."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import numpy as np

#: A mean of equal costs may differ from the cost itself in the last bits.
ROUNDING = 1 + 1e-12


@dataclass(frozen=True)
class Frontier:
    """Operating points of which none is both cheaper and more accurate than another.

    Attributes
    ----------
    thresholds : ndarray of shape (n_points, n_exits - 1)
    costs : ndarray of shape (n_points,)
        Mean cost on the calibration rows, increasing.
    accuracies : ndarray of shape (n_points,)
        Accuracy on the calibration rows, increasing.
    shares : ndarray of shape (n_points, n_exits) or None, default=None
        Share of the calibration rows that leaves at each exit.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.calibration import Frontier
    >>> frontier = Frontier(
    ...     thresholds=np.array([[0.0], [0.8], [0.9]]), costs=np.array([0.5, 0.7, 0.9]),
    ...     accuracies=np.array([0.8, 0.9, 0.95]))
    >>> frontier.at_budget(0.75), frontier.at_accuracy(0.95)  # indices of points
    (1, 2)
    """

    thresholds: np.ndarray
    costs: np.ndarray
    accuracies: np.ndarray
    shares: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.costs)

    @classmethod
    def of(cls, thresholds: np.ndarray, costs: np.ndarray, accuracies: np.ndarray) -> Frontier:
        """Frontier of candidate points, given in any order."""
        keep = efficient(costs, accuracies)
        return cls(thresholds[keep], costs[keep], accuracies[keep])

    def at_budget(self, budget: float) -> int:
        """Index of the most accurate point of at most this mean cost.

        Raises
        ------
        ValueError
            If it is no positive number, or every point costs more.
        """
        check_budget(budget, self.costs[0])
        return int(np.searchsorted(self.costs, budget * ROUNDING, side="right")) - 1

    def at_accuracy(self, accuracy: float) -> int:
        """Index of the cheapest point of at least this accuracy, or of the most accurate one."""
        # Averages of the same rows in another order differ in the last bits.
        index = int(np.searchsorted(self.accuracies, accuracy - 1e-12, side="left"))
        return min(index, len(self) - 1)


def efficient(costs: np.ndarray, accuracies: np.ndarray) -> np.ndarray:
    """Indices of the points that no other dominates, by increasing cost."""
    order = np.lexsort((-accuracies, costs))
    best_before = np.concatenate([[-np.inf], np.maximum.accumulate(accuracies[order])[:-1]])
    return order[accuracies[order] > best_before]


def check_budget(budget: float, least: float) -> None:
    """Raise a ValueError unless the budget is a positive number that covers the least cost."""
    if not isinstance(budget, Real) or not budget > 0:
        raise ValueError(
            "The 'budget' parameter must be a positive number, in units of the plain backbone's "
            f"cost per row. Got {budget!r} instead."
        )
    if budget * ROUNDING < least:
        raise ValueError(
            "The 'budget' parameter must be at least the cost of the first exit. Got "
            f"{budget!r} instead; the first exit alone costs {least:.4g}."
        )

"""The Pareto-optimal thresholds for all budgets."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import numpy as np

#: A mean of equal costs may differ from the cost by rounding.
ROUNDING = 1 + 1e-12


@dataclass(frozen=True)
class Frontier:
    """Pareto-optimal thresholds, by mean cost and accuracy.

    Parameters
    ----------
    thresholds : ndarray of shape (n_points, n_exits - 1)
        Thresholds of each point, for all exits but the last.
    costs : ndarray of shape (n_points,)
        Mean cost of each point on the calibration samples, increasing.
    accuracies : ndarray of shape (n_points,)
        Accuracy of each point, increasing: that on the calibration samples, or an estimate of it;
        see `compute_frontier`.
    shares : ndarray of shape (n_points, n_exits), default=None
        Exit rates of each point: share of the calibration samples that exits at each exit.

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
        """Select the Pareto-optimal points.

        Parameters
        ----------
        thresholds : ndarray of shape (n_candidates, n_exits - 1)
            Thresholds of the candidates, in any order.
        costs : ndarray of shape (n_candidates,)
            Mean cost of each candidate.
        accuracies : ndarray of shape (n_candidates,)
            Accuracy of each candidate.

        Returns
        -------
        frontier : Frontier
            Frontier without exit rates.
        """
        keep = efficient(costs, accuracies)
        return cls(thresholds[keep], costs[keep], accuracies[keep])

    def at_budget(self, budget: float) -> int:
        """Find the most accurate point with at most a given mean cost.

        Parameters
        ----------
        budget : float
            Maximum mean cost.

        Returns
        -------
        index : int
            Index of the point.

        Raises
        ------
        ValueError
            If `budget` is not a positive number, or every point has a higher cost.
        """
        check_budget(budget, self.costs[0])
        return int(np.searchsorted(self.costs, budget * ROUNDING, side="right")) - 1

    def at_accuracy(self, accuracy: float) -> int:
        """Find the cheapest point with at least a given accuracy.

        Parameters
        ----------
        accuracy : float
            Minimum accuracy.

        Returns
        -------
        index : int
            Index of the point, or of the most accurate point if none has this accuracy.
        """
        # Averages of the same values in another order may differ by rounding.
        index = int(np.searchsorted(self.accuracies, accuracy - 1e-12, side="left"))
        return min(index, len(self) - 1)


def efficient(costs: np.ndarray, accuracies: np.ndarray) -> np.ndarray:
    """Indices of the points that no other point dominates, by increasing cost."""
    order = np.lexsort((-accuracies, costs))
    best_before = np.concatenate([[-np.inf], np.maximum.accumulate(accuracies[order])[:-1]])
    return order[accuracies[order] > best_before]


class UnmetBudgetError(ValueError):
    """Error for a budget below the lowest possible cost.

    Parameters
    ----------
    message : str
    budget, least : float
        Budget, and lowest possible mean cost.
    """

    def __init__(self, message: str, budget: float, least: float) -> None:
        super().__init__(message, budget, least)
        self.budget, self.least = budget, least

    def __str__(self) -> str:
        return str(self.args[0])


def check_budget(budget: float, least: float) -> None:
    """Raise a ValueError unless the budget is a positive number and at least the lowest cost.

    It is an `UnmetBudgetError` if the budget is a lower number.
    """
    if isinstance(budget, bool) or not isinstance(budget, Real) or not budget > 0:
        raise ValueError(
            "The 'budget' parameter must be a positive number, a mean cost per sample in units of "
            f"the cost of the plain network. Got {budget!r} instead."
        )
    if budget * ROUNDING < least:
        raise UnmetBudgetError(
            "The 'budget' parameter must be at least the cost of the first exit. Got "
            f"{budget!r} instead; the first exit alone costs {least:.4g}.",
            float(budget),
            float(least),
        )

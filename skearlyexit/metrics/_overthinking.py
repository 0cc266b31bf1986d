"""What is lost by going on where an answer was right already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from skearlyexit.metrics._checks import checked_correct, checked_costs, checked_weight


@dataclass(frozen=True, eq=False)
class Overthinking:
    """Rows by their first right exit, and what becomes of them at the end.

    Overthinking is *wasteful* where the last exit only repeats what an earlier one knew, and
    *destructive* where it turns a right answer into a wrong one.

    Attributes
    ----------
    costs : ndarray of shape (n_exits,)
        Cumulative cost of leaving at each exit.
    kept : ndarray of shape (n_exits,)
        Share of all rows that each exit is the first to get right, and the last exit gets right.
    lost : ndarray of shape (n_exits,)
        Share of all rows that each exit is the first to get right, and the last exit gets wrong.
    never : float
        Share of all rows that no exit gets right. With `kept` and `lost` it sums to 1.
    wasteful_share : float
        Share of all rows that an exit before the last gets right.
    wasteful_cost : float
        Mean, over the rows that some exit gets right, of the cost of the last exit minus that of
        the first right one; in the unit of `costs`, nan if there are no such rows. Rows that the
        last exit alone gets right count with 0.
    destructive_share : float
        Share of all rows that some exit gets right and the last one wrong.
    destructive_share_of_errors : float
        The same as a share of the rows that the last exit gets wrong; nan if there are none.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.metrics import Overthinking
    >>> found = Overthinking(
    ...     costs=np.array([0.5, 1.0]), kept=np.array([0.5, 0.25]), lost=np.array([0.125, 0.0]),
    ...     never=0.125)
    >>> found.wasteful_share, found.destructive_share, found.destructive_share_of_errors
    (0.625, 0.125, 0.5)
    """

    costs: np.ndarray
    kept: np.ndarray
    lost: np.ndarray
    never: float

    @property
    def wasteful_share(self) -> float:
        return float(self.kept[:-1].sum() + self.lost[:-1].sum())

    @property
    def wasteful_cost(self) -> float:
        first = self.kept + self.lost
        if not first.any():
            return float("nan")
        return float(np.average(self.costs[-1] - self.costs, weights=first))

    @property
    def destructive_share(self) -> float:
        return float(self.lost.sum())

    @property
    def destructive_share_of_errors(self) -> float:
        errors = self.destructive_share + self.never
        return self.destructive_share / errors if errors > 0 else float("nan")


def overthinking(correct: Any, costs: Any, weight: Any = None) -> Overthinking:
    """Measure what running to the end wastes and destroys.

    Thresholds play no part: every row is asked at every exit, and compared is the end with the
    first exit that is right, as an oracle would choose it.

    Parameters
    ----------
    correct : array-like of shape (n_samples, n_exits), bool
        Whether each exit is right.
    costs : array-like of shape (n_exits,)
        Cumulative.
    weight : array-like of shape (n_samples,), default=None
        Sample weights.

    Returns
    -------
    overthinking : Overthinking

    Raises
    ------
    ValueError
        If shapes do not fit, costs fall, or no row has a positive weight.

    See Also
    --------
    oracle : Mean cost and accuracy of leaving at the first right exit.
    skearlyexit.inspection.OverthinkingDisplay : The picture.

    References
    ----------
    Kaya, Hong, Dumitras, "Shallow-deep networks: understanding and mitigating network
    overthinking", ICML 2019.

    Examples
    --------
    >>> from skearlyexit.metrics import overthinking
    >>> found = overthinking([[1, 1], [1, 0], [0, 1], [0, 0]], costs=[0.4, 1.0])
    >>> found.wasteful_share, round(found.wasteful_cost, 6)
    (0.5, 0.4)
    >>> found.destructive_share, found.destructive_share_of_errors
    (0.25, 0.5)
    """
    correct = checked_correct(correct)
    costs = checked_costs(costs, correct.shape[1])
    weight = checked_weight(weight, correct)
    weight = weight / weight.sum()
    first, right = correct.argmax(axis=1), correct.any(axis=1)
    kept, lost = (
        np.bincount(first[rows], weight[rows], minlength=len(costs))
        for rows in (right & correct[:, -1], right & ~correct[:, -1])
    )
    return Overthinking(costs, kept, lost, never=float(weight[~right].sum()))

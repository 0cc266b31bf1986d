"""Overthinking: correct predictions at earlier exits, compared with the last exit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from skearlyexit.metrics._checks import checked_correct, checked_costs, checked_weight


@dataclass(frozen=True, eq=False)
class Overthinking:
    """Shares of samples by their first correct exit, and by the prediction at the last exit.

    The first correct exit of a sample is the first exit with a correct prediction. Overthinking is
    *wasteful* if a sample is classified correctly before the last exit, since the rest of the
    network is not needed. It is *destructive* if the last exit misclassifies such a sample.

    Parameters
    ----------
    costs : ndarray of shape (n_exits,)
        Cumulative cost of exiting at each exit.
    kept : ndarray of shape (n_exits,)
        Share of all samples whose first correct exit is this exit, and that are classified
        correctly at the last exit.
    lost : ndarray of shape (n_exits,)
        Share of all samples whose first correct exit is this exit, and that are misclassified at
        the last exit.
    never : float
        Share of all samples that are misclassified at all exits. The sum of `kept`, `lost` and
        `never` is 1.

    Attributes
    ----------
    wasteful_share : float
        Share of all samples that are classified correctly at an exit before the last.
    wasteful_cost : float
        Cost of the last exit minus that of the first correct exit, averaged over the samples that
        have a correct exit, in the unit of `costs`. NaN if there are no such samples.
    destructive_share : float
        Share of all samples that are classified correctly at some exit and misclassified at the
        last exit.
    destructive_share_of_errors : float
        The same as a share of the samples that are misclassified at the last exit. NaN if there
        are none.

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
    """Compare the last exit of the network with the first correct exit of each sample.

    Overthinking means that a sample is classified correctly at an exit and the rest of the network
    is not needed for it, or even changes the prediction to a wrong one. The result does not depend
    on thresholds.

    Parameters
    ----------
    correct : array-like of shape (n_samples, n_exits), bool
        Whether the prediction at each exit is correct.
    costs : array-like of shape (n_exits,)
        Cumulative cost of exiting at each exit.
    weight : array-like of shape (n_samples,), default=None
        Sample weights.

    Returns
    -------
    overthinking : Overthinking
        Shares of samples, and the cost that is wasted.

    Raises
    ------
    ValueError
        If shapes do not match, costs decrease, or no sample has a positive weight.

    See Also
    --------
    oracle : Mean cost and accuracy if samples exit at their first correct exit.
    skearlyexit.inspection.OverthinkingDisplay : Visualization.

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

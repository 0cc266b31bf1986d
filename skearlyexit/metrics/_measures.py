"""Cost and accuracy of policies, real and imagined, on rows where every exit's answer is known."""

from __future__ import annotations

import numpy as np

from skearlyexit._exit_table import exits_of
from skearlyexit.metrics._checks import checked_weight


def cost_accuracy(
    correct: np.ndarray,
    scores: np.ndarray,
    costs: np.ndarray,
    thresholds: np.ndarray,
    weight: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean cost and accuracy under each of many vectors of thresholds.

    Parameters
    ----------
    correct : ndarray of shape (n_samples, n_exits), bool
        Whether each exit is right.
    scores : ndarray of shape (n_samples, n_exits)
        Those of the last exit are not used.
    costs : ndarray of shape (n_exits,)
        Cumulative.
    thresholds : ndarray of shape (n_points, n_exits - 1)
        A row leaves the first exit whose score reaches its threshold, or the last exit.
    weight : ndarray of shape (n_samples,), default=None

    Returns
    -------
    mean_costs : ndarray of shape (n_points,)
        In the unit of `costs`.
    accuracies : ndarray of shape (n_points,)

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.metrics import cost_accuracy
    >>> correct = np.array([[True, True], [True, True], [False, True], [False, False]])
    >>> scores = np.array([[0.9, 1.0], [0.8, 1.0], [0.7, 1.0], [0.6, 1.0]])
    >>> cost_accuracy(correct, scores, np.array([0.5, 1.0]), [[0.0], [0.75], [np.inf]])
    (array([0.5 , 0.75, 1.  ]), array([0.5 , 0.75, 0.75]))
    """
    rows, weight = np.arange(len(correct)), checked_weight(weight, correct)
    mean_costs, accuracies = np.empty(len(thresholds)), np.empty(len(thresholds))
    # One point after the other: all at once would need as many copies of the scores.
    for i, point in enumerate(thresholds):
        exits = exits_of(scores, point)
        mean_costs[i] = np.average(costs[exits], weights=weight)
        accuracies[i] = np.average(correct[rows, exits], weights=weight)
    return mean_costs, accuracies


def oracle(
    correct: np.ndarray, costs: np.ndarray, weight: np.ndarray | None = None
) -> tuple[float, float]:
    """Mean cost and accuracy if every row left at the first exit that is right.

    Rows that no exit gets right leave at the first, cheapest one. No policy is more accurate, and
    none as accurate is cheaper.

    Parameters
    ----------
    correct : ndarray of shape (n_samples, n_exits), bool
        Whether each exit is right.
    costs : ndarray of shape (n_exits,)
        Cumulative.
    weight : ndarray of shape (n_samples,), default=None

    Returns
    -------
    mean_cost : float
    accuracy : float

    Examples
    --------
    >>> import numpy as np
    >>> oracle(np.array([[True, True], [False, True], [False, False]]), np.array([0.25, 1.0]))
    (0.5, 0.6666666666666666)
    """
    weight = checked_weight(weight, correct)
    # argmax finds the first that is right, and the first of all where none is.
    cost = np.average(costs[correct.argmax(axis=1)], weights=weight)
    return float(cost), float(np.average(correct.any(axis=1), weights=weight))


def random_exits(
    correct: np.ndarray,
    exits: np.ndarray,
    costs: np.ndarray,
    weight: np.ndarray | None = None,
) -> tuple[float, float]:
    """Mean cost and expected accuracy if the same share of rows left each exit, drawn at random.

    What a policy gains over this it owes to its scores.

    Parameters
    ----------
    correct : ndarray of shape (n_samples, n_exits), bool
        Whether each exit is right.
    exits : ndarray of shape (n_samples,)
        Exit at which each row leaves under the policy.
    costs : ndarray of shape (n_exits,)
        Cumulative.
    weight : ndarray of shape (n_samples,), default=None

    Returns
    -------
    mean_cost : float
        That of the policy.
    accuracy : float

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.metrics import random_exits
    >>> correct = np.array([[True, True], [False, True]])
    >>> random_exits(correct, exits=np.array([0, 1]), costs=np.array([0.4, 1.0]))
    (0.7, 0.75)
    """
    weight = checked_weight(weight, correct)
    leave = np.bincount(exits, weight, minlength=len(costs)).astype(np.float64)
    leave /= leave.sum()
    alone = np.average(correct, axis=0, weights=weight)
    return float(leave @ costs), float(leave @ alone)

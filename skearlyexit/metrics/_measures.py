"""Cost and accuracy under thresholds, of an oracle and of random exits."""

from __future__ import annotations

import numpy as np

from skearlyexit._exit_table import Routing, outcomes_of
from skearlyexit.metrics._checks import checked_weight


def cost_accuracy(
    correct: np.ndarray,
    scores: np.ndarray,
    costs: np.ndarray,
    thresholds: np.ndarray,
    weight: np.ndarray | None = None,
    routing: Routing | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean cost and accuracy under each of several vectors of thresholds.

    Parameters
    ----------
    correct : ndarray of shape (n_samples, n_exits), bool
        Whether the prediction at each exit is correct.
    scores : ndarray of shape (n_samples, n_exits)
        Scores of the policy at each exit. Those of the last exit are not used.
    costs : ndarray of shape (n_exits,)
        Cumulative cost of exiting at each exit.
    thresholds : array-like of shape (n_points, n_exits - 1)
        Vectors of thresholds of all exits but the last. A sample exits at the first exit at which
        its score reaches the threshold, and at the last exit if there is none.
    weight : ndarray of shape (n_samples,), default=None
        Sample weights.
    routing : Routing, default=None
        Exits that samples skip, `ExitTable.routing`. None if all are asked.

    Returns
    -------
    mean_costs : ndarray of shape (n_points,)
        Mean cost per sample, in the unit of `costs`.
    accuracies : ndarray of shape (n_points,)
        Accuracy of the predictions at the exits.

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
    # One vector at a time: all at once would need a copy of the scores for each.
    for i, point in enumerate(thresholds):
        exits, paid = outcomes_of(scores, point, costs, routing)
        mean_costs[i] = np.average(paid, weights=weight)
        accuracies[i] = np.average(correct[rows, exits], weights=weight)
    return mean_costs, accuracies


def oracle(
    correct: np.ndarray, costs: np.ndarray, weight: np.ndarray | None = None
) -> tuple[float, float]:
    """Mean cost and accuracy if every sample exits at the first exit with a correct prediction.

    Samples that are misclassified at all exits exit at the first one. No policy has a higher
    accuracy, and no policy has the same accuracy at a lower cost.

    Parameters
    ----------
    correct : ndarray of shape (n_samples, n_exits), bool
        Whether the prediction at each exit is correct.
    costs : ndarray of shape (n_exits,)
        Cumulative cost of exiting at each exit.
    weight : ndarray of shape (n_samples,), default=None
        Sample weights.

    Returns
    -------
    mean_cost : float
        Mean cost per sample, in the unit of `costs`.
    accuracy : float
        Share of the samples that are classified correctly at any exit.

    Examples
    --------
    >>> import numpy as np
    >>> oracle(np.array([[True, True], [False, True], [False, False]]), np.array([0.25, 1.0]))
    (0.5, 0.6666666666666666)
    """
    weight = checked_weight(weight, correct)
    # argmax returns the first correct exit, or the first exit if none is correct.
    cost = np.average(costs[correct.argmax(axis=1)], weights=weight)
    return float(cost), float(np.average(correct.any(axis=1), weights=weight))


def random_exits(
    correct: np.ndarray,
    exits: np.ndarray,
    costs: np.ndarray,
    weight: np.ndarray | None = None,
) -> tuple[float, float]:
    """Mean cost and expected accuracy if samples are assigned to exits at random.

    The exit rates are those of the given exits. The difference from the accuracy with the given
    exits is due to the choice of samples by the policy.

    Parameters
    ----------
    correct : ndarray of shape (n_samples, n_exits), bool
        Whether the prediction at each exit is correct.
    exits : ndarray of shape (n_samples,)
        Index of the exit of each sample under a policy.
    costs : ndarray of shape (n_exits,)
        Cumulative cost of exiting at each exit.
    weight : ndarray of shape (n_samples,), default=None
        Sample weights.

    Returns
    -------
    mean_cost : float
        Mean cost per sample, which is that of the given exits.
    accuracy : float
        Expected accuracy.

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

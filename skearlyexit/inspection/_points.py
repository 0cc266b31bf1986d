"""Points of the plane of cost and accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skearlyexit._data._labels import encode_labels
from skearlyexit._exit_table import Routing
from skearlyexit.inspection._checks import checked_rows
from skearlyexit.metrics import cost_accuracy

#: Points of a line; more cannot be distinguished.
MAX_POINTS = 200
#: Least distance of neighboring points of a line, as a share of the range of cost or accuracy.
LEAST_DISTANCE = 0.01


def point_of(
    correct: np.ndarray, exits: np.ndarray, paid: np.ndarray, weight: np.ndarray
) -> tuple[float, float]:
    """Mean cost and accuracy of samples that exit at given exits.

    Parameters
    ----------
    correct : ndarray of shape (n_samples, n_exits), bool
    exits : ndarray of shape (n_samples,)
    paid : ndarray of shape (n_samples,)
        Cost of each sample.
    weight : ndarray of shape (n_samples,)

    Returns
    -------
    cost, accuracy : float
    """
    right = correct[np.arange(len(exits)), exits]
    cost, accuracy = (np.average(values, weights=weight) for values in (paid, right))
    return float(cost), float(accuracy)


def frontier_line(
    correct: np.ndarray,
    scores: np.ndarray,
    costs: np.ndarray,
    thresholds: np.ndarray,
    weight: np.ndarray,
    routing: Routing | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean costs and accuracies of the points of a frontier, by increasing cost.

    On samples other than those that the points were chosen on, neighboring points may swap or
    have the same cost; the first one of each cost is kept.

    Parameters
    ----------
    correct : ndarray of shape (n_samples, n_exits), bool
    scores : ndarray of shape (n_samples, n_exits)
    costs : ndarray of shape (n_exits,)
    thresholds : ndarray of shape (n_points, n_exits - 1)
    weight : ndarray of shape (n_samples,)
    routing : Routing or None, default=None

    Returns
    -------
    costs, accuracies : ndarray of shape (n_distinct,)
        Of at most `MAX_POINTS` of the points, with both ends. Points that cannot be distinguished
        from the one before are left out.
    """
    if len(thresholds) > MAX_POINTS:
        kept = np.linspace(0, len(thresholds) - 1, MAX_POINTS).round().astype(int)
        thresholds = thresholds[kept]
    means, accuracies = cost_accuracy(correct, scores, costs, thresholds, weight, routing)
    means, first = np.unique(means, return_index=True)
    distinct = _distinct(means, accuracies[first])
    return means[distinct], accuracies[first][distinct]


def _distinct(costs: np.ndarray, accuracies: np.ndarray) -> list[int]:
    """Indices of points that are at least `LEAST_DISTANCE` from the one before, and of the last."""
    at = np.column_stack([costs / max(np.ptp(costs), 1e-300), accuracies])
    at[:, 1] /= max(np.ptp(accuracies), 1e-300)
    kept = [0]
    for i in range(1, len(at)):
        if np.abs(at[i] - at[kept[-1]]).max() >= LEAST_DISTANCE:
            kept.append(i)
    if kept[-1] != len(at) - 1:
        kept.append(len(at) - 1)
    return kept


def budget_line(
    classifier: Any, X: Any, y: Any, budgets: np.ndarray, sample_weight: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Mean cost and accuracy of a model at each budget.

    Parameters
    ----------
    classifier : EarlyExitClassifier
        Fitted, with a frontier.
    X : array-like of shape (n_samples, ...)
    y : array-like of shape (n_samples,)
    budgets : ndarray of shape (n_budgets,)
    sample_weight : array-like of shape (n_samples,) or None

    Returns
    -------
    costs, accuracies : ndarray of shape (n_budgets,)
    """
    table = classifier._label_table(X)
    y_index = encode_labels(y, table.labels, classifier.classes_)
    y_index, weight = checked_rows(y_index, table.labels, sample_weight=sample_weight)
    frontier = classifier.frontier_
    points = [frontier.at_budget(budget) for budget in budgets]
    used, back = np.unique(points, return_inverse=True)
    costs, accuracies = cost_accuracy(
        table.labels == y_index[:, None],
        table.scores,
        classifier.costs_,
        frontier.thresholds[used],
        weight,
        table.routing,
    )
    return costs[back], accuracies[back]


def same_thresholds(budgets: np.ndarray, frontiers: Sequence[Any]) -> list[str]:
    """Say which budgets have the same thresholds on each of several frontiers.

    Parameters
    ----------
    budgets : ndarray of shape (n_budgets,)
    frontiers : sequence of Frontier

    Returns
    -------
    sentences : list of str
        One for each group of budgets.
    """
    alike: dict[tuple[int, ...], list[str]] = {}
    for budget in np.unique(budgets):
        points = tuple(frontier.at_budget(float(budget)) for frontier in frontiers)
        alike.setdefault(points, []).append(f"{budget:g}")
    return [
        f"The budgets {', '.join(group[:-1])} and {group[-1]} have the same thresholds."
        for group in alike.values()
        if len(group) > 1
    ]

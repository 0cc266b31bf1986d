"""Metrics of a curve of accuracy against cost."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Averages of the same values in another order may differ by rounding.
ROUNDING = 1e-12


def cost_accuracy_auc(
    mean_costs: Any,
    accuracies: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    below: float = 0.0,
) -> float:
    """Area under the curve of accuracy against cost, divided by its width.

    This is the mean accuracy over a range of budgets. The accuracy at a budget is that of the most
    accurate point with at most this mean cost: the curve is a step function, without interpolation
    between points, and points dominated by others have no effect.

    Parameters
    ----------
    mean_costs : array-like of shape (n_points,)
        Mean cost per sample of each point, in any order.
    accuracies : array-like of shape (n_points,)
        Accuracy of each point.
    low : float, default=None
        Lowest budget, in the unit of `mean_costs`. If None, it is the lowest of the costs. Areas
        of several models can be compared only for the same `low` and `high`.
    high : float, default=None
        Highest budget. If None, it is the highest of the costs.
    below : float, default=0.0
        Accuracy at budgets lower than the costs of all points. Instead of 0, it may be the share of
        the most frequent class, which can be predicted without any cost.

    Returns
    -------
    area : float
        Mean accuracy over the budgets from `low` to `high`. If they are equal, it is the accuracy
        at this budget.

    Raises
    ------
    ValueError
        If the arrays are empty, not finite or of different length, `low` and `high` are not a valid
        range, or `high` is lower than the costs of all points.

    See Also
    --------
    cost_at_drop : Lowest cost with a given accuracy.
    CostAccuracyArea : Scorer of the mean accuracy over budgets.

    Notes
    -----
    If the points are chosen and evaluated on the same samples, the area is too optimistic, since
    the most accurate of many points is accurate partly by chance. Evaluate the points on samples
    that they were not chosen on.

    References
    ----------
    Huang, Chen, Li, Wu, van der Maaten, Weinberger, "Multi-scale dense networks for resource
    efficient image classification", ICLR 2018, for accuracy over a range of budgets.

    Examples
    --------
    >>> from skearlyexit.metrics import cost_accuracy_auc
    >>> round(cost_accuracy_auc([0.2, 0.6, 1.0], [0.5, 0.9, 1.0]), 6)
    0.7
    >>> round(cost_accuracy_auc([0.2, 0.6, 1.0], [0.5, 0.9, 1.0], low=0.0, high=1.0), 6)
    0.56
    """
    costs, values = checked_points(mean_costs, accuracies)
    order = np.lexsort((values, costs))
    costs, values = costs[order], np.maximum.accumulate(values[order])
    return mean_of_steps(costs, values, low=low, high=high, below=below)


def cost_at_drop(mean_costs: Any, accuracies: Any, reference: float, drop: Any = 0.0) -> Any:
    """Lowest mean cost with an accuracy of at least ``reference - drop``.

    Parameters
    ----------
    mean_costs : array-like of shape (n_points,)
        Mean cost per sample of each point, in any order.
    accuracies : array-like of shape (n_points,)
        Accuracy of each point.
    reference : float
        Accuracy to compare with, in the unit of `accuracies`, such as that of a plain network. The
        last exit of the same network is not a substitute for it, since training with exits changes
        its accuracy.
    drop : float or array-like, default=0.0
        Maximum loss of accuracy, in the same unit. If negative, the accuracy has to be higher than
        `reference`.

    Returns
    -------
    cost : float or ndarray
        Cost for each value of `drop`, of the same shape. NaN if no point has this accuracy.

    Raises
    ------
    ValueError
        If the arrays are empty, not finite or of different length, or `reference` or `drop` is
        not finite.

    See Also
    --------
    cost_accuracy_auc : Mean accuracy over a range of budgets.

    Examples
    --------
    >>> from skearlyexit.metrics import cost_at_drop
    >>> cost_at_drop([0.2, 0.6, 1.0], [0.5, 0.9, 0.95], reference=0.94)
    1.0
    >>> cost_at_drop([0.2, 0.6, 1.0], [0.5, 0.9, 0.95], reference=0.94, drop=[0.05, -0.05])
    array([0.6, nan])
    """
    costs, values = checked_points(mean_costs, accuracies)
    drop = np.asarray(drop, dtype=np.float64)
    if not np.isfinite(reference) or not np.isfinite(drop).all():
        raise ValueError(
            f"'reference' and 'drop' must be finite. Got {reference!r} and {drop.tolist()!r}."
        )
    enough = values >= reference - drop[..., None] - ROUNDING
    cheapest = np.where(enough, costs, np.inf).min(axis=-1)
    cheapest = np.where(np.isfinite(cheapest), cheapest, np.nan)
    return cheapest if drop.ndim else float(cheapest)


def mean_of_steps(
    costs: np.ndarray, values: np.ndarray, *, low: float | None, high: float | None, below: float
) -> float:
    """Mean over [low, high] of the step function with ``values[i]`` from ``costs[i]`` on.

    Parameters
    ----------
    costs : ndarray of shape (n_points,)
        Increasing. If several are equal, the last one is used.
    values : ndarray of shape (n_points,)
    low, high : float or None
        If None, the first and the last cost.
    below : float
        Value below the first cost.
    """
    low = float(costs[0]) if low is None else low
    high = float(costs[-1]) if high is None else high
    if not (np.isfinite([low, high, below]).all() and 0 <= low <= high):
        raise ValueError(
            "'low' and 'high' must be finite, with 0 <= low <= high, and 'below' finite. Got "
            f"low={low!r}, high={high!r} and below={below!r}."
        )
    if high < costs[0] * (1 - ROUNDING):
        raise ValueError(
            f"No budget from low={low!r} to high={high!r} can be met: the cheapest point costs "
            f"{costs[0]:.4g}. Give a higher 'high'."
        )
    starts = np.concatenate([[low], costs[(costs > low) & (costs < high)]])
    index = np.searchsorted(costs, starts * (1 + ROUNDING), side="right") - 1
    heights = np.where(index >= 0, values[index], below)
    if low == high:
        return float(heights[0])
    return float(np.average(heights, weights=np.diff(np.append(starts, high))))


def checked_points(mean_costs: Any, accuracies: Any) -> tuple[np.ndarray, np.ndarray]:
    """Validated costs and accuracies of points, arrays of shape (n_points,)."""
    costs = np.asarray(mean_costs, dtype=np.float64)
    values = np.asarray(accuracies, dtype=np.float64)
    if costs.ndim != 1 or costs.shape != values.shape or not costs.size:
        raise ValueError(
            "'mean_costs' and 'accuracies' must be of the same shape (n_points,), with at least "
            f"one point. Got {costs.shape} and {values.shape}."
        )
    if not (np.isfinite(costs).all() and np.isfinite(values).all() and (costs >= 0).all()):
        raise ValueError(
            "'mean_costs' and 'accuracies' must be finite, and no cost negative. Got costs from "
            f"{costs.min()} to {costs.max()} and accuracies from {values.min()} to {values.max()}."
        )
    return costs, values

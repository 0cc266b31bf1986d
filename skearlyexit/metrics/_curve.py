"""Numbers from a curve of accuracy against cost."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Averages of the same rows in another order differ in the last bits.
ROUNDING = 1e-12


def cost_accuracy_auc(
    mean_costs: Any,
    accuracies: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    below: float = 0.0,
) -> float:
    """Area under accuracy against cost, as the mean accuracy over budgets.

    A budget buys the most accurate point that costs no more, so that the curve is a flight of
    steps: between points nothing is interpolated, and points that another one dominates do not
    count. The area is divided by its width.

    Parameters
    ----------
    mean_costs : array-like of shape (n_points,)
        Mean cost per row of each operating point, in any order.
    accuracies : array-like of shape (n_points,)
    low : float, default=None
        Smallest budget, in the unit of `mean_costs`. None is the smallest of the costs. Areas of
        several models compare only if they have `low` and `high` in common.
    high : float, default=None
        Largest budget. None is the largest of the costs.
    below : float, default=0.0
        Accuracy for budgets that no point can keep. By default they buy no answer, and no answer
        is never right; another choice is the share of the most frequent class, which can be
        guessed for nothing.

    Returns
    -------
    area : float
        Between the smallest and the largest of `accuracies` and `below`. With ``low == high``
        the accuracy at that budget.

    Raises
    ------
    ValueError
        If arrays are empty, not finite or of different length, the range is none, or all of it
        lies below the cheapest point.

    See Also
    --------
    cost_at_drop : Cost of a wanted accuracy.
    CostAccuracyArea : The same idea as a scorer.

    Notes
    -----
    Of many points that were measured on few rows, some look good by luck, and the steps keep
    these. Give points that were chosen on other rows.

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
    """Smallest cost whose accuracy is at most `drop` below that of a plain network.

    Parameters
    ----------
    mean_costs : array-like of shape (n_points,)
        Mean cost per row of each operating point, in any order.
    accuracies : array-like of shape (n_points,)
    reference : float
        Accuracy of a plain network that was trained by itself, in the unit of `accuracies`. The
        last exit of the same network is no substitute: training with exits changes it.
    drop : float or array-like, default=0.0
        What may be lost, in the same unit; negative asks for more than `reference`.

    Returns
    -------
    cost : float or ndarray
        Of the shape of `drop`; nan where no point is accurate enough.

    Raises
    ------
    ValueError
        If the arrays are empty, not finite or of different length, or `reference` or `drop` is
        not finite.

    See Also
    --------
    cost_accuracy_auc : One number for all budgets.

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
    """Mean over [low, high] of what is ``values[i]`` from ``costs[i]`` to the next cost.

    Parameters
    ----------
    costs : ndarray of shape (n_points,)
        Increasing; of equal ones the last counts.
    values : ndarray of shape (n_points,)
    low, high : float or None
        None is the first cost, and the last.
    below : float
        The value below the first cost.
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
            f"No budget from low={low!r} to high={high!r} can be kept: the cheapest point costs "
            f"{costs[0]:.4g}. Give a larger 'high'."
        )
    starts = np.concatenate([[low], costs[(costs > low) & (costs < high)]])
    index = np.searchsorted(costs, starts * (1 + ROUNDING), side="right") - 1
    heights = np.where(index >= 0, values[index], below)
    if low == high:
        return float(heights[0])
    return float(np.average(heights, weights=np.diff(np.append(starts, high))))


def checked_points(mean_costs: Any, accuracies: Any) -> tuple[np.ndarray, np.ndarray]:
    """Costs and accuracies of points as arrays of shape (n_points,)."""
    costs = np.asarray(mean_costs, dtype=np.float64)
    values = np.asarray(accuracies, dtype=np.float64)
    if costs.ndim != 1 or costs.shape != values.shape or not costs.size:
        raise ValueError(
            "'mean_costs' and 'accuracies' must be of the same shape (n_points,), with a point at "
            f"least. Got {costs.shape} and {values.shape}."
        )
    if not (np.isfinite(costs).all() and np.isfinite(values).all() and (costs >= 0).all()):
        raise ValueError(
            "'mean_costs' and 'accuracies' must be finite, and no cost negative. Got costs from "
            f"{costs.min()} to {costs.max()} and accuracies from {values.min()} to {values.max()}."
        )
    return costs, values

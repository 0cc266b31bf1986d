"""Exits of samples under thresholds that were chosen on other samples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from skearlyexit.calibration._calibration_data import CalibrationData
from skearlyexit.calibration._frontier import Frontier
from skearlyexit.calibration._metric import metric_frontier
from skearlyexit.calibration._search import compute_frontier


def exits_at_costs(
    data: CalibrationData, frontier: Frontier, metric: str | Callable[..., float], n_folds: int
) -> np.ndarray:
    """Exit of each sample at the cost of each point of a frontier.

    The thresholds that are best on some samples for a cost are less good on others. The samples are
    divided into folds, and those of each fold exit under the thresholds that are best for the cost
    on the samples of the other folds.

    Parameters
    ----------
    data : CalibrationData
        Calibration data of at least `n_folds` samples.
    frontier : Frontier
        Frontier on all samples, by increasing cost.
    metric : str or callable
        Accuracy or other metric of the frontiers, as in `metric_frontier`.
    n_folds : int
        Number of folds, at least 2.

    Returns
    -------
    exits : ndarray of shape (n_points, n_samples)
        Exit of each sample at the cost of each point.
    """
    n_samples = len(data.scores)
    fold = np.random.RandomState(0).permutation(n_samples) % n_folds
    exits = np.empty((len(frontier), n_samples), dtype=np.intp)
    for each in range(n_folds):
        here = fold == each
        held, others = data.take(here), data.take(~here)
        found = metric_frontier(others, compute_frontier(others), metric)
        points = [found.at_budget(max(cost, found.costs[0])) for cost in frontier.costs]
        chosen, where = np.unique(points, return_inverse=True)
        exits[:, here] = np.stack([held.exits(found.thresholds[i]) for i in chosen])[where]
    return exits

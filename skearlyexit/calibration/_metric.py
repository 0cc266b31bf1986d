"""Metrics by which thresholds are chosen: accuracy, or a scikit-learn scorer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.metrics import get_scorer_names
from sklearn.utils._param_validation import StrOptions

from skearlyexit._utils._scoring import is_accuracy, score_predictions
from skearlyexit.calibration._calibration_data import CalibrationData
from skearlyexit.calibration._frontier import Frontier
from skearlyexit.calibration._geometric import geometric_family

#: Valid values of the parameter `metric`.
METRIC_CONSTRAINT = [StrOptions(set(get_scorer_names())), callable]


def metric_value(
    data: CalibrationData, exits: np.ndarray, metric: str | Callable[..., float]
) -> float:
    """Value of a scorer for given exits of the samples; greater is better.

    Parameters
    ----------
    data : CalibrationData
        With labels, and with probabilities if the scorer needs them.
    exits : ndarray of shape (n_samples,)
    metric : str or callable
        As in `score_predictions`.

    Raises
    ------
    ValueError
        As in `score_predictions`.
    """
    assert data.labels is not None
    assert data.y is not None
    rows, classes = np.arange(len(exits)), data.classes
    if classes is None and data.losses is None:
        classes = np.unique(np.append(data.labels.ravel(), data.y))
    return score_predictions(
        metric,
        data.y,
        data.labels[rows, exits],
        None if data.probabilities is None else data.probabilities[rows, exits],
        classes=classes,
        weight=data.weight,
    )


def check_metric(
    metric: str | Callable[..., float],
    y: np.ndarray,
    classes: np.ndarray | None,
    weight: np.ndarray,
) -> None:
    """Raise a ValueError if a scorer cannot be computed for the labels of calibration samples.

    Parameters
    ----------
    metric : str or callable
    y : ndarray of shape (n_samples,) or (n_samples, n_targets)
        Indices of the true classes, or targets.
    classes : ndarray of shape (n_classes,) or None
        None in regression.
    weight : ndarray of shape (n_samples,)
    """
    # Predictions are not known before training: these are right.
    if classes is None:
        score_predictions(metric, y, y, None, classes=None, weight=weight)
        return
    probabilities = 0.1 / len(classes) + 0.9 * np.eye(len(classes))[y]
    score_predictions(metric, classes[y], classes[y], probabilities, classes=classes, weight=weight)


def value_at(data: CalibrationData, exits: np.ndarray, metric: str | Callable[..., float]) -> float:
    """Accuracy or other metric for given exits of the samples."""
    if is_accuracy(metric):
        gains = data.gains[np.arange(len(exits)), exits]
        return float(np.average(gains, weights=data.weight))
    return metric_value(data, exits, metric)


def cheapest(
    data: CalibrationData, frontier: Frontier, metric: str | Callable[..., float], value: float
) -> np.ndarray | None:
    """Cheapest thresholds of a frontier with a value of the metric, estimated and on the samples.

    Parameters
    ----------
    data : CalibrationData
    frontier : Frontier
        Frontier of the metric, whose values may be estimates.
    metric : str or callable
        As in `metric_value`.
    value : float
        Least value of the metric.

    Returns
    -------
    thresholds : ndarray of shape (n_exits - 1,) or None
        None if there are no such thresholds.
    """
    least = value - 1e-12  # as in `Frontier.at_accuracy`
    for index in range(frontier.at_accuracy(value), len(frontier)):
        thresholds = frontier.thresholds[index]
        if frontier.accuracies[index] < least:
            return None
        if value_at(data, data.exits(thresholds), metric) >= least:
            return np.asarray(thresholds)
    return None


def metric_frontier(
    data: CalibrationData, frontier: Frontier, metric: str | Callable[..., float]
) -> Frontier:
    """Frontier of a metric.

    Other metrics than accuracy are not sums over samples, so the search cannot be applied to them.
    The candidates are the points of the frontier of accuracy, the geometric family, and common
    thresholds.

    Parameters
    ----------
    data : CalibrationData
    frontier : Frontier
        Frontier of accuracy.
    metric : str or callable
        As in `metric_value`.
    """
    if is_accuracy(metric):
        return frontier
    n_choices = data.n_exits - 1
    ratios = np.geomspace(1e-3, 1e3, 61)
    common = np.quantile(data.scores[:, :-1], np.linspace(0, 1, 100)) if n_choices else [0.0]
    candidates = np.concatenate(
        [
            frontier.thresholds,
            geometric_family(data, ratios),
            [np.full(n_choices, value) for value in (*common, np.inf)],
        ]
    )
    found = [data.outcomes(row) for row in candidates]
    costs = np.array([np.average(paid, weights=data.weight) for _, paid in found])
    # Of a few samples, many thresholds mean the same exits, and a scorer takes a millisecond.
    distinct = {exits.tobytes(): exits for exits, _ in found}
    values = {key: metric_value(data, exits, metric) for key, exits in distinct.items()}
    of_each = np.array([values[exits.tobytes()] for exits, _ in found])
    return Frontier.of(candidates, costs, of_each)

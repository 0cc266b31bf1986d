"""Metrics by which thresholds are chosen: accuracy, or a scikit-learn scorer of labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.utils._param_validation import StrOptions

from skearlyexit.calibration._calibration_data import CalibrationData
from skearlyexit.calibration._frontier import Frontier
from skearlyexit.calibration._geometric import geometric_family

#: Valid values of the parameter `metric`.
METRIC_CONSTRAINT = [StrOptions(set(get_scorer_names())), callable]


class _Answered(ClassifierMixin, BaseEstimator):
    """Classifier for scorers, which returns its input: labels that are already predicted."""

    def __init__(self, classes: np.ndarray) -> None:
        self.classes = classes

    @property
    def classes_(self) -> np.ndarray:
        return self.classes

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, X: np.ndarray) -> np.ndarray:
        return X


def is_accuracy(metric: Any) -> bool:
    """Whether the metric is the accuracy, for which thresholds are searched directly."""
    return isinstance(metric, str) and metric == "accuracy"


def metric_value(
    data: CalibrationData, exits: np.ndarray, metric: str | Callable[..., float]
) -> float:
    """Value of a scorer for given exits of the samples; greater is better.

    Parameters
    ----------
    data : CalibrationData
        With labels.
    exits : ndarray of shape (n_samples,)
    metric : str or callable
        Name of a scorer, or a scorer made by `sklearn.metrics.make_scorer`, called as
        ``metric(estimator, X, y)``. It must depend on predicted labels only.

    Raises
    ------
    ValueError
        If the scorer needs probabilities, or its value is not finite.
    """
    assert data.labels is not None
    assert data.y is not None
    rows = np.arange(len(exits))
    scorer = get_scorer(metric)
    answered = _Answered(np.unique(np.append(data.labels.ravel(), data.y)))
    equal = bool(np.all(data.weight == data.weight[0]))
    options = {} if equal else {"sample_weight": data.weight}
    try:
        value = scorer(answered, data.labels[rows, exits], data.y, **options)
    except AttributeError as error:
        raise ValueError(
            f"The 'metric' parameter must be a scorer that works on labels. Got {metric!r} "
            "instead, which needs other outputs of a model."
        ) from error
    if not np.isfinite(value):
        raise ValueError(
            f"The 'metric' parameter must be a scorer whose values are finite numbers. Got {value} "
            f"from {metric!r} on {len(exits)} calibration samples."
        )
    return float(value)


def value_at(data: CalibrationData, exits: np.ndarray, metric: str | Callable[..., float]) -> float:
    """Accuracy or other metric for given exits of the samples."""
    if is_accuracy(metric):
        right = data.correct[np.arange(len(exits)), exits]
        return float(np.average(right, weights=data.weight))
    return metric_value(data, exits, metric)


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
    exits = [data.exits(row) for row in candidates]
    costs = np.array([np.average(data.costs[e], weights=data.weight) for e in exits])
    values = np.array([metric_value(data, e, metric) for e in exits])
    return Frontier.of(candidates, costs, values)

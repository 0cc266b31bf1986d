"""Values of scikit-learn scorers for predictions that are already computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import get_scorer, get_scorer_names


class _Answered(ClassifierMixin, BaseEstimator):
    """Classifier for scorers, whose samples are the indices of given predictions."""

    def __init__(
        self, classes: np.ndarray, labels: np.ndarray, probabilities: np.ndarray | None
    ) -> None:
        self.classes = classes
        self.labels = labels
        self.probabilities = probabilities

    @property
    def classes_(self) -> np.ndarray:
        return self.classes

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.labels[X])

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        assert self.probabilities is not None
        return np.asarray(self.probabilities[X])


class _AnsweredTargets(RegressorMixin, BaseEstimator):
    """Regressor for scorers, whose samples are the indices of given predictions."""

    def __init__(self, predictions: np.ndarray) -> None:
        self.predictions = predictions

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.predictions[X])


def is_accuracy(metric: Any) -> bool:
    """Whether a metric is the accuracy."""
    return isinstance(metric, str) and metric == "accuracy"


def needs_probabilities(metric: str | Callable[..., float]) -> bool:
    """Whether a scorer may ask for probabilities.

    It is not known of a function that was not made by `sklearn.metrics.make_scorer`.
    """
    return getattr(get_scorer(metric), "_response_method", None) != "predict"


def score_predictions(
    metric: str | Callable[..., float],
    y: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray | None,
    *,
    classes: np.ndarray | None,
    weight: np.ndarray,
) -> float:
    """Value of a scorer for given predictions; greater is better.

    Parameters
    ----------
    metric : str or callable
        Name of a scorer, or a scorer, called as ``metric(estimator, X, y)``. It may depend on
        predicted labels and probabilities only.
    y, labels : ndarray of shape (n_samples, ...)
        True and predicted labels, or values of targets.
    probabilities : ndarray of shape (n_samples, n_classes) or None
        Predicted probabilities. May be None unless `needs_probabilities`.
    classes : ndarray of shape (n_classes,) or None
        Class labels, in the order of the probabilities. None in regression.
    weight : ndarray of shape (n_samples,)
        Sample weights. If all are equal, the scorer is called without them.

    Raises
    ------
    ValueError
        If the scorer cannot be computed from these, or its value is not finite.
    """
    equal = bool(np.all(weight == weight[0]))
    options = {} if equal else {"sample_weight": weight}
    answered: Any = _AnsweredTargets(labels)
    read = "predicted values of targets"
    if classes is not None:
        answered = _Answered(classes, labels, probabilities)
        read = f"predicted labels and probabilities of {len(classes)} classes"
    try:
        value = get_scorer(metric)(answered, np.arange(len(y)), y, **options)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"The 'metric' parameter must be a scorer that can be computed from {read}"
            f"{'' if equal else ', with weights'}. Got {metric!r} instead, which raises "
            f"{type(error).__name__}: {error}{_similar(metric)}"
        ) from error
    if not np.isfinite(value):
        raise ValueError(
            f"The 'metric' parameter must be a scorer whose values are finite numbers. Got {value} "
            f"from {metric!r} on {len(y)} samples."
        )
    return float(value)


def _similar(metric: Any) -> str:
    """Variants of the named scorer, of which some support more classes, as a sentence."""
    variants = [name for name in get_scorer_names() if name.startswith(f"{metric}_")]
    return f" There are also {variants}." if variants else ""

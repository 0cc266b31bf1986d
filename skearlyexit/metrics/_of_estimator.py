"""Exit table and exit report of a fitted model, which may be the last step of a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skearlyexit._data._labels import encode_labels
from skearlyexit._data._sources import labels_of
from skearlyexit._data._weights import checked_weight
from skearlyexit._exit_table import ExitTable
from skearlyexit._utils._unwrap import last_step
from skearlyexit.metrics._advice import on_operating_point
from skearlyexit.metrics._report import ExitReport


def exit_table(estimator: Any, X: Any) -> ExitTable:
    """Compute the outputs of every exit for every sample.

    All exits are computed for all samples, whatever the thresholds are.

    Parameters
    ----------
    estimator : EarlyExitClassifier or Pipeline
        Fitted classifier, or fitted pipeline whose last step is one.
    X : array-like of shape (n_samples, n_features) or (n_samples, ...)
        Samples, as in `predict` of the estimator.

    Returns
    -------
    table : ExitTable
        Predicted probabilities and scores; see `EarlyExitClassifier.exit_table`.

    Raises
    ------
    TypeError
        If the estimator is not an early-exit classifier.
    ValueError
        If X is invalid.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.metrics import exit_table
    >>> X, y = make_classification(200, random_state=0)
    >>> model = make_pipeline(StandardScaler(), EarlyExitClassifier(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"], calibration=None, max_epochs=2,
    ...     random_state=0)).fit(X, y)
    >>> exit_table(model, X).probabilities.shape
    (200, 2, 2)
    """
    classifier, X = last_step(estimator, X)
    table: ExitTable = classifier.exit_table(X)
    return table


def exit_report(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    sample_weight: Any = None,
    threshold: float | Sequence[float] | None = None,
    budget: Any = None,
    plain: Any = None,
    confidence_level: float = 0.95,
) -> ExitReport:
    """Report exit rates, costs and accuracies, with confidence intervals.

    Parameters
    ----------
    estimator : EarlyExitClassifier or Pipeline
        Fitted classifier, or fitted pipeline whose last step is one.
    X : array-like of shape (n_samples, n_features) or (n_samples, ...)
        Test samples, used neither for fitting nor for calibrating the model.
    y : array-like of shape (n_samples,), default=None
        True labels, among the classes of the estimator. May be None only if X is a torch Dataset
        whose items are pairs of a sample and its label.
    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights. Samples of weight 0 are ignored.
    threshold : float or sequence of float, default=None
        One threshold for all exits, or one for each exit but the last, instead of `thresholds_`.
    budget : float or Budget, default=None
        Maximum mean cost per sample, as in `EarlyExitClassifier.predict`.
    plain : fitted classifier or array-like of shape (n_samples,), default=None
        Model to compare with, whose `predict` is called with X, or the labels that it predicts.
    confidence_level : float, default=0.95
        Confidence level of each interval.

    Returns
    -------
    report : ExitReport
        Report that is shown as text if printed and as HTML in notebooks.

    Raises
    ------
    TypeError
        If the estimator is not an early-exit classifier.
    ValueError
        If X, y or an argument is invalid, or the budget cannot be met.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.metrics import exit_report
    >>> X, y = load_digits(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), EarlyExitClassifier(
    ...     MLPBackbone(2, width=32, hidden=32), calibration=0.2, max_epochs=5, random_state=0))
    >>> report = exit_report(model.fit(X[:1000], y[:1000]), X[1000:], y[1000:], budget=0.7)
    >>> report.overall.n_samples
    797
    """
    classifier, rows = last_step(estimator, X)
    point = classifier._point(threshold, budget)
    y, rows = labels_of(X, y), classifier._validate_rows(rows)
    classes = classifier.classes_
    encoded = encode_labels(y, rows, classes)
    plain_correct = None
    if plain is not None:
        plain_correct = _predictions_of(plain, X, classes, len(encoded)) == classes[encoded]
    table = classifier._tabulated(rows)
    return ExitReport.from_table(
        table,
        encoded,
        point.thresholds,
        classifier.costs_,
        exits=classifier._exits(rows, table, point),
        classes=classes,
        exit_names=classifier.exit_names_,
        weight=checked_weight(sample_weight, rows),
        confidence_level=confidence_level,
        plain_correct=plain_correct,
        request="" if point.request is None else point.request.description,
        certified=point.certified,
        reason=point.reason,
        cost_unit=classifier.cost_table_.unit,
        plain_cost=classifier.cost_table_.plain,
        plain_name=classifier.cost_table_.plain_name,
        advice=on_operating_point(classifier, point),
    )


def _predictions_of(plain: Any, X: Any, classes: np.ndarray, n_samples: int) -> np.ndarray:
    """Labels that are given, or that a model predicts for X, shape (n_samples,)."""
    labels = np.asarray(plain.predict(X) if hasattr(plain, "predict") else plain)
    if labels.shape != (n_samples,) or not np.isin(labels, classes).any():
        raise ValueError(
            "The 'plain' parameter must be a fitted classifier, or a label for each of "
            f"{n_samples} samples, with labels such as {classes[0]!r}. Got {type(plain).__name__}, "
            f"with labels of shape {labels.shape} and type {labels.dtype}."
        )
    return labels

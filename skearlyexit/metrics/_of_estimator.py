"""Exit table and exit report of a fitted model, which may be the last step of a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from skearlyexit._data._sources import labels_of
from skearlyexit._data._weights import checked_weight
from skearlyexit._exit_table import ExitTable, PredictionTable
from skearlyexit._utils._unwrap import last_step
from skearlyexit.metrics._advice import on_operating_point
from skearlyexit.metrics._regression_report import RegressionReport
from skearlyexit.metrics._report import ExitReport


def exit_table(estimator: Any, X: Any) -> ExitTable | PredictionTable:
    """Compute the outputs of every exit for every sample.

    All exits are computed for all samples, whatever the thresholds are.

    Parameters
    ----------
    estimator : EarlyExitClassifier, EarlyExitRegressor or Pipeline
        Fitted estimator, or fitted pipeline whose last step is one.
    X : array-like of shape (n_samples, n_features) or (n_samples, ...)
        Samples, as in `predict` of the estimator.

    Returns
    -------
    table : ExitTable or PredictionTable
        Predicted probabilities or values, and scores; see `EarlyExitClassifier.exit_table`.

    Raises
    ------
    TypeError
        If the estimator is not an early-exit estimator.
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
    model, X = last_step(estimator, X)
    table: ExitTable | PredictionTable = model.exit_table(X)
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
) -> ExitReport | RegressionReport:
    """Report exit rates, costs and accuracies, or errors in regression, with intervals.

    Parameters
    ----------
    estimator : EarlyExitClassifier, EarlyExitRegressor or Pipeline
        Fitted estimator, or fitted pipeline whose last step is one.
    X : array-like of shape (n_samples, n_features) or (n_samples, ...)
        Test samples, used neither for fitting nor for calibrating the model.
    y : array-like of shape (n_samples,) or (n_samples, n_targets), default=None
        True labels, among the classes of the estimator, or values. May be None only if X is a torch
        Dataset whose items are pairs of a sample and its label.
    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights. Samples of weight 0 are ignored.
    threshold : float or sequence of float, default=None
        One threshold for all exits, or one for each exit but the last, instead of `thresholds_`.
    budget : float or Budget, default=None
        Maximum mean cost per sample, as in `EarlyExitClassifier.predict`.
    plain : fitted estimator or array-like of shape (n_samples, ...), default=None
        Model to compare with, whose `predict` is called with X, or what it predicts.
    confidence_level : float, default=0.95
        Confidence level of each interval.

    Returns
    -------
    report : ExitReport or RegressionReport
        Report that is shown as text if printed and as HTML in notebooks.

    Raises
    ------
    TypeError
        If the estimator is not an early-exit estimator.
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
    model, rows = last_step(estimator, X)
    point = model._point(threshold, budget)
    y, rows = labels_of(X, y), model._validate_rows(rows)
    encoded = model._task.encoded(y, rows)
    table = model._tabulated(rows)
    described = {
        "exit_names": model.exit_names_,
        "weight": checked_weight(sample_weight, rows),
        "confidence_level": confidence_level,
        "request": "" if point.request is None else point.request.description,
        "certified": point.certified,
        "reason": point.reason,
        "cost_unit": model.cost_table_.unit,
        "plain_cost": model.cost_table_.plain,
        "plain_name": model.cost_table_.plain_name,
    }
    make = _REPORTS[model._task.estimator_type]
    exits, _ = model._outcomes(rows, table, point)
    return make(model, X, encoded, table, point, exits, plain, described)


def _of_classifier(
    model: Any,
    X: Any,
    y: np.ndarray,
    table: Any,
    point: Any,
    exits: np.ndarray,
    plain: Any,
    described: dict[str, Any],
) -> ExitReport:
    classes, plain_correct = model.classes_, None
    if plain is not None:
        plain_correct = _predictions_of(plain, X, classes, len(y)) == classes[y]
    return ExitReport.from_table(
        table,
        y,
        point.thresholds,
        model.costs_,
        exits=None if point.strict_budget is None else exits,
        classes=classes,
        plain_correct=plain_correct,
        advice=on_operating_point(model, point),
        **described,
    )


def _of_regressor(
    model: Any,
    X: Any,
    y: np.ndarray,
    table: Any,
    point: Any,
    exits: np.ndarray,
    plain: Any,
    described: dict[str, Any],
) -> RegressionReport:
    task, plain_losses = model._task, None
    if plain is not None:
        values = task.encoded(plain.predict(X) if hasattr(plain, "predict") else plain, y)
        plain_losses = task.losses(values[:, None], y)[:, 0]
    return RegressionReport.from_losses(
        task.losses(table.predictions, y),
        exits,
        point.thresholds,
        model.costs_,
        task.error_scale,
        plain_losses=plain_losses,
        **described,
    )


_REPORTS: dict[str, Callable[..., ExitReport | RegressionReport]] = {
    "classifier": _of_classifier,
    "regressor": _of_regressor,
}


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

"""What the displays share."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
)


def last_step(estimator: Any, X: Any) -> tuple[Any, Any]:
    """Early-exit classifier at the end of a pipeline, and the rows as it sees them.

    Parameters
    ----------
    estimator : EarlyExitClassifier or Pipeline
        Fitted.
    X : array-like of shape (n_samples, ...)

    Returns
    -------
    classifier : EarlyExitClassifier
    X : array-like of shape (n_samples, ...)

    Raises
    ------
    TypeError
        If there is no early-exit classifier at the end.
    """
    if isinstance(estimator, Pipeline):
        check_is_fitted(estimator)
        for _, step in estimator.steps[:-1]:
            if step is not None and step != "passthrough":
                X = step.transform(X)
        return last_step(estimator.steps[-1][1], X)
    if not hasattr(estimator, "exit_table"):
        hint = " Give its best_estimator_." if hasattr(estimator, "best_estimator_") else ""
        raise TypeError(
            "'estimator' must be an EarlyExitClassifier, or a Pipeline whose last step is one. Got "
            f"{type(estimator).__name__} instead.{hint}"
        )
    check_is_fitted(estimator)
    return estimator, X


def checked_rows(y_true: Any, *others: Any, sample_weight: Any) -> tuple[np.ndarray, np.ndarray]:
    """Labels and weights as arrays.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
    *others : array-like of shape (n_samples, ...)
        What must have as many rows.
    sample_weight : array-like of shape (n_samples,) or None

    Returns
    -------
    y_true, weight : ndarray of shape (n_samples,)

    Raises
    ------
    ValueError
        If lengths differ, there are no rows, or a weight is negative or none is positive.
    """
    y_true = column_or_1d(y_true)
    check_consistent_length(y_true, *others)
    weight = _check_sample_weight(
        sample_weight, y_true[:, None], dtype=np.float64, ensure_non_negative=True
    )
    if not (weight > 0).any():
        raise ValueError(f"There must be a row of positive weight. Got none among {len(weight)}.")
    return y_true, weight

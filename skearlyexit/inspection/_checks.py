"""Checks of the arguments of displays."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import (
    check_consistent_length,
    column_or_1d,
)

from skearlyexit._data._weights import checked_weight, scaled


def checked_rows(y_true: Any, *others: Any, sample_weight: Any) -> tuple[np.ndarray, np.ndarray]:
    """Labels and weights as arrays.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
    *others : array-like of shape (n_samples, ...)
        Arrays that must have the same number of samples.
    sample_weight : array-like of shape (n_samples,) or None

    Returns
    -------
    y_true, weight : ndarray of shape (n_samples,)
        Weights are scaled.

    Raises
    ------
    ValueError
        If lengths differ, there are no samples, or a weight is negative or none is positive.
    """
    y_true = column_or_1d(y_true)
    check_consistent_length(y_true, *others)
    return y_true, scaled(checked_weight(sample_weight, y_true[:, None]))


def checked_names(exit_names: Any, n_exits: int) -> list[str]:
    """Names of the exits, numbered where they are None."""
    if exit_names is None:
        return [f"exit {i}" for i in range(n_exits)]
    names = [str(name) for name in exit_names]
    if len(names) != n_exits:
        raise ValueError(
            f"'exit_names' must hold {n_exits} names for {n_exits} exits. Got {len(names)}: "
            f"{names}."
        )
    return names


def names_with_costs(classifier: Any) -> list[str]:
    """Names of the exits of a classifier, each with its cost in units of the plain network."""
    named = zip(classifier.exit_names_, classifier.costs_, strict=True)
    return [f"{name} ({cost:.2g})" for name, cost in named]


def checked_exits(exits: Any, n_exits: int) -> np.ndarray:
    """Exit of each sample, shape (n_samples,)."""
    exits = column_or_1d(exits)
    if exits.dtype.kind not in "iu":
        raise ValueError(f"'exits' must hold integers. Got an array of {exits.dtype}.")
    if not len(exits) or exits.min() < 0 or exits.max() >= n_exits:
        got = f"exits from {exits.min()} to {exits.max()}" if len(exits) else "no samples"
        raise ValueError(f"'exits' must lie between 0 and {n_exits - 1}. Got {got}.")
    return exits


def check_shapes(
    y_pred: np.ndarray, scores: np.ndarray, costs: np.ndarray, **thresholds: Any
) -> None:
    """Raise a ValueError if arrays of samples, costs and thresholds differ in their exits."""
    if y_pred.ndim != 2 or y_pred.shape != scores.shape or costs.shape != y_pred.shape[1:]:
        raise ValueError(
            "'y_pred' and 'scores' must be of shape (n_samples, n_exits) and 'costs' of shape "
            f"(n_exits,). Got {y_pred.shape}, {scores.shape} and {costs.shape}."
        )
    for name, points in thresholds.items():
        if points is not None and np.shape(points)[-1:] != (len(costs) - 1,):
            raise ValueError(
                f"{name!r} must hold {len(costs) - 1} thresholds for {len(costs)} exits, one "
                f"for each but the last. Got an array of shape {np.shape(points)}."
            )

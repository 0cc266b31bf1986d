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
        What must have as many rows.
    sample_weight : array-like of shape (n_samples,) or None

    Returns
    -------
    y_true, weight : ndarray of shape (n_samples,)
        Weights are scaled.

    Raises
    ------
    ValueError
        If lengths differ, there are no rows, or a weight is negative or none is positive.
    """
    y_true = column_or_1d(y_true)
    check_consistent_length(y_true, *others)
    return y_true, scaled(checked_weight(sample_weight, y_true[:, None]))


def checked_names(exit_names: Any, n_exits: int) -> list[str]:
    """Names of the exits; None numbers them."""
    if exit_names is None:
        return [f"exit {i}" for i in range(n_exits)]
    names = [str(name) for name in exit_names]
    if len(names) != n_exits:
        raise ValueError(
            f"'exit_names' must hold {n_exits} names for {n_exits} exits. Got {len(names)}: "
            f"{names}."
        )
    return names


def checked_exits(exits: Any, n_exits: int) -> np.ndarray:
    """Exit at which each row leaves, shape (n_samples,)."""
    exits = column_or_1d(exits)
    if exits.dtype.kind not in "iu":
        raise ValueError(f"'exits' must hold integers. Got an array of {exits.dtype}.")
    if not len(exits) or exits.min() < 0 or exits.max() >= n_exits:
        got = f"exits from {exits.min()} to {exits.max()}" if len(exits) else "no rows"
        raise ValueError(f"'exits' must lie between 0 and {n_exits - 1}. Got {got}.")
    return exits

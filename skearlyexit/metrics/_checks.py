"""Validation of the arrays that metrics are computed from."""

from __future__ import annotations

from typing import Any

import numpy as np

from skearlyexit._data import _weights


def checked_correct(correct: Any) -> np.ndarray:
    """Validated correctness of each exit for each sample, bool of shape (n_samples, n_exits)."""
    correct = np.asarray(correct)
    if correct.ndim != 2 or not correct.size:
        raise ValueError(
            "'correct' must be of shape (n_samples, n_exits), with at least one sample and one "
            f"exit. Got an array of shape {correct.shape}."
        )
    if correct.dtype != bool and not np.isin(correct, (0, 1)).all():
        raise ValueError(
            "'correct' must hold whether each prediction is correct: True or False, or 1 or 0. Got "
            f"an array of {correct.dtype} with other values. Give `labels == y[:, None]`."
        )
    return correct.astype(bool)


def checked_matrix(values: Any, name: str) -> np.ndarray:
    """Validated finite numbers of shape (n_samples, n_exits)."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or not values.size:
        raise ValueError(
            f"{name!r} must be of shape (n_samples, n_exits), with at least one sample and one "
            f"exit. Got an array of shape {values.shape}."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{name!r} must be finite. Got an array with NaN or infinity.")
    return values


def checked_costs(costs: Any, n_exits: int) -> np.ndarray:
    """Validated cumulative costs of shape (n_exits,), which do not decrease."""
    costs = np.asarray(costs, dtype=np.float64)
    if costs.shape != (n_exits,) or not np.isfinite(costs).all() or (np.diff(costs) < 0).any():
        raise ValueError(
            f"'costs' must hold {n_exits} finite numbers for {n_exits} exits. They are cumulative "
            f"and must not decrease. Got {costs.tolist()}."
        )
    return costs


def checked_weight(weight: Any, rows: np.ndarray) -> np.ndarray:
    """Validated and scaled weights of shape (n_samples,); None means ones."""
    return _weights.scaled(_weights.checked_weight(weight, rows.reshape(len(rows), -1)))

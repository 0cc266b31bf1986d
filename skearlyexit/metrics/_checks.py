"""What the measures ask of the arrays that they are given."""

from __future__ import annotations

from typing import Any

import numpy as np

from skearlyexit._data import _weights


def checked_correct(correct: Any) -> np.ndarray:
    """Whether each exit is right on each row, as booleans of shape (n_samples, n_exits)."""
    correct = np.asarray(correct)
    if correct.ndim != 2 or not correct.size:
        raise ValueError(
            "'correct' must be of shape (n_samples, n_exits), with a row and an exit at least. Got "
            f"an array of shape {correct.shape}."
        )
    if correct.dtype != bool and not np.isin(correct, (0, 1)).all():
        raise ValueError(
            "'correct' must tell whether each exit is right: True or False, or 1 or 0. Got an "
            f"array of {correct.dtype} with other values. Give `labels == y[:, None]`."
        )
    return correct.astype(bool)


def checked_matrix(values: Any, name: str) -> np.ndarray:
    """Finite numbers of shape (n_samples, n_exits)."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or not values.size:
        raise ValueError(
            f"{name!r} must be of shape (n_samples, n_exits), with a row and an exit at least. Got "
            f"an array of shape {values.shape}."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{name!r} must be finite. Got an array with NaN or infinity.")
    return values


def checked_costs(costs: Any, n_exits: int) -> np.ndarray:
    """Cumulative costs of shape (n_exits,), which do not fall."""
    costs = np.asarray(costs, dtype=np.float64)
    if costs.shape != (n_exits,) or not np.isfinite(costs).all() or (np.diff(costs) < 0).any():
        raise ValueError(
            f"'costs' must hold {n_exits} finite numbers for {n_exits} exits, cumulative, so that "
            f"none is below the one before. Got {costs.tolist()}."
        )
    return costs


def checked_weight(weight: Any, rows: np.ndarray) -> np.ndarray:
    """Weights of shape (n_samples,) scaled; None is ones."""
    return _weights.scaled(_weights.checked_weight(weight, rows.reshape(len(rows), -1)))

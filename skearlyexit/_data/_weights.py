"""Validation and scaling of sample weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import _check_sample_weight


def checked_weight(sample_weight: Any, rows: Any) -> np.ndarray:
    """Validate sample weights, without scaling them.

    Parameters
    ----------
    sample_weight : array-like of shape (n_samples,), float or None
        None gives ones.
    rows : array-like of shape (n_samples, ...)
        The samples.

    Returns
    -------
    weight : ndarray of shape (n_samples,)

    Raises
    ------
    ValueError
        If weights are negative, not finite or all 0, if there is not one for each sample, or if
        float64 cannot represent the ratio of the smallest positive weight to the largest.
    """
    try:
        weight: np.ndarray = _check_sample_weight(
            sample_weight, rows, dtype=np.float64, ensure_non_negative=True
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            "sample_weight must hold one finite number for each sample, none of them negative. "
            f"({error})"
        ) from error
    check_span(weight)
    return weight


def check_span(weight: np.ndarray) -> None:
    """Raise a ValueError if the smallest positive weight is 0 relative to the largest."""
    positive = weight[weight > 0]
    if not len(positive):
        return
    smallest, largest = positive.min(), positive.max()
    if smallest / largest < np.finfo(np.float64).tiny:
        raise ValueError(
            "Weights must not be so far apart that float64 cannot hold their ratio. Got weights "
            f"between {smallest:g} and {largest:g}; give 0 to samples that are to be ignored."
        )


def scaled(weight: Any) -> np.ndarray:
    """Divide weights by the power of two above the largest.

    Sums of the result do not overflow or underflow, and weighted means do not change.
    """
    _, exponent = np.frexp(np.max(weight, initial=0.0))
    return np.asarray(np.ldexp(weight, -exponent))

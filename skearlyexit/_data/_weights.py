"""Weights of samples: what is accepted, and how they are kept from overflowing."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import _check_sample_weight


def checked_weight(sample_weight: Any, rows: Any) -> np.ndarray:
    """Weights of samples in their own units.

    Parameters
    ----------
    sample_weight : array-like of shape (n_samples,), float or None
        None are ones.
    rows : array-like of shape (n_samples, ...)

    Returns
    -------
    weight : ndarray of shape (n_samples,)

    Raises
    ------
    ValueError
        If weights are negative, not finite, all 0, of another number, or so far apart that float64
        cannot hold the smallest positive one as a share of the largest.
    """
    try:
        weight: np.ndarray = _check_sample_weight(
            sample_weight, rows, dtype=np.float64, ensure_non_negative=True
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            "sample_weight must hold one finite number for each row, none of them negative. "
            f"({error})"
        ) from error
    check_span(weight)
    return weight


def check_span(weight: np.ndarray) -> None:
    """Refuse weights so far apart that the smallest positive one would count as 0."""
    positive = weight[weight > 0]
    if not len(positive):
        return
    smallest, largest = positive.min(), positive.max()
    if smallest / largest < np.finfo(np.float64).tiny:
        raise ValueError(
            "Weights must not be so far apart that float64 cannot hold their ratio. Got weights "
            f"between {smallest:g} and {largest:g}; give 0 to samples that are not to count."
        )


def scaled(weight: Any) -> np.ndarray:
    """Weights divided by the power of two above the largest.

    Their sums neither over- nor underflow, and no bit of a weighted mean changes.
    """
    _, exponent = np.frexp(np.max(weight, initial=0.0))
    return np.asarray(np.ldexp(weight, -exponent))

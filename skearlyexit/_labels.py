"""Labels as indices of known classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_consistent_length, column_or_1d


def encode_labels(y: Any, X: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Indices of the labels of rows among classes that were seen in fit.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
    X : ndarray of shape (n_samples, ...)
        The rows that they belong to.
    classes : ndarray of shape (n_classes,)
        Sorted.

    Raises
    ------
    ValueError
        If a label is none of the classes, or rows and labels differ in number.
    """
    y = column_or_1d(y)
    check_consistent_length(X, y)
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(
            f"y holds labels that were not seen in fit: {unknown[:5].tolist()}. The classes are "
            f"{classes[:20].tolist()}."
        )
    return np.searchsorted(classes, y)

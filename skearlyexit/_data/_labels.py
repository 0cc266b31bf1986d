"""Validation of labels, and their encoding as indices of classes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.utils._missing import is_pandas_na, is_scalar_nan
from sklearn.utils.validation import check_consistent_length, column_or_1d


def encode_labels(y: Any, X: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Encode labels as indices of the classes seen in fit.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
    X : ndarray of shape (n_samples, ...)
        The samples.
    classes : ndarray of shape (n_classes,)
        Sorted labels of the classes.

    Returns
    -------
    encoded : ndarray of shape (n_samples,), int

    Raises
    ------
    ValueError
        If a label is not among the classes, or there is not one label for each sample.
    """
    check_labels(y)
    y = column_or_1d(y)
    check_consistent_length(X, y)
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(
            f"y holds labels that were not seen in fit: {unknown[:5].tolist()}. The classes are "
            f"{classes[:20].tolist()}."
        )
    return np.searchsorted(classes, y)


def check_labels(y: Any, name: str = "y") -> None:
    """Raise a ValueError if labels are missing, or are of types that cannot be sorted together.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
    name : str, default="y"
        Name of the argument, for error messages.
    """
    dtype = getattr(y, "dtype", None)
    if (isinstance(dtype, np.dtype) and dtype.kind != "O") or not isinstance(y, Iterable):
        return  # scikit-learn checks numbers for NaN
    labels = np.asarray(y, dtype=object).ravel().tolist()
    are_texts = {kind: issubclass(kind, str | bytes) for kind in set(map(type, labels))}
    if not all(are_texts.values()):
        for i, label in enumerate(labels):
            if label is None or is_scalar_nan(label) or is_pandas_na(label):
                raise ValueError(
                    f"Input {name} contains NaN or None: entry {i} is {label!r}. Leave such "
                    "samples out, or give a value."
                )
    kinds = [are_texts[type(label)] for label in labels]
    if len(set(kinds)) > 1:
        i, k = kinds.index(True), kinds.index(False)
        raise ValueError(
            f"{name} mixes strings with other values: entry {i} is {labels[i]!r}, entry {k} is "
            f"{labels[k]!r}. Give values of one type."
        )
    if not any(kinds):
        try:
            np.sort(np.asarray(y), axis=None)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{name} must hold one value for each sample, all of a type that can be sorted, "
                f"such as numbers or strings. Got {labels[0]!r} as the first. ({error})"
            ) from error

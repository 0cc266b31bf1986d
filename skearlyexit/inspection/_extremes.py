"""Extreme samples, their captions, and the values that are drawn of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.preprocessing import StandardScaler

from skearlyexit.inspection._outliers import typical_range


def extremes(scores: np.ndarray, here: np.ndarray, n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the samples with the highest and the lowest scores.

    Parameters
    ----------
    scores : ndarray of shape (n_samples,)
    here : ndarray of int
        Indices of the samples to choose from.
    n_samples : int
        Most samples of each kind.

    Returns
    -------
    easiest, hardest : ndarray of int
        Most confident first, and least confident first.
    """
    order = here[np.argsort(-scores[here], kind="stable")]
    n_easiest = min(n_samples, (len(order) + 1) // 2)
    n_hardest = min(n_samples, len(order) - n_easiest)
    return order[:n_easiest], order[len(order) - n_hardest :][::-1]


def captions_of(
    scores: np.ndarray,
    wrong: np.ndarray,
    y_true: np.ndarray | None = None,
    y_pred: np.ndarray | None = None,
) -> list[str]:
    """Predicted label, score, and the true label where it is another one."""
    lines = [f"{score:.2f}" for score in scores]
    if y_pred is not None:
        lines = [f"{label} ({line})" for label, line in zip(y_pred, lines, strict=True)]
    if y_true is not None:
        lines = [
            f"{line}, is {truth}" if is_wrong else line
            for line, truth, is_wrong in zip(lines, y_true, wrong, strict=True)
        ]
    return lines


def checked_values(X: Any) -> np.ndarray:
    """Samples as finite numbers, shape (n_samples, ...)."""
    try:
        values = np.asarray(X).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"'X' must hold numbers to be drawn. Got something else: {error}. Encode it first, and "
            "give the classifier itself instead of a pipeline that encodes."
        ) from error
    if values.ndim < 2 or not np.isfinite(values).all():
        raise ValueError(
            "'X' must be finite, of shape (n_samples, n_features), (n_samples, height, width), "
            "(n_samples, channels, height, width) or (n_samples, height, width, channels). Got "
            f"shape {values.shape}" + (" with NaN or infinity." if values.ndim >= 2 else ".")
        )
    return values


def drawn_values(
    values: np.ndarray, image_shape: Sequence[int] | None, feature_names: Sequence[str] | None
) -> np.ndarray:
    """Standardized features of flat samples, or images.

    Parameters
    ----------
    values : ndarray of shape (n_samples, ...)
    image_shape : sequence of int or None
        Shape of images that are given as flat pixels.
    feature_names : sequence of str or None

    Returns
    -------
    values : ndarray of shape (n_samples, n_features) or (n_samples, height, width[, 3])

    Raises
    ------
    ValueError
        If shape or names do not fit.
    """
    if image_shape is not None or values.ndim > 2:
        return _images(values, image_shape)
    n_features = values.shape[1]
    if feature_names is not None and len(feature_names) != n_features:
        raise ValueError(
            f"'feature_names' must hold {n_features} names for {n_features} features. Got "
            f"{len(feature_names)}."
        )
    return _standardized(values)


def _standardized(values: np.ndarray) -> np.ndarray:
    """Features with the mean 0 and the standard deviation 1, outliers not counted."""
    usual = values.copy()
    for column in usual.T:
        low, high = typical_range(column)
        column[(column < low) | (column > high)] = np.nan
    return np.asarray(StandardScaler().fit(usual).transform(values))


def _images(values: np.ndarray, image_shape: Sequence[int] | None) -> np.ndarray:
    """Images of shape (n_samples, height, width), or (..., 3) scaled to [0, 1] if in color."""
    shape = values.shape[1:] if image_shape is None else tuple(image_shape)
    if np.prod(shape) != np.prod(values.shape[1:]):
        raise ValueError(
            f"'image_shape' must hold as many pixels as a sample of X has values, "
            f"{int(np.prod(values.shape[1:]))}. Got {tuple(shape)} with {int(np.prod(shape))}."
        )
    if len(shape) == 2:
        shape = (1, *shape)
    # The first axis where both may be the channels, as in the networks.
    axes = [axis for axis in (0, 2) if len(shape) == 3 and shape[axis] in (1, 3)]
    if not axes:
        raise ValueError(
            "Images must be of shape (height, width), (channels, height, width) or (height, width, "
            f"channels) with one channel or three. Got {tuple(shape)}."
        )
    images = np.moveaxis(values.reshape(len(values), *shape), 1 + axes[0], -1)
    if images.shape[-1] == 1:
        return images[..., 0]
    low, high = typical_range(images.ravel())
    return np.clip((images - low) / (high - low if high > low else 1.0), 0.0, 1.0)

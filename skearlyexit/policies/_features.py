"""What a learned policy sees of an answer."""

from __future__ import annotations

import numpy as np
from scipy.special import entr

#: How an answer may be described.
FEATURES = {"summary", "probabilities"}


def answer_features(probabilities: np.ndarray, features: str = "summary") -> np.ndarray:
    """Numbers that tell how sure an answer is.

    Parameters
    ----------
    probabilities : ndarray of shape (n_samples, n_classes)
    features : {"summary", "probabilities"}, default="summary"
        The largest probability, its lead over the second, the normalized entropy, and that of the
        squared probabilities; or all of them, largest first, which knows no classes either.

    Returns
    -------
    features : ndarray of shape (n_samples, 4) or (n_samples, n_classes)

    References
    ----------
    Chataoui, Szatkowski et al., "Jointly-learned exit and inference for a dynamic neural network:
    JEI-DNN", ICLR 2024, for the four numbers.

    Examples
    --------
    >>> answer_features(np.array([[0.0, 1.0], [0.5, 0.5]]))
    array([[1. , 1. , 0. , 0. ],
           [0.5, 0. , 1. , 1. ]])
    """
    if features == "probabilities":
        return np.ascontiguousarray(np.sort(probabilities, axis=1)[:, ::-1])
    top = np.partition(probabilities, -2, axis=1)[:, -2:]
    squared = np.square(probabilities)
    squared /= squared.sum(axis=1, keepdims=True)
    return np.stack(
        [top[:, 1], top[:, 1] - top[:, 0], _entropy(probabilities), _entropy(squared)], axis=1
    )


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    """From 0 to 1, which a blind guess has."""
    return np.asarray(entr(probabilities).sum(axis=1) / np.log(probabilities.shape[1]))


def n_operations(n_classes: int, features: str) -> float:
    """Operations per row of `answer_features`: one for each class and number."""
    return float(n_classes * (4 if features == "summary" else 1))

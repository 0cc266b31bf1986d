"""Features of the predicted probabilities, from which policies learn."""

from __future__ import annotations

import numpy as np
from scipy.special import entr

#: Kinds of features.
FEATURES = {"summary", "probabilities"}


def answer_features(probabilities: np.ndarray, features: str = "summary") -> np.ndarray:
    """Compute features that describe how confident a prediction is.

    Parameters
    ----------
    probabilities : ndarray of shape (n_samples, n_classes)
        Predicted probabilities.
    features : {"summary", "probabilities"}, default="summary"
        ``"summary"``: largest probability, its difference from the second largest, normalized
        entropy, and normalized entropy of the squared and normalized probabilities.
        ``"probabilities"``: all probabilities in descending order. Neither depends on the order of
        the classes.

    Returns
    -------
    features : ndarray of shape (n_samples, 4) or (n_samples, n_classes)
        Features of each sample.

    References
    ----------
    ``"summary"``: Chataoui, Szatkowski et al., "Jointly-learned exit and inference for a dynamic
    neural network: JEI-DNN", ICLR 2024.

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
    """Entropy divided by that of the uniform distribution."""
    return np.asarray(entr(probabilities).sum(axis=1) / np.log(probabilities.shape[1]))


def n_operations(n_classes: int, features: str) -> float:
    """Operations of `answer_features` per sample: one for each class and feature."""
    return float(n_classes * (4 if features == "summary" else 1))

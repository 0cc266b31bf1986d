"""Alignment of the embeddings of one network with those of another."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

#: Ridge penalty per sample. The mean square of a standardized feature is 1, so that this makes the
#: fit well-posed without a noticeable effect on it.
PENALTY = 1e-4


def align(fitted: np.ndarray, target: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Map embeddings of one network to the embedding space of another.

    Two training runs of the same network find similar features, in different coordinates. The map
    from one to the other is affine, and is fitted by least squares on the embeddings of samples
    that both networks were trained on.

    Parameters
    ----------
    fitted, target : ndarray of shape (n_samples, n_features)
        Embeddings of the same samples by the first and by the second network.
    new : ndarray of shape (n_new, n_features)
        Embeddings of other samples by the first network.

    Returns
    -------
    aligned : ndarray of shape (n_new, n_features)
        Estimates of the embeddings of these samples by the second network.
    """
    ridge = make_pipeline(StandardScaler(), Ridge(PENALTY * len(fitted)))
    return np.asarray(ridge.fit(fitted, target).predict(new)).reshape(len(new), -1)

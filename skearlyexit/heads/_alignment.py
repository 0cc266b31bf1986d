"""Embeddings of one network in the coordinates of another."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

#: Penalty for each row, against a squared norm of 1 a row of a standardized column: enough to make
#: the fit well-posed, too little to show.
PENALTY = 1e-4


def align(fitted: np.ndarray, target: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Map new embeddings of a network to where another network would have put them.

    Two trainings of the same network find much the same features in coordinates of their own. The
    map from one to the other is affine, and fitted by least squares on rows that both have seen.

    Parameters
    ----------
    fitted, target : ndarray of shape (n_samples, n_features)
        Embeddings of the same rows by the first and by the second network.
    new : ndarray of shape (n_new, n_features)
        Embeddings of other rows by the first network.

    Returns
    -------
    aligned : ndarray of shape (n_new, n_features)
    """
    ridge = make_pipeline(StandardScaler(), Ridge(PENALTY * len(fitted)))
    return np.asarray(ridge.fit(fitted, target).predict(new)).reshape(len(new), -1)

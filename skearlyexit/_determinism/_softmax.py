"""Softmax whose result for a sample does not depend on the other samples."""

from __future__ import annotations

import numpy as np

#: Number of samples that are computed together. The values of a few classes stay in the cache.
CHUNK = 512


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax in double precision, in which probabilities sum to 1.

    The classes are the first axis of the temporary arrays, so that each operation is applied to
    many samples at once. torch computes one sample after the other, which is slow for few classes.

    Parameters
    ----------
    logits : ndarray of shape (n_samples, n_classes)
        Logits. The result for a sample is the same to the last bit with any other samples if their
        number is a multiple of 16: NumPy adds up the classes of a single sample in another order.

    Returns
    -------
    probabilities : ndarray of shape (n_samples, n_classes), float64
        Probability of each class.
    """
    if len(logits) <= CHUNK:
        return _of_chunk(logits)
    probabilities = np.empty(logits.shape)
    for start in range(0, len(logits), CHUNK):
        chunk = slice(start, start + CHUNK)
        probabilities[chunk] = _of_chunk(logits[chunk])
    return probabilities


def _of_chunk(logits: np.ndarray) -> np.ndarray:
    values = np.array(logits.T, dtype=np.float64, order="C")
    values -= np.maximum.reduce(values)
    np.exp(values, out=values)
    values /= np.add.reduce(values)
    return values.T

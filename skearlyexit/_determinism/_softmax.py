"""Softmax whose result for a sample does not depend on the other samples.

The classes are the first axis of temporary arrays, so that each operation is applied to many
samples at once. torch computes one sample after the other, which is slow for few classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from skearlyexit._determinism._layers import round_up

#: Number of values that are computed together, and stay in the cache.
CHUNK_VALUES = 2**17
#: Terms above it may become equal to that of the most probable class, 1, by the division.
NEAR_ONE = 1 - 2.0**-50
#: Number of samples up to which argmax is faster than a search without it.
FEW = 64


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax in double precision, in which probabilities sum to 1.

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
    if logits.size <= CHUNK_VALUES:
        return _of_chunk(logits)
    probabilities = np.empty(logits.shape)
    for chunk in _chunks(logits):
        probabilities[chunk] = _of_chunk(logits[chunk])
    return probabilities


def softmax_of_one(logits: np.ndarray) -> np.ndarray:
    """`softmax` for a single sample, to the last bit as for it among 16.

    Parameters
    ----------
    logits : ndarray of shape (1, n_classes)
        Logits of the sample.

    Returns
    -------
    probabilities : ndarray of shape (1, n_classes), float64
        Probability of each class.
    """
    terms = logits.astype(np.float64)
    terms -= np.maximum.reduce(terms, axis=None)
    np.exp(terms, out=terms)
    # One class after the other, as for many samples.
    terms /= np.add.accumulate(terms, axis=1)[0, -1]
    return terms


def largest_of_softmax(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest probability of `softmax`, to the last bit, without the other probabilities.

    Parameters
    ----------
    logits : ndarray of shape (n_samples, n_classes)
        As in `softmax`.

    Returns
    -------
    labels : ndarray of shape (n_samples,)
        Index of the first class with the largest probability.
    probabilities : ndarray of shape (n_samples,), float64
        Largest probability. NaN if any is NaN.
    """
    if logits.size <= CHUNK_VALUES:
        return _largest_of_chunk(logits)
    labels, probabilities = np.empty(len(logits), dtype=np.intp), np.empty(len(logits))
    for chunk in _chunks(logits):
        labels[chunk], probabilities[chunk] = _largest_of_chunk(logits[chunk])
    return labels, probabilities


def largest_of(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Most probable classes, and their probabilities.

    Parameters
    ----------
    probabilities : ndarray of shape (n_samples, n_classes)
        Probability of each class.

    Returns
    -------
    labels : ndarray of shape (n_samples,)
        Index of the first class with the largest probability.
    probabilities : ndarray of shape (n_samples,)
        Largest probability. NaN if any probability is NaN or negative.
    """
    labels = probabilities.argmax(axis=1)
    least, largest = probabilities.min(axis=1), probabilities.max(axis=1)
    return labels, np.where(least >= 0, largest, np.nan)


def _chunks(logits: np.ndarray) -> Iterator[slice]:
    """Chunks of samples, multiples of 16."""
    n_rows = round_up(max(1, CHUNK_VALUES // logits.shape[1]))
    for start in range(0, len(logits), n_rows):
        yield slice(start, start + n_rows)


def _of_chunk(logits: np.ndarray) -> np.ndarray:
    terms, total = _terms(logits)
    terms /= total
    return terms.T


def _largest_of_chunk(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    terms, total = _terms(logits)
    if len(total) > FEW:
        # Faster than argmax, which compares one value after the other.
        near = terms > NEAR_ONE
        if np.count_nonzero(near) == len(total):  # one of each sample
            return np.maximum.reduce(near * _indices(len(terms))).astype(np.intp), 1.0 / total
    terms /= total
    return terms.argmax(axis=0), 1.0 / total  # the largest term was 1


@cache
def _indices(n_classes: int) -> np.ndarray:
    """Indices of the classes, one below the other, in as few bits as possible."""
    return np.arange(n_classes, dtype=np.min_scalar_type(n_classes - 1))[:, None]


def _terms(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Terms of the softmax by class, and their sums."""
    terms = np.array(logits.T, dtype=np.float64, order="C")
    terms -= np.maximum.reduce(terms)
    np.exp(terms, out=terms)
    return terms, np.add.reduce(terms)

"""Iteration over samples in blocks, and statistics computed block by block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import numpy as np

#: Number of values in a block, which bounds the memory of a pass over samples.
BLOCK_VALUES = 2**22


def blocks(X: Any) -> Iterator[np.ndarray]:
    """Iterate over samples in arrays of at most `BLOCK_VALUES` values, or of one sample.

    Parameters
    ----------
    X : ndarray or StreamedRows of shape (n_samples, ...)
    """
    n_rows = max(1, BLOCK_VALUES // max(1, math.prod(X.shape[1:])))
    for start in range(0, max(1, len(X)), n_rows):
        yield X[start : start + n_rows]


def channel_moments(
    X: Any, arrange: Callable[[np.ndarray], np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean and standard deviation of each channel, in double precision.

    They are computed in two passes over blocks, with the same result whether samples are in memory
    or are read as needed.

    Parameters
    ----------
    X : ndarray or StreamedRows of shape (n_samples, ...)
    arrange : callable, default=None
        Reshapes samples to an array with the channels on its second axis. None leaves them
        unchanged.

    Returns
    -------
    mean, deviation : ndarray of shape (1, n_channels, 1, ...)
    n_values : int
        Number of values of each channel.
    """

    def arranged() -> Iterator[np.ndarray]:
        return blocks(X) if arrange is None else map(arrange, blocks(X))

    counts: list[int] = []

    def total(block: np.ndarray) -> np.ndarray:
        counts.append(block.size // block.shape[1])
        return _sum(block)

    mean = reduce(np.add, map(total, arranged())) / sum(counts)
    squares = reduce(np.add, (_sum(_squared(block - mean)) for block in arranged()))
    n_values = sum(counts)
    return mean, np.sqrt(squares / n_values), n_values


def _sum(block: np.ndarray) -> np.ndarray:
    axes = (0, *range(2, block.ndim))
    return block.sum(axis=axes, dtype=np.float64, keepdims=True)


def _squared(values: np.ndarray) -> np.ndarray:
    return np.square(values, out=values)

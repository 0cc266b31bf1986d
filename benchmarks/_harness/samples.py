"""Samples of a data set, divided into training, held-out and test samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

from _harness.data import SETS, Arrays
from _harness.store import keep

#: Training samples at most where networks are trained for several scripts.
MAX_TRAIN = 12_000


def divide(
    X: np.ndarray,
    y: np.ndarray,
    seed: int,
    *,
    n_test: int = 0,
    sizes: tuple[int, int] | None = None,
) -> tuple[Arrays, Arrays, Arrays]:
    """Training, held-out and test samples, stratified, each as (X, y).

    Parameters
    ----------
    X, y : ndarray
    seed : int
    n_test : int, default=0
        The last so many samples are the test samples; 0 draws a quarter of all.
    sizes : tuple of two ints, default=None
        Numbers of training and held-out samples; None takes 80 and 20 % of those that are not
        test samples.
    """
    rest, test = take_test(X, y, seed, n_test)
    train, held_out = _split(rest, seed, sizes)
    return train, held_out, test


def take_test(X: np.ndarray, y: np.ndarray, seed: int, n_test: int) -> tuple[Arrays, Arrays]:
    """All other samples, and the test samples; see `divide`."""
    if n_test:
        return (X[:-n_test], y[:-n_test]), (X[-n_test:], y[-n_test:])
    return _split((X, y), seed, 0.25)


def subsample(samples: Arrays, n_samples: int, seed: int = 0) -> Arrays:
    """At most so many of the samples, stratified; 0 takes all."""
    if not 0 < n_samples < len(samples[0]):
        return samples
    return _split(samples, seed, n_samples)[1]


def limited(X: np.ndarray, y: np.ndarray, size: int, seed: int) -> list[np.ndarray]:
    """At most so many training samples, and a quarter or 4,000 test samples of their classes."""
    order = np.random.RandomState(seed).permutation(len(X))
    X, y = X[order], y[order]
    n_test = min(4000, len(X) // 4)
    stop = min(n_test + size, len(X))
    known = np.isin(y[:n_test], y[n_test:stop])
    return [X[n_test:stop], y[n_test:stop], X[:n_test][known], y[:n_test][known]]


def _split(
    samples: Arrays, seed: int, sizes: tuple[int, int] | float | None
) -> tuple[Arrays, Arrays]:
    """Two parts, given the sizes of both or that of the second; None gives 20 % to it."""
    first, second = sizes if isinstance(sizes, tuple) else (None, sizes or 0.2)
    X, y = samples
    X_first, X_second, y_first, y_second = train_test_split(
        X, y, train_size=first, test_size=second, stratify=y, random_state=seed
    )
    return (X_first, y_first), (X_second, y_second)


def divide_set(name: str, seed: int) -> tuple[Arrays, Arrays, Arrays]:
    """Training, calibration and test samples of a set, each as (X, y).

    55, 20 and 25 % of the samples, stratified; of sets with their own test samples at most 12,000
    samples for training and a third as many for calibration.
    """
    data = SETS[name]
    X, y = data.load()
    n_rest = len(X) - data.n_test
    if data.n_test:
        n_pool, n_train = min(MAX_TRAIN // 3, n_rest // 4), min(MAX_TRAIN, n_rest // 2)
    else:
        n_rest -= -(-len(X) // 4)
        n_pool = round(n_rest * 0.2 / 0.75)
        n_train = min(MAX_TRAIN, n_rest - n_pool)
    return divide(X, y, seed, n_test=data.n_test, sizes=(n_train, n_pool))


def kept_samples(name: str, seed: int, max_train: int, folder: str | Path) -> Path:
    """File with ``(X, y)`` of the training, validation and test samples of a set.

    They are divided as by `divide_set`; of those for training at most `max_train` are taken.
    """
    path = Path(folder) / f"samples-{name}-{seed}-{max_train}.joblib"
    if not path.exists():
        train, validation, test = divide_set(name, seed)
        keep(path, (subsample(train, max_train), validation, test))
    return path


class Samples:
    """Test samples, the same for all seeds, and training and validation samples, new for each.

    Parameters
    ----------
    name : str
        Key of `SETS`.
    max_train, max_test : int
        At most so many samples, drawn from all that there are, 0 takes all; a quarter as many
        samples as are for training are for validation.
    """

    def __init__(self, name: str, max_train: int, max_test: int) -> None:
        self.set = SETS[name]
        X, labels = self.set.load()
        y = np.unique(labels, return_inverse=True)[1]
        self.rest, test = take_test(X, y, 0, self.set.n_test)
        self.test = subsample(test, max_test)
        self.max_train = max_train
        self.n_classes = int(y.max()) + 1

    def parts(self, seed: int) -> tuple[Arrays, Arrays]:
        """Training and validation samples of a seed."""
        samples = self.rest
        if self.max_train and self.max_train < 0.8 * len(samples[0]):
            samples = subsample(samples, self.max_train * 5 // 4, seed)
        return _split(samples, seed, None)

"""Splits into training samples and held-out samples."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    check_cv,
)

Split = tuple[np.ndarray, np.ndarray]

#: With fewer samples, calibration="auto" cross-fits in three folds, since a fifth of them is not
#: enough to certify any thresholds.
AUTO_CROSS_FIT_BELOW = 2500
AUTO_FOLDS = 3
AUTO_SHARE = 0.2
#: With fewer samples, those that calibration="auto" holds out are worth a further training: on
#: seven tables of 5,000, the network that is also trained on them is more accurate by 1.0 points.
AUTO_REFIT_BELOW = 15_000
#: What a guarantee requires is a number of samples, whatever their share: to certify a risk of 1 %
#: at a confidence of 90 %, at most 0.33 % of 600 samples may be lost, 0.73 % of 3,000, and 0.86 %
#: of 10,000. Each further fold is another training.
ENOUGH_CROSS_FITTED = 600
ENOUGH_HELD_OUT = 3000


def hold_out(
    y: np.ndarray, share: float, groups: np.ndarray | None, rng: np.random.RandomState
) -> Split:
    """Hold out a share of the samples.

    Without groups, the split is stratified by class, and at least one sample of each class remains
    for training.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Labels.
    share : float
        Share of the samples to hold out.
    groups : ndarray of shape (n_samples,) or None
        Groups of samples that are not split.
    rng : RandomState

    Returns
    -------
    train, held : ndarray of int
        Indices of the samples, in ascending order.
    """
    if groups is not None:
        if len(np.unique(groups)) < 2:
            raise ValueError(
                "Samples can only be held out by groups if there are at least two; got 1."
            )
        splitter = GroupShuffleSplit(1, test_size=share, random_state=rng)
        train, held = next(splitter.split(y, y, groups))
        return np.sort(train), np.sort(held)
    labels, counts = np.unique(y, return_counts=True)
    exact = share * counts
    n_held = np.floor(exact).astype(int)
    # Samples lost by rounding down are added to the classes with the largest remainders.
    n_over = int(np.ceil(share * len(y) - 1e-9)) - n_held.sum()
    n_held[np.argsort(n_held - exact, kind="stable")[:n_over]] += 1
    n_held = np.minimum(n_held, counts - 1)
    chosen = [
        rng.permutation(np.flatnonzero(y == label))[:n]
        for label, n in zip(labels, n_held, strict=True)
    ]
    held = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(y)), held), held


def calibration_splits(
    calibration: Any, y: np.ndarray, groups: np.ndarray | None, rng: np.random.RandomState
) -> tuple[list[Split], bool]:
    """Splits into training samples and calibration samples.

    Parameters
    ----------
    calibration : float, int, splitter, "auto" or None
        Parameter of the estimators.
    y : ndarray of shape (n_samples,)
    groups : ndarray of shape (n_samples,) or None
    rng : RandomState

    Returns
    -------
    splits : list of (train, held)
        Indices of the samples. The list is empty if no sample is held out. A sample that a splitter
        holds out more than once is a calibration sample of the first of these splits only, since it
        is not independent of itself.
    refit : bool
        Whether the final model is fitted on all samples, rather than on the training samples of the
        only split.
    """
    if calibration is None:
        return [], True
    if calibration == "auto":
        if len(y) < AUTO_CROSS_FIT_BELOW:
            splits = list(cross_fitting_splits(AUTO_FOLDS, y, groups, rng))
            n_held = np.cumsum([_n_independent(held, groups) for _, held in splits])
            return splits[: int(np.searchsorted(n_held, ENOUGH_CROSS_FITTED)) + 1], True
        share = min(AUTO_SHARE, ENOUGH_HELD_OUT / len(y))
        return [hold_out(y, share, groups, rng)], len(y) < AUTO_REFIT_BELOW
    if isinstance(calibration, Integral):
        kind = StratifiedKFold if groups is None else StratifiedGroupKFold
        splitter = kind(int(calibration), shuffle=True, random_state=rng)
        return list(splitter.split(y, y, groups)), True
    if isinstance(calibration, Real):
        train, held = hold_out(y, float(calibration), groups, rng)
        if not len(held):
            raise ValueError(
                f"calibration={calibration} holds out none of {len(y)} samples. Give a larger "
                "share, an integer for cross-fitting, or more samples."
            )
        return [(train, held)], False
    splits = []
    unseen = np.ones(len(y), dtype=bool)
    for train, held in check_cv(calibration, y, classifier=True).split(y, y, groups):
        if not len(train):
            raise ValueError(
                f"The 'calibration' splitter {calibration!r} leaves no sample to train on. Give "
                "one whose training parts are not empty."
            )
        n_both = len(np.intersect1d(train, held))
        if n_both:
            raise ValueError(
                f"The 'calibration' splitter {calibration!r} holds out {n_both} samples that it "
                "also trains on, on which nothing can be calibrated. Give one whose parts do not "
                "overlap."
            )
        once = held[np.sort(np.unique(held, return_index=True)[1])]
        splits.append((train, once[unseen[once]]))
        unseen[held] = False
    return [(train, held) for train, held in splits if len(held)], True


def _n_independent(held: np.ndarray, groups: np.ndarray | None) -> int:
    """Number of samples that are independent of each other, on which a guarantee depends."""
    return len(held) if groups is None else len(np.unique(groups[held]))


def cross_fitting_splits(
    n_folds: int, y: np.ndarray, groups: np.ndarray | None, rng: np.random.RandomState
) -> Iterator[Split]:
    """Folds, stratified if every class has enough samples; none if there are too few samples."""
    if groups is not None:
        n_groups = len(np.unique(groups))
        if n_groups >= 2:
            yield from GroupKFold(min(n_folds, n_groups)).split(y, y, groups)
    elif np.bincount(y)[np.unique(y)].min() >= n_folds:
        yield from StratifiedKFold(n_folds, shuffle=True, random_state=rng).split(y, y)
    elif len(y) >= n_folds:
        yield from KFold(n_folds, shuffle=True, random_state=rng).split(y)

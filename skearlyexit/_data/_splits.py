"""Splits into training samples and held-out samples."""

from __future__ import annotations

import copy
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
#: Number of groups from which this can be certified at all. By betting, 308 without a loss do.
LEAST_GROUPS = 310


def hold_out(
    y: np.ndarray,
    share: float,
    groups: np.ndarray | None,
    rng: np.random.RandomState,
    *,
    representative: bool = False,
) -> Split:
    """Hold out a share of the samples.

    Without groups, the split is stratified by class.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Labels.
    share : float
        Share of the samples to hold out.
    groups : ndarray of shape (n_samples,) or None
        Groups of samples that are not split.
    rng : RandomState
    representative : bool, default=False
        Whether every sample is held out with the same probability, as guarantees require. The only
        sample of a class may then be held out. Otherwise, at least one of each class remains for
        training, so that samples of rare classes are held out less often.

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
    shuffled = [rng.permutation(np.flatnonzero(y == label)) for label in labels]
    total = int(np.ceil(share * len(y) - 1e-9))
    if representative:
        # A copy of the generator: what is drawn after the split does not depend on the rounding.
        n_held = _rounded_at_random(total / len(y) * counts, copy.deepcopy(rng))
    else:
        exact = share * counts
        n_held = np.floor(exact).astype(int)
        # Samples lost by rounding down are added to the classes with the largest remainders.
        n_over = total - n_held.sum()
        n_held[np.argsort(n_held - exact, kind="stable")[:n_over]] += 1
        n_held = np.minimum(n_held, counts - 1)
    held = np.sort(np.concatenate([rows[:n] for rows, n in zip(shuffled, n_held, strict=True)]))
    return np.setdiff1d(np.arange(len(y)), held), held


def _rounded_at_random(exact: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Integers whose expected values are these numbers, and whose sum is the same.

    Each number is rounded down or up; their sum must be an integer up to rounding errors.
    """
    order = rng.permutation(len(exact))
    # Systematic sampling: of marks at distances of 1, those that fall into each number.
    ends = np.cumsum(exact[order])
    ends[-1] = np.round(ends[-1])
    marks = np.floor(ends + rng.uniform(1e-6, 1 - 1e-6)).astype(int)
    found = np.empty(len(exact), dtype=int)
    found[order] = np.diff(marks, prepend=0)
    return found


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
        n = _n_independent(np.arange(len(y)), groups)
        if len(y) < AUTO_CROSS_FIT_BELOW or LEAST_GROUPS <= n < AUTO_CROSS_FIT_BELOW:
            splits = list(cross_fitting_splits(AUTO_FOLDS, y, groups, rng, drawn=True))
            n_held = np.cumsum([_n_independent(held, groups) for _, held in splits])
            return splits[: int(np.searchsorted(n_held, ENOUGH_CROSS_FITTED)) + 1], True
        share = min(AUTO_SHARE, ENOUGH_HELD_OUT / n)
        split = hold_out(y, share, groups, rng, representative=True)
        return [split], len(y) < AUTO_REFIT_BELOW
    if isinstance(calibration, Integral):
        kind = StratifiedKFold if groups is None else StratifiedGroupKFold
        splitter = kind(int(calibration), shuffle=True, random_state=rng)
        return list(splitter.split(y, y, groups)), True
    if isinstance(calibration, Real):
        train, held = hold_out(y, float(calibration), groups, rng, representative=True)
        if not len(train):
            raise ValueError(
                f"calibration={calibration} leaves none of {len(y)} samples to train on. Give a "
                "smaller share, an integer for cross-fitting, or more samples."
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
        n_divided = 0 if groups is None else len(np.intersect1d(groups[train], groups[held]))
        if n_divided:
            raise ValueError(
                f"The 'calibration' splitter {calibration!r} divides {n_divided} groups between "
                "training and calibration, whose samples are not independent. Give one that keeps "
                "groups together, such as GroupKFold, or no groups."
            )
        once = held[np.sort(np.unique(held, return_index=True)[1])]
        splits.append((train, once[unseen[once]]))
        unseen[held] = False
    return [(train, held) for train, held in splits if len(held)], True


def _n_independent(held: np.ndarray, groups: np.ndarray | None) -> int:
    """Number of samples that are independent of each other, on which a guarantee depends."""
    return len(held) if groups is None else len(np.unique(groups[held]))


def cross_fitting_splits(
    n_folds: int,
    y: np.ndarray,
    groups: np.ndarray | None,
    rng: np.random.RandomState,
    *,
    drawn: bool = False,
) -> Iterator[Split]:
    """Folds, stratified if every class has enough samples; none if there are too few samples.

    Groups are drawn at random if `drawn` is True, as they must be if not all folds are used.
    Otherwise, folds are balanced.
    """
    if groups is not None:
        n_groups = len(np.unique(groups))
        if n_groups >= 2:
            options = {"shuffle": True, "random_state": rng} if drawn else {}
            yield from GroupKFold(min(n_folds, n_groups), **options).split(y, y, groups)
    elif np.bincount(y)[np.unique(y)].min() >= n_folds:
        yield from StratifiedKFold(n_folds, shuffle=True, random_state=rng).split(y, y)
    elif len(y) >= n_folds:
        yield from KFold(n_folds, shuffle=True, random_state=rng).split(y)

"""Samples with what belongs to them: the one container of samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skearlyexit._data._streamed import in_precision, rows_at


@dataclass(frozen=True)
class Samples:
    """Samples with what belongs to them.

    Attributes
    ----------
    X : ndarray or StreamedRows of shape (n_samples, ...), or outputs or exit table
        The samples, or what the exits of a network give for them.
    y : ndarray of shape (n_samples,)
        Indices of classes.
    weight : ndarray of shape (n_samples,) or None
        Weights in training: sample weight times class weight.
    groups : ndarray of shape (n_samples,) or None
        Samples of a group are not divided.
    unlabeled : ndarray of shape (n_unlabeled, ...) or None
        Further samples to train on; every part of the samples has all of them.
    index : ndarray of shape (n_samples,) or None
        Positions of the samples in what the user gave; None are all of it.
    calibration_weight : ndarray of shape (n_samples,) or None
        Weights in calibration, relative to the mean of all samples of a fit.
    """

    X: Any
    y: np.ndarray
    weight: np.ndarray | None = None
    groups: np.ndarray | None = None
    unlabeled: np.ndarray | None = None
    index: np.ndarray | None = None
    calibration_weight: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.X)

    @property
    def positions(self) -> np.ndarray:
        """Positions of the samples in what the user gave, shape (n_samples,)."""
        return np.arange(len(self)) if self.index is None else self.index

    def take(self, index: np.ndarray, X: Any = None) -> Samples:
        """Some of the samples.

        Parameters
        ----------
        index : ndarray of int
        X : object of length len(index) or None, default=None
            What to hold for them in place of what is held now.
        """

        def part(array: np.ndarray | None) -> np.ndarray | None:
            return None if array is None else array[index]

        return Samples(
            rows_at(self.X, index) if X is None else X,
            self.y[index],
            part(self.weight),
            part(self.groups),
            self.unlabeled,
            self.positions[index],
            part(self.calibration_weight),
        )

    def cast(self, dtype: Any) -> Samples:
        """The same samples in a precision."""
        further = None if self.unlabeled is None else in_precision(self.unlabeled, dtype)
        return replace(self, X=in_precision(self.X, dtype), unlabeled=further)

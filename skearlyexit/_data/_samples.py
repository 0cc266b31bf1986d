"""Container of samples with labels, weights and groups."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skearlyexit._data._streamed import in_precision, rows_at


@dataclass(frozen=True)
class Samples:
    """Samples with labels, weights and groups.

    Attributes
    ----------
    X : ndarray, StreamedRows, Outputs or ExitTable of length n_samples
        The samples, or the outputs of the exits for them.
    y : ndarray of shape (n_samples,) or (n_samples, n_targets)
        Indices of classes, or standardized targets.
    weight : ndarray of shape (n_samples,) or None
        Weights in training: the product of sample weight and class weight.
    groups : ndarray of shape (n_samples,) or None
        Groups of samples that splits do not divide.
    unlabeled : ndarray of shape (n_unlabeled, ...) or None
        Unlabeled samples to train on, which are part of every selection.
    index : ndarray of shape (n_samples,) or None
        Positions of the samples in the X given by the user. None if these are all of them.
    calibration_weight : ndarray of shape (n_samples,) or None
        Weights in calibration, divided by the mean over all samples of a fit.
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
    def strata(self) -> np.ndarray:
        """Classes by which splits are stratified. In regression, all samples are of one."""
        return self.y if self.y.ndim == 1 else np.zeros(len(self.y), dtype=np.intp)

    @property
    def positions(self) -> np.ndarray:
        """Positions of the samples in the X given by the user, shape (n_samples,)."""
        return np.arange(len(self)) if self.index is None else self.index

    def take(self, index: np.ndarray, X: Any = None) -> Samples:
        """Select some of the samples.

        Parameters
        ----------
        index : ndarray of int
        X : object of length len(index) or None, default=None
            New value of `X`. None selects from the current one.

        Returns
        -------
        selected : Samples
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
        """Convert the samples to another precision."""
        further = None if self.unlabeled is None else in_precision(self.unlabeled, dtype)
        return replace(self, X=in_precision(self.X, dtype), unlabeled=further)

"""Samples with what belongs to them."""

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
    X : ndarray or StreamedRows of shape (n_samples, ...)
    y : ndarray of shape (n_samples,)
        Indices of classes.
    weight : ndarray of shape (n_samples,) or None
        Sample weight times class weight.
    groups : ndarray of shape (n_samples,) or None
    unlabeled : ndarray of shape (n_unlabeled, ...) or None
        Further rows to train on; every part of the rows has all of them.
    index : ndarray of shape (n_samples,) or None
        Positions of the rows in what the user gave; None are all of it.
    """

    X: Any
    y: np.ndarray
    weight: np.ndarray | None = None
    groups: np.ndarray | None = None
    unlabeled: np.ndarray | None = None
    index: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.X)

    @property
    def positions(self) -> np.ndarray:
        """Positions of the rows in what the user gave, shape (n_samples,)."""
        return np.arange(len(self)) if self.index is None else self.index

    def take(self, index: np.ndarray) -> Samples:
        """Some of the rows."""
        return Samples(
            rows_at(self.X, index),
            self.y[index],
            None if self.weight is None else self.weight[index],
            None if self.groups is None else self.groups[index],
            self.unlabeled,
            self.positions[index],
        )

    def cast(self, dtype: Any) -> Samples:
        """The same rows in a precision."""
        further = None if self.unlabeled is None else in_precision(self.unlabeled, dtype)
        return replace(self, X=in_precision(self.X, dtype), unlabeled=further)

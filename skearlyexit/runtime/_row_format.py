"""Checks of samples without scikit-learn, whose validation takes longer than a small model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from skearlyexit._data._given import GivenRows, given_rows
from skearlyexit._data._input import check_not_masked
from skearlyexit._utils._interrupts import quietly


@dataclass(frozen=True)
class RowFormat:
    """Shape and precision of the samples of a fitted model.

    Attributes
    ----------
    row_shape : tuple of int
        Shape of a sample.
    dtype : dtype
        Precision of the input of the network.
    feature_names : list of str or None
        Names of the features seen in `fit`, if there were any.
    check : callable or None, default=None
        Check of the network; see `skearlyexit.backbones.Network`.
    """

    row_shape: tuple[int, ...]
    dtype: np.dtype
    feature_names: list[str] | None
    check: Callable[..., None] | None = None

    def checked(self, X: Any) -> np.ndarray:
        """Samples as an array of this format.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples, as a dense array or data frame of finite numbers.

        Returns
        -------
        rows : ndarray of shape (n_samples, ...)
            The same object if it is of this format already.

        Raises
        ------
        ValueError
            If X is not valid.
        """
        is_plain = (
            type(X) is np.ndarray
            and X.dtype == self.dtype
            and X.shape[1:] == self.row_shape
            and len(X)
            and np.logical_and.reduce(np.isfinite(X), axis=None)
        )
        # The checks of other samples would take 20 microseconds.
        rows: np.ndarray = X if is_plain else self._converted(X)
        if self.check is not None:
            self.check(rows, range(len(rows)), "X")
        return rows

    def _converted(self, X: Any) -> np.ndarray:
        check_names(X, self.feature_names)
        check_not_masked(X, "X")
        if hasattr(X, "toarray"):
            raise ValueError(
                f"X must be dense; got {type(X).__name__}. Give X.toarray(), in parts if need be."
            )
        rows = np.asarray(X)
        if rows.dtype.kind not in "fiub" and rows.dtype != object:
            raise ValueError(f"X must hold real numbers; got an array of dtype {rows.dtype}.")
        if rows.ndim == 0 or rows.shape[1:] != self.row_shape or not len(rows):
            shape = ", ".join(["n_samples", *map(str, self.row_shape)])
            raise ValueError(
                f"X must be of shape ({shape}), with at least one sample. Got an array of shape "
                f"{rows.shape}; X[None] is a single sample as such an array."
            )
        rows = quietly(lambda: rows.astype(self.dtype, order="C", copy=False), "over", "invalid")
        if not np.isfinite(rows).all():
            finite = np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
            raise ValueError(
                f"X contains NaN or infinity in precision {self.dtype} in "
                f"{np.sum(~finite)} samples, the first of them X[{np.argmin(finite)}]."
            )
        return rows


@dataclass(frozen=True)
class GivenFormat:
    """Features of samples that are handed on to estimators as they are given.

    Attributes
    ----------
    n_features : int or None
        Number of features seen in `fit`. None if samples have none, such as texts.
    feature_names : list of str or None
        Names of the features seen in `fit`, if there were any.
    """

    n_features: int | None
    feature_names: list[str] | None

    def checked(self, X: Any) -> GivenRows:
        """Samples with these features.

        Raises
        ------
        TypeError
            If X is of a type of torch.
        ValueError
            If X has other features, or no samples.
        """
        check_names(X, self.feature_names)
        if self.n_features is not None:
            shape = X.shape if hasattr(X, "shape") else np.shape(X)
            if shape[1:] != (self.n_features,):
                raise ValueError(
                    f"X must be of shape (n_samples, {self.n_features}). Got {type(X).__name__} of "
                    f"shape {shape}; X[None] is a single sample as such an array."
                )
        return given_rows(X)


def check_names(X: Any, names: list[str] | None) -> None:
    """Raise a ValueError if a data frame does not have the features of these names in order."""
    given = getattr(X, "columns", None)
    if names is not None and given is not None and list(given) != names:
        raise ValueError(
            f"X must have the features of fit in the same order, {names[:20]}. Got "
            f"{list(given)[:20]}."
        )

"""Checks of samples without scikit-learn, whose validation takes longer than a small network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from skearlyexit._utils._interrupts import quietly


@dataclass(frozen=True)
class RowFormat:
    """Shape and precision of the samples of a fitted classifier.

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
        names, given = self.feature_names, getattr(X, "columns", None)
        if names is not None and given is not None and list(given) != names:
            raise ValueError(
                f"X must have the features of fit in the same order, {names[:20]}. Got "
                f"{list(given)[:20]}."
            )
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

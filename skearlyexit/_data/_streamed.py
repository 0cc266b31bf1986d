"""Samples that are read as needed."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
import torch

from skearlyexit._data._chunks import blocks
from skearlyexit._data._sources import RowSource, is_source, source_of
from skearlyexit._utils._interrupts import quietly

#: Raises an error if samples are not valid input of the network. It is called with the samples,
#: their positions, and the name of the argument.
RowCheck = Callable[[np.ndarray, np.ndarray | range, str], None]


class StreamedRows:
    """Samples of a memory map, a sparse matrix or a torch dataset, which are read when indexed.

    Indexing by slices and arrays of integers returns arrays in memory.

    Parameters
    ----------
    source : RowSource
    dtype : dtype
        Data type of the arrays returned by indexing.
    name : str, default="X"
        Name of the argument, for error messages.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
    index : ndarray of int or None
        Positions of the samples in the source. None takes all.
    limit : dtype
        The first `dtype`. Values that are too large for it raise an error.
    check : callable or None
        Called with samples after reading, their positions, and the name.
    """

    def __init__(self, source: RowSource, dtype: Any, name: str = "X") -> None:
        self.source = source
        self.name = name
        self.dtype = self.limit = np.dtype(dtype)
        self.index: np.ndarray | None = None
        self.check: RowCheck | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of samples, followed by the shape of a sample."""
        n_rows = self.source.n_rows if self.index is None else len(self.index)
        return (n_rows, *self.source.row_shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        # NumPy would otherwise read all samples one by one to convert them to an array.
        raise TypeError(
            "These samples are read as they are needed, and never all at once. Take slices of "
            "them, or fit on an array in memory."
        )

    def __getitem__(self, chosen: slice | np.ndarray) -> np.ndarray:
        positions = self._positions(chosen)
        rows = np.empty((len(positions), *self.shape[1:]), self.dtype)
        self._read(positions, rows)
        return rows

    def tensor(self, chosen: slice | torch.Tensor) -> torch.Tensor:
        """Read some of the samples into a tensor, in memory that torch has allocated."""
        positions = self._positions(chosen if isinstance(chosen, slice) else chosen.numpy())
        dtype = torch.float64 if self.dtype == np.float64 else torch.float32
        rows = torch.empty((len(positions), *self.shape[1:]), dtype=dtype)
        self._read(positions, rows.numpy())
        return rows

    def take(self, index: np.ndarray) -> StreamedRows:
        """Select samples by integers or a mask, without reading them."""
        positions = self._positions(index)
        if isinstance(positions, range):
            positions = np.arange(positions.start, positions.stop)
        return self._changed(index=positions)

    def cast(self, dtype: Any) -> StreamedRows:
        """Change the data type, without reading the samples."""
        return self._changed(dtype=np.dtype(dtype))

    def checked(self, check: RowCheck) -> StreamedRows:
        """Set the check that is called after reading."""
        return self._changed(check=check)

    def _changed(self, **changes: Any) -> StreamedRows:
        changed = copy.copy(self)
        changed.__dict__.pop("digest", None)
        changed.__dict__.update(changes)
        return changed

    @cached_property
    def digest(self) -> str:
        """Hash of the content, for which all samples are read once."""
        found = hashlib.sha1(usedforsecurity=False)
        for block in blocks(self):
            found.update(block.data)
        return found.hexdigest()

    def _positions(self, chosen: slice | np.ndarray) -> np.ndarray | range:
        """Positions in the source, none of them negative."""
        if isinstance(chosen, slice):
            start, stop, step = chosen.indices(len(self))
            if self.index is not None:
                return self.index[chosen]
            if step == 1:
                return range(start, max(start, stop))
            return np.arange(start, stop, step)
        index = np.asarray(chosen)
        if index.dtype == bool:
            if index.shape != (len(self),):
                raise IndexError(f"A mask of shape {index.shape} was given for {len(self)} rows.")
            index = np.flatnonzero(index)
        elif index.ndim != 1 or (len(index) and index.dtype.kind not in "iu"):
            raise IndexError(
                "Samples are selected by a slice, a mask or an array of integers with one axis. "
                f"Got {chosen!r} instead."
            )
        index = index.astype(np.intp)
        if self.index is not None:
            return self.index[index]
        if len(index) and not (-len(self) <= index.min() and index.max() < len(self)):
            raise IndexError(f"Rows {index.min()} to {index.max()} were requested of {len(self)}.")
        return np.where(index < 0, index + len(self), index)

    def _read(self, positions: np.ndarray | range, out: np.ndarray) -> None:
        # Values that the dtype cannot hold become infinite, for which an error is raised.
        quietly(lambda: self._read_numbers(positions, out), "over", "invalid")
        if self.check is not None:
            self.check(out, positions, self.name)

    def _read_numbers(self, positions: np.ndarray | range, out: np.ndarray) -> None:
        self.source.read(positions, out)
        if np.isfinite(out.sum(dtype=self.limit)):  # faster than to check each value
            return
        held = out.astype(self.limit, copy=False)
        finite = np.isfinite(held.reshape(len(out), -1)).all(axis=1)
        if finite.all():
            return
        at = int(finite.argmin())
        values = held[at].ravel()
        value = values[~np.isfinite(values)][0]
        large = f"infinity or a value too large for dtype('{self.limit}')"
        raise ValueError(
            f"Row {positions[at]} of {self.name} contains {'NaN' if np.isnan(value) else large}. "
            "Leave such samples out, or give numbers for missing values."
        )


def is_streamed(X: Any) -> bool:
    """Whether samples are to be read as needed."""
    return isinstance(X, StreamedRows) or is_source(X)


def streamed(X: Any, dtype: Any, name: str = "X") -> StreamedRows:
    """Convert a memory map, sparse matrix or torch dataset to StreamedRows of a data type."""
    return X if isinstance(X, StreamedRows) else StreamedRows(source_of(X), dtype, name)


def rows_at(X: Any, index: np.ndarray) -> Any:
    """Select samples; those of an array are copied, and StreamedRows are not read.

    Parameters
    ----------
    X : ndarray or StreamedRows of shape (n_samples, ...)
    index : ndarray of int or bool
    """
    return X.take(index) if isinstance(X, StreamedRows) else X[index]


def is_single(X: Any) -> bool:
    """Whether samples were given in a precision that single precision can represent."""
    return X.source.is_single if isinstance(X, StreamedRows) else X.dtype != np.float64


def in_precision(X: Any, dtype: Any) -> Any:
    """Convert samples to a precision; arrays are contiguous in memory.

    Parameters
    ----------
    X : ndarray or StreamedRows of shape (n_samples, ...)
    dtype : dtype
    """
    if isinstance(X, StreamedRows):
        return X if X.dtype == dtype else X.cast(dtype)
    return X.astype(dtype, order="C", copy=False)


def checked(X: Any, check: RowCheck | None) -> Any:
    """Check samples now if they are in memory, and otherwise when they are read.

    Parameters
    ----------
    X : ndarray or StreamedRows of shape (n_samples, ...)
    check : callable or None
        None checks nothing.

    Returns
    -------
    X : ndarray or StreamedRows of shape (n_samples, ...)
    """
    if check is None:
        return X
    if isinstance(X, StreamedRows):
        return X.checked(check)
    _look_through(X, check, "X")
    return X


def look_through(X: Any, check: RowCheck | None, name: str) -> None:
    """Check samples now, and read those that are not in memory to check their values, too."""
    if isinstance(X, StreamedRows):
        for _ in blocks(X if check is None else X.checked(check)):
            pass
    elif X is not None and check is not None:
        _look_through(X, check, name)


def _look_through(X: np.ndarray, check: RowCheck, name: str) -> None:
    start = 0
    for block in blocks(X):
        check(block, range(start, start + len(block)), name)
        start += len(block)


def tensor_of(X: np.ndarray) -> torch.Tensor:
    """Copy an array to a contiguous tensor, also one with negative strides."""
    return torch.from_numpy(np.array(X, order="C"))

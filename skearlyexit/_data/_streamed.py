"""Rows that are read as they are needed."""

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

#: Raises an error unless the network can take rows, given their positions and the name of the
#: argument.
RowCheck = Callable[[np.ndarray, np.ndarray | range, str], None]


class StreamedRows:
    """Rows of a mapped file, a sparse matrix or a torch dataset; those asked for are in memory.

    Slices and arrays of integers give arrays, as they would of an array; `take` reads nothing.

    Parameters
    ----------
    source : RowSource
    dtype : dtype
        Of the arrays that are given.
    index : ndarray of int, default=None
        Positions of the rows in the source; None takes all.
    name : str, default="X"
        Of the argument, for errors.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
    limit : dtype
        That `dtype` was at first, for which no number may be too large.
    check : callable or None
        Called with rows that were read, their positions and the name.
    """

    def __init__(
        self, source: RowSource, dtype: Any, index: np.ndarray | None = None, name: str = "X"
    ) -> None:
        self.source = source
        self.name = name
        self.dtype = self.limit = np.dtype(dtype)
        self.index = index
        self.check: RowCheck | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and the shape of one."""
        n_rows = self.source.n_rows if self.index is None else len(self.index)
        return (n_rows, *self.source.row_shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        # Numpy would else make an array of all rows, one at a time.
        raise TypeError(
            "These rows are read as they are needed, and never all at once. Take slices of them, "
            "or fit on an array in memory."
        )

    def __getitem__(self, chosen: slice | np.ndarray) -> np.ndarray:
        positions = self._positions(chosen)
        rows = np.empty((len(positions), *self.shape[1:]), self.dtype)
        self._read(positions, rows)
        return rows

    def tensor(self, chosen: slice | torch.Tensor) -> torch.Tensor:
        """Some of the rows as a tensor, in memory that torch allocated."""
        positions = self._positions(chosen if isinstance(chosen, slice) else chosen.numpy())
        dtype = torch.float64 if self.dtype == np.float64 else torch.float32
        rows = torch.empty((len(positions), *self.shape[1:]), dtype=dtype)
        self._read(positions, rows.numpy())
        return rows

    def take(self, index: np.ndarray) -> StreamedRows:
        """Some of the rows, by integers or a mask; nothing is read."""
        positions = self._positions(index)
        if isinstance(positions, range):
            positions = np.arange(positions.start, positions.stop)
        return self._changed(index=positions)

    def cast(self, dtype: Any) -> StreamedRows:
        """The same rows in another precision; nothing is read."""
        return self._changed(dtype=np.dtype(dtype))

    def checked(self, check: RowCheck) -> StreamedRows:
        """The same rows, that are checked as they are read."""
        return self._changed(check=check)

    def _changed(self, **changes: Any) -> StreamedRows:
        changed = copy.copy(self)
        changed.__dict__.pop("digest", None)
        changed.__dict__.update(changes)
        return changed

    @cached_property
    def digest(self) -> str:
        """Key of the content, for which all rows are read once."""
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
                "Rows are asked for by a slice, a mask or an array of integers with one axis. Got "
                f"{chosen!r} instead."
            )
        index = index.astype(np.intp)
        if self.index is not None:
            return self.index[index]
        if len(index) and not (-len(self) <= index.min() and index.max() < len(self)):
            raise IndexError(f"Rows {index.min()} to {index.max()} were asked for of {len(self)}.")
        return np.where(index < 0, index + len(self), index)

    def _read(self, positions: np.ndarray | range, out: np.ndarray) -> None:
        # What the dtype cannot hold becomes infinite, and is refused as that.
        quietly(lambda: self._read_numbers(positions, out), "over", "invalid")
        if self.check is not None:
            self.check(out, positions, self.name)

    def _read_numbers(self, positions: np.ndarray | range, out: np.ndarray) -> None:
        self.source.read(positions, out)
        if np.isfinite(out.sum(dtype=self.limit)):  # quicker than to look at each number
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
            "Leave such rows out, or give numbers for what is missing."
        )


def is_streamed(X: Any) -> bool:
    """Whether rows are to be read as they are needed."""
    return isinstance(X, StreamedRows) or is_source(X)


def streamed(X: Any, dtype: Any, name: str = "X") -> StreamedRows:
    """Rows of a source as they are needed, of a dtype."""
    return X if isinstance(X, StreamedRows) else StreamedRows(source_of(X), dtype, name=name)


def rows_at(X: Any, index: np.ndarray) -> Any:
    """Some of the rows: a copy of those of an array, and nothing read of those that are streamed.

    Parameters
    ----------
    X : ndarray or StreamedRows of shape (n_samples, ...)
    index : ndarray of int or bool
    """
    return X.take(index) if isinstance(X, StreamedRows) else X[index]


def is_single(X: Any) -> bool:
    """Whether rows were given in a precision that single precision holds."""
    return X.source.is_single if isinstance(X, StreamedRows) else X.dtype != np.float64


def in_precision(X: Any, dtype: Any) -> Any:
    """Rows in a precision, in memory in the order of their axes.

    Parameters
    ----------
    X : ndarray or StreamedRows of shape (n_samples, ...)
    dtype : dtype
    """
    if isinstance(X, StreamedRows):
        return X if X.dtype == dtype else X.cast(dtype)
    return X.astype(dtype, order="C", copy=False)


def checked(X: Any, check: RowCheck | None) -> Any:
    """The rows, checked now if they are in memory, and else as they are read.

    Parameters
    ----------
    X : ndarray or StreamedRows of shape (n_samples, ...)
    check : callable or None
        None takes all rows.
    """
    if check is None:
        return X
    if isinstance(X, StreamedRows):
        return X.checked(check)
    _look_through(X, check, "X")
    return X


def look_through(X: Any, check: RowCheck | None, name: str) -> None:
    """Check rows now, also if they are streamed; what is in memory holds numbers already."""
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
    """Copy of an array as a tensor, whatever the order and direction of its axes."""
    return torch.from_numpy(np.array(X, order="C"))

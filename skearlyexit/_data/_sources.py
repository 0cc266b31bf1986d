"""Sources of samples that are read as needed: memory maps, sparse matrices, torch datasets."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from scipy import sparse
from torch.utils.data import DataLoader, Dataset, IterableDataset

from skearlyexit._data._input import fits_single, item_array

#: Kinds of NumPy dtypes that are real numbers.
REAL_KINDS = "biuf"


class RowSource(Protocol):
    """Source from which samples are read by their position.

    Attributes
    ----------
    n_rows : int
        Number of samples.
    row_shape : tuple of int
        Shape of a sample.
    is_single : bool
        Whether single precision can represent all values of the dtype of the source.
    """

    is_single: bool
    n_rows: int
    row_shape: tuple[int, ...]

    def read(self, positions: np.ndarray | range, out: np.ndarray) -> None:
        """Write the samples at these positions, which are not negative, into an array."""


def is_source(X: Any) -> bool:
    """Whether X is of a type that is read as needed, even if it is not valid."""
    return isinstance(X, np.memmap | Dataset | DataLoader) or sparse.issparse(X)


def source_of(X: Any) -> RowSource:
    """Source of the samples of a memory map, a sparse matrix or a torch dataset.

    Raises
    ------
    TypeError, ValueError
        If there are no samples, or they cannot be accessed by position.
    """
    source: RowSource
    if sparse.issparse(X):
        source = _SparseRows(X)
    else:
        source = _MappedRows(X) if isinstance(X, np.memmap) else _DatasetRows(_map_style(X))
    if not source.n_rows:
        raise ValueError(
            f"Found array with 0 sample(s) (shape={(0, *source.row_shape)}) while a minimum of 1 "
            "is required."
        )
    if not source.row_shape or 0 in source.row_shape:
        raise ValueError(
            f"The samples of X must hold numbers along at least one axis. Got samples of shape "
            f"{source.row_shape}: Expected 2D array, or more axes. Give X of shape "
            "(n_samples, n_features) or a Dataset of such samples."
        )
    return source


def labels_of(X: Any, y: Any) -> Any:
    """Labels as given, or if y is None, those in the items of a torch dataset.

    Raises
    ------
    ValueError
        If y is None and X is not a torch dataset whose items hold labels.
    """
    if y is not None:
        return y
    if not isinstance(X, Dataset):
        raise ValueError(
            "This requires y to be passed, unless X is a torch Dataset whose items hold the "
            "labels. Got None."
        )
    dataset = _map_style(X)
    return np.asarray([_label(dataset[i], i) for i in range(len(dataset))])


class _MappedRows:
    """Samples of a memory map.

    Parameters
    ----------
    mapped : memmap of shape (n_samples, ...)
    """

    def __init__(self, mapped: np.memmap) -> None:
        if mapped.dtype.kind not in REAL_KINDS:
            raise ValueError(f"X must hold real numbers. Got a memmap of dtype {mapped.dtype}.")
        if not mapped.ndim:
            raise ValueError("X must be an array of samples. Got a memmap of a single number.")
        # As a plain array, which is indexed faster and is still mapped.
        self.values = mapped.view(np.ndarray)
        self.is_single = fits_single(mapped.dtype)
        self.n_rows = len(mapped)
        self.row_shape = mapped.shape[1:]
        # For other arrays `np.take` first copies the whole array.
        self.is_plain = mapped.flags.c_contiguous and mapped.flags.aligned

    def read(self, positions: np.ndarray | range, out: np.ndarray) -> None:
        if isinstance(positions, range):
            out[...] = self.values[positions.start : positions.stop]
        elif self.is_plain and self.values.dtype == out.dtype:
            # Without sorting the positions, which takes longer than it saves.
            np.take(self.values, positions, axis=0, out=out, mode="clip")
        else:
            out[...] = self.values[positions]


class _SparseRows:
    """Samples of a sparse matrix or array, which are dense after reading.

    Parameters
    ----------
    matrix : sparse matrix or array of shape (n_samples, n_features)
    """

    def __init__(self, matrix: Any) -> None:
        if matrix.dtype.kind not in REAL_KINDS:
            raise ValueError(
                f"X must hold real numbers. Got a sparse matrix of dtype {matrix.dtype}."
            )
        if matrix.ndim != 2:
            raise ValueError(
                f"Expected 2D array, got a sparse array of {matrix.ndim} axes. Give X of shape "
                "(n_samples, n_features)."
            )
        self.matrix = matrix.tocsr()
        self.is_single = fits_single(matrix.dtype)
        self.n_rows, *columns = matrix.shape
        self.row_shape = tuple(columns)

    def read(self, positions: np.ndarray | range, out: np.ndarray) -> None:
        if isinstance(positions, range):
            rows = self.matrix[positions.start : positions.stop]
        else:
            rows = self.matrix[positions]
        out[...] = rows.toarray()


class _DatasetRows:
    """Samples of a torch dataset, which are its items or their first elements.

    Parameters
    ----------
    dataset : Dataset
        Dataset with a length.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.n_rows = len(dataset)
        first = item_array(_row(dataset[0], 0), "Row 0 of X") if self.n_rows else np.empty(())
        self.row_shape = first.shape
        self.is_single = fits_single(first.dtype)

    def read(self, positions: np.ndarray | range, out: np.ndarray) -> None:
        for target, position in zip(out, map(int, positions), strict=True):
            row = _row(self.dataset[position], position)
            if row.shape != self.row_shape:
                raise ValueError(
                    f"Row {position} of X has shape {tuple(row.shape)}, and row 0 has shape "
                    f"{self.row_shape}. Give a Dataset whose samples have one shape."
                )
            if isinstance(row, torch.Tensor):
                torch.from_numpy(target).copy_(row.detach())
            else:
                target[...] = row


def _map_style(X: Any) -> Any:
    """Check that a dataset has a length and gives items by position, and return it."""
    name = type(X).__name__
    if isinstance(X, DataLoader):
        raise TypeError(
            f"X is a {name}, and batches are drawn by the estimator itself. Give the loader's "
            "Dataset."
        )
    advice = "Give a map-style Dataset, with __len__ and __getitem__."
    if isinstance(X, IterableDataset):
        raise TypeError(
            f"X is an IterableDataset ({name}), which has no length or cannot be drawn from at "
            f"random. {advice}"
        )
    # The base class does not define `__len__`, and defines `__getitem__` without an implementation.
    if not hasattr(X, "__len__") or type(X).__getitem__ is Dataset.__getitem__:
        raise TypeError(f"X is a Dataset ({name}) without a length or without items. {advice}")
    return X


def _row(item: Any, position: int) -> Any:
    """Sample in an item, as a tensor or an array of real numbers."""
    if isinstance(item, tuple | list) and item:
        item = item[0]
    if isinstance(item, torch.Tensor) and not item.is_complex():
        return item
    row = item_array(item, f"Row {position} of X")
    if row.dtype.kind not in REAL_KINDS:
        raise TypeError(
            f"Row {position} of X must be an array or a tensor of real numbers. Got "
            f"{type(item).__name__} instead. Give a Dataset whose items are a sample or "
            "(sample, label)."
        )
    return row


def _label(item: Any, position: int) -> Any:
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise ValueError(
            f"y is None, and the items of X hold no labels: item {position} is a "
            f"{type(item).__name__}. Give y, or a Dataset whose items are (sample, label)."
        )
    label = item[1]
    if not isinstance(label, torch.Tensor):
        return label
    if label.numel() != 1:
        raise ValueError(
            f"The label of row {position} must be a single value. Got a tensor of shape "
            f"{tuple(label.shape)} instead. Give y, or a Dataset whose items are (sample, label)."
        )
    return label.item()

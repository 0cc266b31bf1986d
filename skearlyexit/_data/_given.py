"""Samples that are handed on to estimators as the user gave them."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples
from torch.utils.data import DataLoader, Dataset

from skearlyexit._data._input import check_not_masked
from skearlyexit._utils._frames import import_pandas


class GivenRows:
    """Samples of any type that estimators of scikit-learn support, such as a data frame.

    Indexing by slices, masks and arrays of integers returns some of the samples, which are copied
    only where `content` is asked for.

    Parameters
    ----------
    content : array-like, sparse matrix or data frame of shape (n_samples, ...)
        Lists, such as those of texts, are supported, too.
    """

    def __init__(self, content: Any) -> None:
        if isinstance(content, str | bytes):
            raise ValueError(
                f"X must be samples, such as a list of texts. Got a single text, {content[:50]!r}; "
                "give [X]."
            )
        if sparse.issparse(content):
            content = content.tocsr()
        elif not hasattr(content, "__getitem__"):
            content = np.asarray(content)  # which cannot be indexed as it is
        self._whole = content
        self._index: np.ndarray | None = None
        self._columns: np.ndarray | None = None
        self._n_rows = _num_samples(content)

    @property
    def content(self) -> Any:
        """The samples, of the type that was given."""
        rows = self._whole if self._index is None else _safe_indexing(self._whole, self._index)
        if self._columns is None:
            return rows
        rows = np.asarray(rows) if isinstance(rows, list) else rows
        return _safe_indexing(rows, self._columns, axis=1)

    def __len__(self) -> int:
        return self._n_rows

    def __getitem__(self, chosen: slice | np.ndarray) -> GivenRows:
        if isinstance(chosen, slice):
            bounds = chosen.indices(len(self))
            if bounds == (0, len(self), 1):
                return self
            if self._index is None:
                # Not from the positions of all samples, of which there may be millions.
                return self._at(np.arange(*bounds))
        return self._at(self._positions()[chosen])

    @staticmethod
    def joined(parts: Sequence[GivenRows]) -> GivenRows:
        """All samples of several parts, which were selected from the same samples."""
        return parts[0]._at(np.concatenate([part._positions() for part in parts]))

    @staticmethod
    def stacked(contents: Sequence[Any]) -> GivenRows:
        """All samples of several contents of the same type, one after the other."""
        first = contents[0]
        if len(contents) == 1:
            return GivenRows(first)
        if sparse.issparse(first):
            return GivenRows(sparse.vstack(contents))
        if isinstance(first, list):
            return GivenRows([sample for content in contents for sample in content])
        if hasattr(first, "iloc"):
            pd = import_pandas("GivenRows.stacked")
            return GivenRows(pd.concat(contents, ignore_index=True))
        return GivenRows(np.concatenate(contents))

    def _positions(self) -> np.ndarray:
        """Positions of the samples among those that were given."""
        return np.arange(len(self)) if self._index is None else self._index

    def _at(self, index: np.ndarray) -> GivenRows:
        found = copy(self)
        found._index, found._n_rows = index, len(index)
        return found

    def of_columns(self, positions: np.ndarray) -> GivenRows:
        """Samples with some of the features, by their positions among all."""
        found = copy(self)
        found._columns = positions
        return found

    def beside(self, values: np.ndarray, names: list[str], noun: str) -> GivenRows:
        """Samples with further features.

        Parameters
        ----------
        values : ndarray of shape (n_samples, n_values)
            Values of the features.
        names : list of str
            Names of the features, for data frames whose features have names.
        noun : str
            What the values are called in messages.

        Returns
        -------
        rows : GivenRows
            Samples of the same type, with the new features last.

        Raises
        ------
        ValueError
            If the samples are not rows of features, or have a feature of one of these names.
        """
        content = self.content
        if sparse.issparse(content):
            return GivenRows(sparse.hstack([content, sparse.csr_array(values)], format="csr"))
        if hasattr(content, "iloc") and hasattr(content, "columns"):
            named = all(isinstance(name, str) for name in content.columns)
            # After all columns, of which these may be some.
            width = self._whole.shape[1]
            new = names if named else range(width, width + len(names))
            _check_new(new, content.columns, noun)
            pd = import_pandas("GivenRows.beside")
            added = pd.DataFrame(values, columns=new, index=content.index)
            return GivenRows(pd.concat([content, added], axis=1))
        if hasattr(content, "with_columns"):
            _check_new(names, content.columns, noun)
            columns = dict(zip(names, values.T, strict=True))
            return GivenRows(content.hstack(type(content)(columns)))
        rows = np.asarray(content)
        if rows.ndim != 2:
            raise ValueError(
                f"{noun.capitalize()} can be added to samples with features in columns only. Got X "
                f"of {rows.ndim} axes; give pass_{noun}=False."
            )
        return GivenRows(np.hstack([rows, values]))


def _check_new(names: Sequence[Any], columns: Sequence[Any], noun: str) -> None:
    """Raise a ValueError if a data frame has columns with the names of new features."""
    known = set(columns)
    taken = [name for name in names if name in known]
    if taken:
        raise ValueError(
            f"With pass_{noun}=True, features are added whose names are also those of columns of "
            f"X: {taken[:10]}. Rename the columns or the estimators."
        )


def given_rows(X: Any) -> GivenRows:
    """Samples as they are given.

    Raises
    ------
    TypeError
        If X is of a type of torch, which estimators of scikit-learn do not support.
    ValueError
        If there are no samples, or X is an array with masked entries.
    """
    if isinstance(X, Dataset | DataLoader):
        raise TypeError(
            f"X is a torch {type(X).__name__}, and estimators in a row are given samples as "
            "scikit-learn knows them. Give an array, a data frame, a sparse matrix or a list."
        )
    check_not_masked(X, "X")
    rows = GivenRows(X)
    if not len(rows):
        shape = getattr(X, "shape", (0,))
        raise ValueError(
            f"Found array with 0 sample(s) (shape={shape}) while a minimum of 1 is required."
        )
    return rows


def copied(rows: Any) -> Any:
    """Copy of samples, of the type that was given, for an estimator that may change its input."""
    content = rows.content if isinstance(rows, GivenRows) else rows
    # Data frames that cannot be changed have no such method.
    return content.copy() if hasattr(content, "copy") else content

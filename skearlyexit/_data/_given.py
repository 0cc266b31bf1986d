"""Samples that are handed on to estimators as the user gave them."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples


class GivenRows:
    """Samples of any type that estimators of scikit-learn support, such as a data frame.

    Indexing by slices, masks and arrays of integers returns some of the samples.

    Parameters
    ----------
    content : array-like, sparse matrix or data frame of shape (n_samples, ...)
        Lists, such as those of texts, are supported, too.
    """

    def __init__(self, content: Any) -> None:
        self.content = content.tocsr() if sparse.issparse(content) else content
        self.n_rows = _num_samples(content)

    def __len__(self) -> int:
        return self.n_rows

    def __getitem__(self, chosen: slice | np.ndarray) -> GivenRows:
        if isinstance(chosen, slice) and chosen.indices(self.n_rows) == (0, self.n_rows, 1):
            return self
        return GivenRows(_safe_indexing(self.content, np.arange(self.n_rows)[chosen]))


def copied(rows: Any) -> Any:
    """Copy of samples, of the type that was given, for an estimator that may change its input."""
    content = rows.content if isinstance(rows, GivenRows) else rows
    # Data frames that cannot be changed have no such method.
    return content.copy() if hasattr(content, "copy") else content

"""Columns that each estimator in a row needs, and what it costs to get them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.utils._indexing import _get_column_indices

from skearlyexit._data._given import GivenRows


def chosen_columns(
    columns: Mapping[str, Any] | None, names: Sequence[str], known: Sequence[str], X: GivenRows
) -> list[np.ndarray | None]:
    """Positions of the columns of each estimator.

    Parameters
    ----------
    columns : dict of str to columns, or None
        Columns of some of the estimators, as in `CascadeClassifier`.
    names : sequence of str
        Names of the estimators.
    known : sequence of str
        Names of all estimators, of which some may have been dropped.
    X : GivenRows
        Samples.

    Returns
    -------
    chosen : list of ndarray of int, or None
        Positions for each estimator. None for all columns.

    Raises
    ------
    ValueError
        If there is no estimator of a name or no such column, or X has no columns.
    """
    given = columns or {}
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(
            f"'columns' must map names of estimators, {list(known)}, to columns. Got "
            f"{unknown[:10]}."
        )
    return [_positions(name, given[name], X) if name in given else None for name in names]


def _positions(name: str, wanted: Any, X: GivenRows) -> np.ndarray:
    _n_columns(X, "columns")
    first = X[:1].content
    try:
        found = _get_column_indices(first, wanted(first) if callable(wanted) else wanted)
    except (IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"The 'columns' of the estimator {name!r} are not valid: {error}"
        ) from error
    if not len(found):
        raise ValueError(
            f"The 'columns' of the estimator {name!r} must be at least one. Got {wanted!r}."
        )
    return np.asarray(found, dtype=np.intp)


def column_costs(
    feature_costs: Any, chosen: Sequence[np.ndarray | None], in_last: np.ndarray, X: GivenRows
) -> np.ndarray:
    """Cost of getting the columns that each estimator is the first to need.

    Parameters
    ----------
    feature_costs : array-like, dict or None
        Cost of each column, as in `CascadeClassifier`.
    chosen : list of ndarray of int, or None
        Positions of the columns of each estimator. None for all columns.
    in_last : ndarray of shape (n_exits,), bool
        Whether the last estimator includes what each of them computes.
    X : GivenRows
        Samples.

    Returns
    -------
    costs : ndarray of shape (2, n_exits)
        Cost of the columns that the last estimator needs, too, and of those that it does not need.

    Raises
    ------
    ValueError
        If the costs are not valid.
    """
    if feature_costs is None:
        return np.zeros((2, len(chosen)))
    values = _of_each(feature_costs, X)
    needed = np.zeros((len(chosen), len(values)), dtype=bool)
    for row, positions in zip(needed, chosen, strict=True):
        row[slice(None) if positions is None else positions] = True
    new = needed & ~np.vstack([needed[:1] & False, np.logical_or.accumulate(needed)[:-1]])
    included = in_last.copy()
    included[-1] = True
    by_last = needed[included].any(axis=0)
    return np.array([(new & by_last) @ values, (new & ~by_last) @ values])


def _of_each(feature_costs: Any, X: GivenRows) -> np.ndarray:
    """Cost of each column."""
    n_columns = _n_columns(X, "feature_costs")
    if isinstance(feature_costs, Mapping):
        values = np.zeros(n_columns)
        try:
            positions = _get_column_indices(X[:1].content, list(feature_costs))
        except (IndexError, TypeError, ValueError) as error:
            raise ValueError(f"The columns of 'feature_costs' are not valid: {error}") from error
        values[positions] = list(feature_costs.values())
    else:
        values = np.asarray(feature_costs, dtype=np.float64)
    if values.shape != (n_columns,) or not np.all((values >= 0) & np.isfinite(values)):
        raise ValueError(
            "'feature_costs' must be finite numbers of at least 0, one for each of the "
            f"{n_columns} columns of X, or a dict of columns to numbers. "
            f"Got {feature_costs!r} instead."
        )
    return values


def _n_columns(X: GivenRows, what: str) -> int:
    shape: tuple[int, ...] = getattr(X[:1].content, "shape", ())
    if len(shape) != 2:
        raise ValueError(
            f"{what!r} needs samples with columns: a data frame, a sparse matrix or an array with "
            f"2 axes. Got {len(shape)} axes; leave it out."
        )
    return int(shape[1])

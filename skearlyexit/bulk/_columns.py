"""From the columns of a table to samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

#: Names of columns: one that holds whole samples, or one for each feature.
Columns = str | list[str]


def chosen_columns(
    given: Columns | None, available: Sequence[str], names: list[str] | None, n_features: int | None
) -> Columns:
    """Columns that hold the samples.

    Parameters
    ----------
    given : str, list of str or None
        Columns that the user names.
    available : sequence of str
        Columns of the table.
    names : list of str or None
        Names of the features in the fit, if there were any.
    n_features : int or None
        Number of features in the fit, if samples have features.

    Raises
    ------
    ValueError
        If there are no such columns, they are not the features of the fit, or the user has to
        name them.
    """
    if given is not None and not given:
        raise ValueError(f"'columns' must be None or name columns; got {given!r}.")
    columns = given or names or _all_of(available, n_features)
    if names is not None and columns != names:
        raise ValueError(
            "'columns' must be None or the features of the fit in the same order, "
            f"{names[:20]}. Got {given!r}."
        )
    wanted = [columns] if isinstance(columns, str) else columns
    missing = [name for name in wanted if name not in available]
    if missing:
        raise ValueError(
            f"The columns {missing[:20]} are missing, of which the samples consist. There are "
            f"{list(available)[:20]}."
        )
    return columns


def _all_of(available: Sequence[str], n_features: int | None) -> Columns:
    """All columns, if they can only be the samples."""
    if len(available) == 1:
        return available[0]
    if n_features == len(available):
        return list(available)
    fitted = "samples" if n_features is None else f"{n_features} features"
    raise ValueError(
        f"There are {len(available)} columns, {list(available)[:20]}, and the model was fitted on "
        f"{fitted} without names. Give 'columns': the names of the features in the order of the "
        "fit, or the name of the column that holds whole samples."
    )


def samples_of(table: Any, columns: Columns, *, as_frame: bool) -> Any:
    """Samples in a table.

    Parameters
    ----------
    table : pyarrow.Table
    columns : str or list of str
    as_frame : bool
        Whether the model knows its features by name.

    Returns
    -------
    X : DataFrame or ndarray of shape (n_samples, ...)
    """
    if as_frame:
        return table.select(columns).to_pandas()
    from ray.data.block import BlockAccessor

    values: Any = BlockAccessor.for_block(table).to_numpy(columns)
    if isinstance(columns, str):
        return _joined(values, columns)
    nested = [name for name in columns if _is_nested(values[name])]
    if nested:
        raise ValueError(
            f"The columns {nested[:20]} hold arrays or lists, and a list of columns names "
            "features. Give a column that holds whole samples by its name alone."
        )
    # Twice as fast as to write column by column into rows.
    return np.stack([values[name] for name in columns]).T


def _is_nested(values: np.ndarray) -> bool:
    """Whether values of a column are arrays."""
    is_ragged = values.dtype == object and len(values) and isinstance(values[0], np.ndarray)
    return values.ndim > 1 or bool(is_ragged)


def _joined(values: np.ndarray, name: str) -> np.ndarray:
    """Values of a column as one array. Arrays in it are along its first axis."""
    if values.dtype != object or not _is_nested(values):
        return values
    shapes = sorted({np.shape(each) for each in values})
    if len(shapes) > 1:
        raise ValueError(
            f"The samples in the column {name!r} must have one shape. Got {shapes[:5]}."
        )
    return np.stack(list(values))

"""Conversion of the argument X to arrays of numbers."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

#: Single precision holds every integer up to this size.
EXACT_INTEGERS = 2**24

#: Modes of PIL images whose values are intensities; others hold indices into a palette, or
#: transparency beside a single channel.
IMAGE_MODES = ("1", "L", "I", "I;16", "F", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV")


_DATES = (datetime.date, datetime.timedelta, np.datetime64, np.timedelta64)


def plain_input(X: Any, name: str = "X") -> Any:
    """Convert tensors, and sequences of arrays, to input for the validation of scikit-learn.

    Other values are returned unchanged.

    Parameters
    ----------
    X : array-like, or sequence of arrays, tensors, PIL images or items of a torch Dataset
    name : str, default="X"
        Name of the argument, for error messages.

    Returns
    -------
    X : array-like

    Raises
    ------
    ValueError
        If samples differ in size, images differ in mode, X holds dates or times, is a single image,
        or is an array with masked entries.
    """
    if isinstance(X, torch.Tensor):
        return item_array(X, name)
    if _is_image(X):
        raise ValueError(f"{name} is a single PIL image. Give a list of images, such as [{name}].")
    _refuse_what_looks_like_numbers(X, name)
    if isinstance(X, np.ndarray) and (X.dtype != object or X.ndim != 1):
        return X
    if not isinstance(X, list | tuple | np.ndarray) or not len(X):
        return X
    if isinstance(X, tuple) and all(isinstance(part, torch.Tensor) for part in X):
        _refuse_slice(X, name)
    first = _content(X[0])
    if isinstance(first, list | tuple):
        _refuse_ragged(X, name)
    if not _is_array(first) or not np.ndim(first):
        return X
    return _stacked(map(_content, X), name)


def item_array(item: Any, what: str) -> np.ndarray:
    """Convert an array, tensor or PIL image to an array."""
    if isinstance(item, torch.Tensor):
        item = item.detach().cpu()
        # NumPy does not support bfloat16.
        return (item.float() if item.dtype == torch.bfloat16 else item).numpy()
    mode = item.mode if _is_image(item) else None
    if mode is not None and mode not in IMAGE_MODES:
        raise ValueError(
            f"{what} is a PIL image of mode {mode!r}, which is not a plain intensity image. Give "
            f"image.convert('RGB') or another of the modes {', '.join(map(repr, IMAGE_MODES))}."
        )
    _refuse_what_looks_like_numbers(item, what)
    return np.asarray(item)


def fits_single(dtype: Any) -> bool:
    """Whether single precision can represent all values of a dtype."""
    return isinstance(dtype, np.dtype) and np.can_cast(dtype, np.float32, "safe")


def given_dtype(X: Any, dtype: str) -> str:
    """Precision in which samples are stored until that of the input of the network is known.

    Parameters
    ----------
    X : array-like
    dtype : {"float32", "float64"}
        Precision of the network.

    Returns
    -------
    dtype : {"float32", "float64"}
        "float64" if the precision of the network cannot represent X exactly.
    """
    if dtype == "float64":
        return dtype
    found = [kind for _, kind in _dtypes(X)]
    if found and all(map(fits_single, found)):
        return dtype
    is_exact = (
        isinstance(X, np.ndarray)
        and X.dtype.kind in "iu"
        and X.size
        and X.max() <= EXACT_INTEGERS
        and X.min() >= -EXACT_INTEGERS
    )
    return dtype if is_exact else "float64"


def check_range(X: np.ndarray, dtype: str, name: str = "X") -> None:
    """Raise a ValueError if values are too large for the precision of the network."""
    if X.dtype == dtype or not X.size:
        return
    largest = np.finfo(dtype).max
    if X.max() > largest or X.min() < -largest:
        raise ValueError(
            f"Input {name} contains infinity or a value too large for dtype('{dtype}')."
        )


def advice_for_text(X: Any, name: str = "X") -> str:
    """Sentences about the columns of text of a data frame or array, or an empty string."""
    columns = list(_dtypes(X)) if hasattr(X, "columns") else []
    found = [where for i, (where, dtype) in enumerate(columns) if not _holds_numbers(X, i, dtype)]
    if isinstance(X, np.ndarray) and not _are_numbers(X):
        found = [f"an array of dtype {X.dtype}"]
    if not found:
        return ""
    where = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    return (
        f"{name} holds text in {where}. Encode it as numbers, for example by a OneHotEncoder for "
        "these columns, with make_column_transformer, in a pipeline before the estimator."
    )


def _holds_numbers(X: Any, index: int, dtype: Any) -> bool:
    """Whether a column of a data frame of pandas or polars can be converted to numbers."""
    if getattr(dtype, "kind", "") in ("b", "i", "u", "f"):
        return True
    return _are_numbers(X.iloc[:, index] if hasattr(X, "iloc") else X[:, index])


def _are_numbers(values: Any) -> bool:
    try:
        np.asarray(values).astype(np.float64)
    except (ValueError, TypeError):
        return False
    return True


def _refuse_slice(X: tuple[torch.Tensor, ...], name: str) -> None:
    """Raise a ValueError if a tuple of tensors seems to be a slice of a TensorDataset."""
    columns = len({part.shape for part in X}) > 1 and len({part.shape[:1] for part in X}) == 1
    if columns or (len(X) == 1 and X[0].ndim > 1):
        shapes = ", ".join(str(tuple(part.shape)) for part in X)
        raise ValueError(
            f"{name} is a tuple of tensors of shape {shapes}, as a slice of a TensorDataset is. "
            "Give torch.utils.data.Subset(dataset, range(start, stop)), or a tensor of the samples."
        )


def _refuse_ragged(X: Sequence[Any], name: str) -> None:
    """Raise a ValueError if samples that are lists differ in length."""
    n_values = len(X[0])
    for i, row in enumerate(X):
        if isinstance(row, list | tuple) and len(row) != n_values:
            raise ValueError(
                f"{name} holds rows of different lengths: row 0 has {n_values} values, row {i} has "
                f"{len(row)}. Give every row the same number of values."
            )


def _dtypes(X: Any) -> Iterable[tuple[str, Any]]:
    """The dtypes of an array or a data frame, each with a description of its place."""
    if isinstance(getattr(X, "dtypes", None), Iterable) and hasattr(X, "columns"):
        return [
            (f"column {name!r}", dtype) for name, dtype in zip(X.columns, X.dtypes, strict=True)
        ]
    return [(f"an array of dtype {X.dtype}", X.dtype)] if isinstance(X, np.ndarray) else []


def _refuse_what_looks_like_numbers(X: Any, name: str) -> None:
    """Raise a ValueError for dates and masked entries, which NumPy would convert to numbers."""
    check_not_masked(X, name)
    dates = _dates(X)
    if dates:
        raise ValueError(
            f"{name} must hold numbers. Got dates or times in {dates}; give a number in their "
            "place, such as the seconds since a fixed date."
        )


def check_not_masked(X: Any, name: str) -> None:
    """Raise a ValueError for an array with masked entries, whose values would be used."""
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        raise ValueError(
            f"{name} is an array with masked entries, whose masked values would be used. "
            "Fill them in, for example by its method 'filled' or an imputer."
        )


def _dates(X: Any) -> str:
    """Description of the place where there are dates or times, or an empty string."""
    for where, dtype in _dtypes(X):
        # For NumPy and pandas, and for polars.
        is_temporal = getattr(dtype, "is_temporal", bool)
        if getattr(dtype, "kind", "") in ("m", "M") or (callable(is_temporal) and is_temporal()):
            return where
    values: dict[str, Iterable[Any]] = {}
    if isinstance(X, np.ndarray) and X.dtype == object:
        values["an array of objects"] = X.ravel()
    elif isinstance(X, list | tuple):
        values["a list"] = _entries(X)
    elif hasattr(X, "iloc") and hasattr(X, "columns"):
        kinds = zip(X.columns, X.dtypes, strict=True)
        objects = [i for i, (_, dtype) in enumerate(kinds) if getattr(dtype, "kind", "") == "O"]
        values = {f"column {X.columns[i]!r}": X.iloc[:, i].to_numpy() for i in objects}
    for where, some in values.items():
        if any(issubclass(kind, _DATES) for kind in set(map(type, some))):
            return where
    return ""


def _entries(X: Sequence[Any]) -> Iterator[Any]:
    """Values in a nested list of any depth."""
    for part in X:
        if isinstance(part, list | tuple):
            yield from _entries(part)
        else:
            yield part


def _content(item: Any) -> Any:
    """Sample in an item of a torch Dataset, which may be a tuple that begins with the sample."""
    if isinstance(item, tuple) and item and _is_array(item[0]) and np.ndim(item[0]):
        alone = len(item) == 1
        labeled = len(item) == 2 and np.ndim(item[1]) == 0
        if alone or labeled:
            return item[0]
    return item


def _is_array(item: Any) -> bool:
    return isinstance(item, np.ndarray | torch.Tensor) or _is_image(item)


def _is_image(item: Any) -> bool:
    # A user who passes a PIL image has imported PIL.
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(item, pil.Image)


def _stacked(items: Iterable[Any], name: str) -> np.ndarray:
    arrays, modes = [], []
    for i, item in enumerate(items):
        arrays.append(item_array(item, f"Item {i} of {name}"))
        # Images of 16 bits may be mixed with others.
        modes.append(item.mode.split(";")[0] if _is_image(item) else None)
        if modes[i] != modes[0] and None not in (modes[i], modes[0]):
            raise ValueError(
                f"{name} holds images of different modes: item 0 has {modes[0]!r}, item {i} has "
                f"{modes[i]!r}. Convert them to one mode, as by image.convert({modes[0]!r})."
            )
    shape = arrays[0].shape
    for i, array in enumerate(arrays):
        if array.shape != shape:
            raise ValueError(
                f"{name} holds images or arrays of different sizes: item 0 has shape {shape}, item "
                f"{i} has shape {array.shape}. Convert them to one size and number of channels."
            )
    return np.stack(arrays)

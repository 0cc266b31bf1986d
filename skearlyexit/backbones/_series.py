"""Series: made equally long, told apart from their padding, standardized."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from skearlyexit._data._chunks import blocks
from skearlyexit._determinism._layers import Standardize


def pad_series(series: Sequence[Any], length: int | None = None) -> np.ndarray:
    """Series of unequal length as one array, with a mask.

    Parameters
    ----------
    series : sequence of array-like of shape (n_channels, n_timepoints)
        As many channels in each, any number of time points.
    length : int, default=None
        Time points of the result. None is the length of the longest series; rows to predict need
        the length of the training rows.

    Returns
    -------
    X : ndarray of shape (n_samples, n_channels + 1, length)
        Zeros after the end of a series. The last channel is the mask: 1 where a point was
        observed, 0 where it is padding.

    Raises
    ------
    ValueError
        If the series do not fit together or into the length.

    Examples
    --------
    >>> pad_series([[[1, 2, 3]], [[4, 5]]])
    array([[[1., 2., 3.],
            [1., 1., 1.]],
    <BLANKLINE>
           [[4., 5., 0.],
            [1., 1., 0.]]])
    """
    arrays = [np.asarray(each) for each in series]
    shapes = [array.shape for array in arrays]
    if not arrays:
        raise ValueError("pad_series needs at least one series; got none.")
    for i, shape in enumerate(shapes):
        if len(shape) != 2 or shape[0] != shapes[0][0] or 0 in shape:
            raise ValueError(
                "pad_series needs series of shape (n_channels, n_timepoints) with at least one "
                "point each, and as many channels in all. Series 0 has shape "
                f"{shapes[0]}, series {i} has shape {shape}."
            )
    longest = max(shape[1] for shape in shapes)
    length = longest if length is None else length
    if length < longest:
        raise ValueError(
            f"pad_series got length={length}, but series {[s[1] for s in shapes].index(longest)} "
            f"has {longest} time points. Give a length that holds all series, or cut them first."
        )
    dtype = np.result_type(*arrays)
    padded = np.zeros(
        (len(arrays), shapes[0][0] + 1, length), dtype if dtype.kind == "f" else np.float64
    )
    for row, array in zip(padded, arrays, strict=True):
        row[:-1, : array.shape[1]] = array
        row[-1, : array.shape[1]] = 1
    return padded


def check_series(X: np.ndarray, *, masked: bool, name: str) -> None:
    """Raise a ValueError unless rows are series that the backbone of that name can take."""
    if X.ndim != 3 or 0 in X.shape[1:]:
        raise ValueError(
            f"{name} needs series: rows of shape (n_channels, n_timepoints). Got rows of shape "
            f"{X.shape[1:]} instead. Series of one channel have X[:, None, :]."
        )
    if not masked:
        return
    advice = "Make X with skearlyexit.pad_series, or give masked=False."
    if X.shape[1] < 2:
        raise ValueError(
            f"{name}(masked=True) needs rows of at least two channels, the last of which is the "
            f"mask. Got rows of shape {X.shape[1:]}. {advice}"
        )
    right = np.concatenate([_are_masks(rows[:, -1]) for rows in blocks(X)])
    if not right.all():
        raise ValueError(
            f"{name}(masked=True) takes the last channel of X for a mask: ones where a point was "
            "observed, at least one, and after them zeros for padding. Got something else in "
            f"{int((~right).sum())} of {len(X)} rows, the first of them row {int(right.argmin())}. "
            f"{advice}"
        )


def check_masks(rows: np.ndarray, positions: Sequence[int], argument: str, *, name: str) -> None:
    """Raise a ValueError unless the last channel of each row is a mask.

    Parameters
    ----------
    rows : ndarray of shape (n, n_channels, n_timepoints)
    positions : sequence of int
        Of the rows, for the error.
    argument, name : str
        Of the argument that holds the rows, and of the backbone.
    """
    right = _are_masks(rows[:, -1])
    if not right.all():
        raise ValueError(
            f"{name}(masked=True) takes the last channel of {argument} for a mask: ones where a "
            "point was observed, at least one, and after them zeros for padding. Got something "
            f"else in row {positions[int(right.argmin())]}. Make {argument} with "
            "skearlyexit.pad_series."
        )


def mask_check(masked: bool, name: str) -> Callable[..., None] | None:
    """What checks rows for the backbone of that name, if they have a mask."""
    return partial(check_masks, name=name) if masked else None


def _are_masks(mask: np.ndarray) -> np.ndarray:
    """Whether each row of numbers is a mask: ones, at least one, and then zeros."""
    right = ((mask == 0) | (mask == 1)).all(axis=1)
    return right & (mask[:, 0] == 1) & (np.diff(mask, axis=1) <= 0).all(axis=1)


def _observed(rows: np.ndarray) -> np.ndarray:
    """Observed points of masked series, as one long series."""
    points = rows.transpose(0, 2, 1)
    return points[points[:, :, -1] == 1][:, :-1].T[None]


class SeriesInput(torch.nn.Module):
    """Standardizes the channels of series, and tells observed points from padding.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_channels, n_timepoints)
        Rows that the statistics are taken from: those of the observed points.
    masked : bool
        Whether the last channel is a mask.

    Notes
    -----
    **Shape**: (n, n_channels, any length) to values of shape (n, n_channels - masked, length), zero
    where padded whatever stood there, and a mask of shape (n, 1, length), or None.
    """

    def __init__(self, X: np.ndarray, masked: bool) -> None:
        super().__init__()
        self.masked = masked
        self.n_channels = X.shape[1] - masked
        self.standardize = Standardize(X, _observed if masked else None)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Values and mask of (a piece of) series."""
        if not self.masked:
            return self.standardize(x), None
        values, mask = self.standardize(x[:, :-1]), x[:, -1:]
        # Not by a product with the mask: what stands in the padding may be too large for any.
        return torch.where(mask > 0, values, 0), mask.to(values.dtype)


def last_observed(
    sequence: torch.Tensor, mask: torch.Tensor | None, before: torch.Tensor | None = None
) -> torch.Tensor:
    """What a sequence of vectors holds at the last observed point.

    Parameters
    ----------
    sequence : Tensor of shape (n, length, width)
    mask : Tensor of shape (n, 1, length) or None
        None: all are observed.
    before : Tensor of shape (n, width), default=None
        For rows of which no point is observed. None: their first point.

    Returns
    -------
    vectors : Tensor of shape (n, width)
    """
    if mask is None:
        return sequence[:, -1]
    n_observed = mask.sum(dim=2).long()  # (n, 1)
    index = (n_observed - 1).clamp_min(0)[:, :, None].expand(-1, 1, sequence.shape[2])
    vectors = sequence.gather(1, index)[:, 0]
    return vectors if before is None else torch.where(n_observed > 0, vectors, before)

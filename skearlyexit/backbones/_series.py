"""Time series: padding to equal length, masks, and standardization."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from skearlyexit._data._chunks import blocks
from skearlyexit._determinism._layers import Standardize


def pad_series(series: Sequence[Any], length: int | None = None) -> np.ndarray:
    """Pad time series of unequal length, and add a mask.

    The result is the input of backbones with ``masked=True``.

    Parameters
    ----------
    series : sequence of array-like of shape (n_channels, n_timepoints)
        The series. All must have the same number of channels; the number of time points may differ.
    length : int, default=None
        Number of time points of the result. If None, it is that of the longest series. Samples to
        predict must have the same length as the training samples.

    Returns
    -------
    X : ndarray of shape (n_samples, n_channels + 1, length)
        The series, padded with zeros. The last channel is the mask: 1 for observed time points, 0
        for padding.

    Raises
    ------
    ValueError
        If there is no series, if a series has no time point or another number of channels, or if
        one is longer than `length`.

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
    """Raise a ValueError unless X holds series, with valid masks if they are masked.

    Parameters
    ----------
    X : ndarray or StreamedRows of shape (n_samples, ...)
    masked : bool
        Whether the last channel is a mask.
    name : str
        Name of the backbone, for the error message.
    """
    if X.ndim != 3 or 0 in X.shape[1:]:
        raise ValueError(
            f"{name} needs series: samples of shape (n_channels, n_timepoints). Got samples of "
            f"shape {X.shape[1:]} instead. For series of one channel, give X[:, None, :]."
        )
    if not masked:
        return
    advice = "Make X with skearlyexit.pad_series, or give masked=False."
    if X.shape[1] < 2:
        raise ValueError(
            f"{name}(masked=True) needs samples of at least two channels, the last of which is the "
            f"mask. Got samples of shape {X.shape[1:]}. {advice}"
        )
    right = np.concatenate([_are_masks(rows[:, -1]) for rows in blocks(X)])
    if not right.all():
        raise ValueError(
            f"{name}(masked=True) takes the last channel of X for a mask: ones where a point was "
            "observed, at least one, and after them zeros for padding. Got something else in "
            f"{int((~right).sum())} of {len(X)} samples, the first of them in row "
            f"{int(right.argmin())}. {advice}"
        )


def check_masks(rows: np.ndarray, positions: Sequence[int], argument: str, *, name: str) -> None:
    """Raise a ValueError unless the last channel of each sample is a mask.

    Parameters
    ----------
    rows : ndarray of shape (n, n_channels, n_timepoints)
    positions : sequence of int
        Positions of the samples, for the error message.
    argument, name : str
        Names of the argument that holds the samples, and of the backbone.
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
    """Function that checks the masks of samples for `Network.check`; None if there are none."""
    return partial(check_masks, name=name) if masked else None


def _are_masks(mask: np.ndarray) -> np.ndarray:
    """Whether each row of an array is a mask: at least one 1, followed by zeros."""
    right = ((mask == 0) | (mask == 1)).all(axis=1)
    return right & (mask[:, 0] == 1) & (np.diff(mask, axis=1) <= 0).all(axis=1)


def _observed(rows: np.ndarray) -> np.ndarray:
    """Observed time points of all masked series, joined to one series."""
    points = rows.transpose(0, 2, 1)
    return points[points[:, :, -1] == 1][:, :-1].T[None]


class SeriesInput(torch.nn.Module):
    """Standardizes the channels of series, and separates them from their mask.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_channels, n_timepoints)
        Training samples. The statistics are those of their observed time points.
    masked : bool
        Whether the last channel is a mask.

    Notes
    -----
    **Shape**: (n, n_channels, any length) to values of shape (n, n_channels - masked, length),
    which are zero in the padding, and a mask of shape (n, 1, length) or None.
    """

    def __init__(self, X: np.ndarray, masked: bool) -> None:
        super().__init__()
        self.masked = masked
        self.n_channels = X.shape[1] - masked
        self.standardize = Standardize(X, _observed if masked else None)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Values and mask of series, or of parts of them."""
        if not self.masked:
            return self.standardize(x), None
        values, mask = self.standardize(x[:, :-1]), x[:, -1:]
        # Not by a product with the mask, since the padding may hold infinity or NaN.
        return torch.where(mask > 0, values, 0), mask.to(values.dtype)


def last_observed(
    sequence: torch.Tensor, mask: torch.Tensor | None, before: torch.Tensor | None = None
) -> torch.Tensor:
    """Vectors at the last observed time point of sequences.

    Parameters
    ----------
    sequence : Tensor of shape (n, length, width)
    mask : Tensor of shape (n, 1, length) or None
        If None, all points are observed.
    before : Tensor of shape (n, width), default=None
        Result for sequences without an observed point. If None, it is their first vector.

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

"""Samples of several views."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from skearlyexit._data._chunks import blocks, channel_moments
from skearlyexit._data._streamed import look_through


@dataclass(frozen=True)
class Views:
    """How the views of a sample are found in it.

    Attributes
    ----------
    n_views : int
        Number of views.
    shape : tuple of int
        Shape of a view.
    missing : float or None
        Number that all values of a missing view are equal to. None if no view is missing.
    """

    n_views: int
    shape: tuple[int, ...]
    missing: float | None

    @classmethod
    def of(cls, row_shape: tuple[int, ...], n_views: int | None, missing: float | None) -> Views:
        """Views of samples of a shape; the other arguments are those of `MultiViewBackbone`."""
        if missing is not None:
            # With a Python number, numpy and torch both compare in the precision of the samples;
            # with one of type float64, numpy would not.
            missing = float(missing)
        if len(row_shape) == 1 and n_views is not None and row_shape[0] % n_views == 0:
            return cls(n_views, (row_shape[0] // n_views,), missing)
        if len(row_shape) == 1 or n_views not in (None, row_shape[0]):
            raise ValueError(
                "MultiViewBackbone needs samples of shape (n_views, ...), or n_views and samples "
                "that are vectors of all views, one after the other. Got samples of shape "
                f"{row_shape} and n_views={n_views!r}."
            )
        return cls(row_shape[0], row_shape[1:], missing)

    def split(self, rows: Any) -> Any:
        """Samples, an array or a tensor, of shape (n, n_views, *shape)."""
        return rows.reshape(rows.shape[0], self.n_views, *self.shape)

    def present(self, rows: Any) -> Any:
        """Which views of samples are not missing, shape (n, n_views)."""
        return (self.split(rows).reshape(rows.shape[0], self.n_views, -1) != self.missing).any(-1)

    def check(self, rows: np.ndarray, positions: np.ndarray | range, name: str) -> None:
        """Raise a ValueError if a sample has no view; see `Network.check`."""
        without = ~self.present(rows).any(axis=1)
        if without.any():
            raise ValueError(
                f"All views of {int(without.sum())} samples of {name} are missing, the first of "
                f"them those of {name}[{positions[int(without.argmax())]}]. Views whose values all "
                f"are missing_values={self.missing!r} are missing; leave such samples out."
            )


class ViewRows:
    """Some views of samples, which are read as needed.

    Parameters
    ----------
    X : ndarray or StreamedRows of shape (n_samples, ...)
    views : Views
    rows, chosen : ndarray of shape (n,)
        Index of the sample and of the view of each row.
    """

    def __init__(self, X: Any, views: Views, rows: np.ndarray, chosen: np.ndarray) -> None:
        self.X, self.views, self.rows, self.chosen = X, views, rows, chosen
        self.shape, self.ndim = (len(rows), *views.shape), 1 + len(views.shape)
        self.dtype = X.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        rows, chosen = self.rows[index], self.chosen[index]
        found: np.ndarray = self.views.split(self.X[rows])[np.arange(len(rows)), chosen]
        return found


def rows_of_networks(X: Any, views: Views, *, shared: bool) -> list[ViewRows]:
    """Training samples of the network of each view, or of the one for all, without missing ones."""
    if views.missing is None:
        present = np.ones((len(X), views.n_views), dtype=bool)
    else:
        look_through(X, views.check, "X")
        present = np.concatenate([views.present(block) for block in blocks(X)])
        if not present.any(axis=0).all():
            raise ValueError(
                f"View {int(present.any(axis=0).argmin())} is missing in all training samples: all "
                f"its values are missing_values={views.missing!r}. Leave this view out."
            )
    if shared:
        return [ViewRows(X, views, *np.nonzero(present))]
    each = [np.flatnonzero(of_view) for of_view in present.T]
    return [ViewRows(X, views, rows, np.full(len(rows), i)) for i, rows in enumerate(each)]


def means_of(by_network: Sequence[ViewRows], views: Views) -> torch.Tensor:
    """Mean of each view, shape (n_views, *shape)."""
    flat = [
        channel_moments(rows, lambda each: each.reshape(len(each), -1))[0] for rows in by_network
    ]
    means = np.broadcast_to(np.concatenate(flat), (views.n_views, math.prod(views.shape)))
    return torch.from_numpy(means.reshape(views.n_views, *views.shape).astype(by_network[0].dtype))

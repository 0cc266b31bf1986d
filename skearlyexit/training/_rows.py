"""Rows to learn from, and how they are cut into batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from skearlyexit._streamed import StreamedRows

#: What a network reads: one tensor, or several with the same rows.
Inputs = torch.Tensor | tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class TrainingRows(torch.utils.data.Dataset):
    """Rows to learn from, or to validate on.

    Attributes
    ----------
    X : Tensor or StreamedRows of shape (n_samples, ...), or tuple of tensors
    y : Tensor of shape (n_samples,)
        Indices of classes.
    weight : Tensor of shape (n_samples,) or None
    """

    X: Inputs | StreamedRows
    y: torch.Tensor
    weight: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.y)


class Batches:
    """Batches cut out of whole tensors, which is what makes small networks fast.

    A last batch of a single row joins the one before it: batch normalisation cannot train on it.
    """

    def __init__(self, dataset: TrainingRows, batch_size: int, shuffle: bool = False) -> None:
        self.dataset, self.shuffle = dataset, shuffle
        n_rows = len(dataset)
        starts = list(range(0, n_rows, batch_size))[: n_batches(n_rows, batch_size)]
        self.bounds = list(zip(starts, [*starts[1:], n_rows], strict=True))

    def __len__(self) -> int:
        return len(self.bounds)

    def __iter__(self) -> Iterator[tuple[Inputs, tuple[torch.Tensor, ...]]]:
        rows = self.dataset
        columns = (rows.y,) if rows.weight is None else (rows.y, rows.weight)
        order = torch.randperm(len(rows)) if self.shuffle else None
        for start, stop in self.bounds:
            chosen = slice(start, stop) if order is None else order[start:stop]
            yield take(rows.X, chosen), tuple(_chosen(column, chosen) for column in columns)


def n_batches(n_rows: int, batch_size: int) -> int:
    """Number of batches in an epoch."""
    n_full, n_over = divmod(n_rows, batch_size)
    return max(1, n_full + (n_over > 1) + (n_over == 1 and n_full == 0))


def take(inputs: Inputs | StreamedRows, chosen: slice | torch.Tensor) -> Inputs:
    """Some of the rows."""
    if isinstance(inputs, StreamedRows):
        return inputs.tensor(chosen)
    if isinstance(inputs, tuple):
        return tuple(_chosen(part, chosen) for part in inputs)
    return _chosen(inputs, chosen)


def _chosen(part: torch.Tensor, chosen: slice | torch.Tensor) -> torch.Tensor:
    return part[chosen] if isinstance(chosen, slice) else part.index_select(0, chosen)


def to_device(inputs: Inputs, device: str) -> Inputs:
    """The rows on a device."""
    if isinstance(inputs, tuple):
        return tuple(part.to(device) for part in inputs)
    return inputs.to(device)


def to_rows(X: np.ndarray | StreamedRows, y: np.ndarray, weight: np.ndarray | None) -> TrainingRows:
    """Rows of arrays as tensors, with weights scaled to a mean of 1; streamed rows stay so."""
    if weight is not None:
        weight = weight / weight.max()  # whose sum may otherwise overflow
        weight = (weight / weight.mean()).astype(X.dtype)
    return TrainingRows(
        X if isinstance(X, StreamedRows) else torch.tensor(X),
        torch.tensor(y, dtype=torch.int64),
        None if weight is None else torch.tensor(weight),
    )

"""Rows to learn from, and how they are cut into batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from skearlyexit._data._samples import Samples
from skearlyexit._data._streamed import StreamedRows, tensor_of

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
    unlabeled : as X, of shape (n_unlabeled, ...), or None
        Further rows to learn from, which have no labels.
    """

    X: Inputs | StreamedRows
    y: torch.Tensor
    weight: torch.Tensor | None = None
    unlabeled: Inputs | StreamedRows | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def n_unlabeled(self) -> int:
        """Number of rows without labels."""
        return 0 if self.unlabeled is None else n_rows_of(self.unlabeled)


class Batches:
    """Batches cut out of whole tensors, which is what makes small networks fast.

    A last batch of a single row joins the one before it: batch normalization cannot train on it.
    Where there are rows without labels, a shuffled batch holds as many of them as of the others,
    behind these: its labels and weights end before its rows do. They have their turns in a shuffled
    order that goes on from epoch to epoch.
    """

    def __init__(self, dataset: TrainingRows, batch_size: int, shuffle: bool = False) -> None:
        self.dataset, self.shuffle = dataset, shuffle
        n_rows = len(dataset)
        starts = list(range(0, n_rows, batch_size))[: n_batches(n_rows, batch_size)]
        self.bounds = list(zip(starts, [*starts[1:], n_rows], strict=True))
        self.turns = _Turns(dataset.n_unlabeled)

    def __len__(self) -> int:
        return len(self.bounds)

    def __iter__(self) -> Iterator[tuple[Inputs, tuple[torch.Tensor, ...]]]:
        rows = self.dataset
        columns = (rows.y,) if rows.weight is None else (rows.y, rows.weight)
        order = torch.randperm(len(rows)) if self.shuffle else None
        for start, stop in self.bounds:
            chosen = slice(start, stop) if order is None else order[start:stop]
            inputs = take(rows.X, chosen)
            if self.shuffle and rows.unlabeled is not None:
                inputs = _joined(inputs, take(rows.unlabeled, self.turns.next(stop - start)))
            yield inputs, tuple(_chosen(column, chosen) for column in columns)


class _Turns:
    """Numbers below n in a shuffled order, shuffled anew once all have had their turn."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.left = torch.empty(0, dtype=torch.int64)

    def next(self, n_taken: int) -> torch.Tensor:
        while len(self.left) < n_taken:
            self.left = torch.cat([self.left, torch.randperm(self.n)])
        taken, self.left = self.left[:n_taken], self.left[n_taken:]
        return taken


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


def n_rows_of(inputs: Inputs | StreamedRows) -> int:
    """Number of rows."""
    return len(inputs[0] if isinstance(inputs, tuple) else inputs)


def _joined(first: Inputs, second: Inputs) -> Inputs:
    """The rows of both, one after the other."""
    if isinstance(first, tuple):
        return tuple(torch.cat(parts) for parts in zip(first, second, strict=True))
    assert isinstance(second, torch.Tensor)
    return torch.cat([first, second])


def _chosen(part: torch.Tensor, chosen: slice | torch.Tensor) -> torch.Tensor:
    return part[chosen] if isinstance(chosen, slice) else part.index_select(0, chosen)


def to_device(inputs: Inputs, device: str) -> Inputs:
    """The rows on a device."""
    if isinstance(inputs, tuple):
        return tuple(part.to(device) for part in inputs)
    return inputs.to(device)


def training_rows(
    samples: Samples, dtype: torch.dtype, *, unlabeled: bool = False, relative: bool = True
) -> TrainingRows:
    """Samples as a trainer takes them.

    Parameters
    ----------
    samples : Samples
    dtype : torch.dtype
        Precision of weights.
    unlabeled : bool, default=False
        Whether samples without labels are among them.
    relative : bool, default=True
        Whether weights count relative to their mean.
    """
    further = samples.unlabeled if unlabeled else None
    X, y, weight = samples.X, samples.y, samples.weight
    return to_rows(X, y, weight, further, relative=relative, dtype=dtype)


def to_rows(
    X: Any,
    y: np.ndarray,
    weight: np.ndarray | None,
    unlabeled: Any = None,
    *,
    relative: bool = True,
    dtype: torch.dtype | None = None,
) -> TrainingRows:
    """Rows of arrays as tensors, with weights relative to a mean of 1; streamed rows stay so.

    Weights are of the precision of the network, or else of X.
    """
    if dtype is None:
        dtype = torch.float64 if X.dtype == np.float64 else torch.float32
    if weight is not None and relative:
        if not weight.any():
            raise ValueError(
                f"All {len(weight)} samples of this training have weight 0, by sample_weight or "
                "class_weight. Hold out others, or give them a weight."
            )
        weight = weight / weight.max()  # whose sum may otherwise overflow
        weight = weight / weight.mean()
    return TrainingRows(
        _tensor(X),
        torch.tensor(y, dtype=torch.int64),
        None if weight is None else tensor_of(weight).to(dtype),
        None if unlabeled is None else _tensor(unlabeled),
    )


def _tensor(X: Any) -> torch.Tensor | StreamedRows:
    return X if isinstance(X, StreamedRows) else tensor_of(X)

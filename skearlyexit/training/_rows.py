"""Training samples as tensors, and their division into batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from skearlyexit._data._samples import Samples
from skearlyexit._data._streamed import StreamedRows, tensor_of

#: Inputs of a network: a tensor, or several tensors for the same samples.
Inputs = torch.Tensor | tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class TrainingRows(torch.utils.data.Dataset):
    """Training or validation samples.

    Attributes
    ----------
    X : Tensor or StreamedRows of shape (n_samples, ...), or tuple of Tensor
        Inputs of the network.
    y : Tensor of shape (n_samples,) or (n_samples, n_targets)
        Classes, as indices, or standardized targets in the precision of the network.
    weight : Tensor of shape (n_samples,) or None, default=None
        Sample weights.
    unlabeled : Tensor or StreamedRows of shape (n_unlabeled, ...), or tuple, or None, default=None
        Further training samples without labels.
    n_batches : int or None, default=None
        Number of batches into which they are divided. None depends on the batch size.
    """

    X: Inputs | StreamedRows
    y: torch.Tensor
    weight: torch.Tensor | None = None
    unlabeled: Inputs | StreamedRows | None = None
    n_batches: int | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def n_unlabeled(self) -> int:
        """Number of samples without labels."""
        return 0 if self.unlabeled is None else n_rows_of(self.unlabeled)


class Batches:
    """Iterator over batches that are slices of whole tensors, which is fast for small networks.

    The sizes of the batches differ by at most one. A last batch of what is left over would be a
    step as long as the others in a direction that is mostly noise: on 4,000 samples of Letter, the
    accuracy was 89.0 % with a last batch of 16, and 94.5 % with equal batches. A single sample left
    over increases the size of a batch, since batch normalization requires two. If there are samples
    without labels and the order is shuffled, a batch contains as many of them as samples with
    labels, after these: labels and weights are then shorter than the inputs. They are used in a
    random order that continues from epoch to epoch.

    Parameters
    ----------
    dataset : TrainingRows
        Samples.
    batch_size : int
        Maximum number of samples with labels in a batch.
    shuffle : bool, default=False
        Whether the order is random in each epoch.
    """

    def __init__(self, dataset: TrainingRows, batch_size: int, shuffle: bool = False) -> None:
        self.dataset, self.shuffle = dataset, shuffle
        n_rows = len(dataset)
        n = dataset.n_batches or n_batches(n_rows, batch_size)
        self.bounds = list(pairwise(n_rows * i // n for i in range(n + 1)))
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
    """Endless sequence of random permutations of the integers below n."""

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
    """Inputs of some of the samples."""
    if isinstance(inputs, StreamedRows):
        return inputs.tensor(chosen)
    if isinstance(inputs, tuple):
        return tuple(_chosen(part, chosen) for part in inputs)
    return _chosen(inputs, chosen)


def n_rows_of(inputs: Inputs | StreamedRows) -> int:
    """Number of samples."""
    return len(inputs[0] if isinstance(inputs, tuple) else inputs)


def _joined(first: Inputs, second: Inputs) -> Inputs:
    """Concatenation of both along the samples."""
    if isinstance(first, tuple):
        return tuple(torch.cat(parts) for parts in zip(first, second, strict=True))
    assert isinstance(second, torch.Tensor)
    return torch.cat([first, second])


def _chosen(part: torch.Tensor, chosen: slice | torch.Tensor) -> torch.Tensor:
    return part[chosen] if isinstance(chosen, slice) else part.index_select(0, chosen)


def to_device(inputs: Inputs, device: str) -> Inputs:
    """Inputs moved to a device."""
    if isinstance(inputs, tuple):
        return tuple(part.to(device) for part in inputs)
    return inputs.to(device)


def training_rows(
    samples: Samples, dtype: torch.dtype, *, unlabeled: bool = False, relative: bool = True
) -> TrainingRows:
    """Convert samples to the input of a trainer.

    Parameters
    ----------
    samples : Samples
        Training or validation samples.
    dtype : torch.dtype
        Precision of the sample weights.
    unlabeled : bool, default=False
        Whether samples without labels are included.
    relative : bool, default=True
        Whether the sample weights are divided by their mean.

    Returns
    -------
    rows : TrainingRows
        The samples as tensors; streamed samples are not read.
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
    """Convert arrays to tensors; streamed samples are not read.

    The sample weights are divided by their mean if `relative` is True. Their precision is `dtype`,
    or that of X if it is None.
    """
    if dtype is None:
        dtype = torch.float64 if X.dtype == np.float64 else torch.float32
    if weight is not None and relative:
        if not weight.any():
            raise ValueError(
                f"All {len(weight)} samples of this training have weight 0, by sample_weight or "
                "class_weight. Hold out other samples, or give some of these a positive weight."
            )
        weight = weight / weight.max()  # otherwise their sum may overflow
        weight = weight / weight.mean()
    return TrainingRows(
        _tensor(X),
        torch.tensor(y, dtype=torch.int64 if y.dtype.kind in "iu" else dtype),
        None if weight is None else tensor_of(weight).to(dtype),
        None if unlabeled is None else _tensor(unlabeled),
    )


def _tensor(X: Any) -> torch.Tensor | StreamedRows:
    return X if isinstance(X, StreamedRows) else tensor_of(X)

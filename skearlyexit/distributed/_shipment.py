"""What is sent from one worker to the next: batches of embeddings with their labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from skearlyexit._data._streamed import StreamedRows
from skearlyexit.tiers._compression import packed, unpacked
from skearlyexit.training._rows import TrainingRows, n_rows_of, take

#: Inputs of a network, and labels with or without sample weights.
Batch = tuple[Any, tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class Shipment:
    """Batches that are sent at once.

    Attributes
    ----------
    train : list of Batch
        Batches of training samples.
    validation : list of Batch or None
        Batches of validation samples. None if there are none.
    """

    train: list[Batch]
    validation: list[Batch] | None

    @classmethod
    def of(
        cls, train: list[Batch], validation: list[Batch] | None, compression: str | None = None
    ) -> Shipment:
        """Compress the inputs of batches."""

        def sent(batches: list[Batch]) -> list[Batch]:
            if compression is None:
                return batches
            return [(packed(inputs, compression), columns) for inputs, columns in batches]

        return cls(sent(train), None if validation is None else sent(validation))

    @classmethod
    def of_rows(
        cls, rows: TrainingRows, validation: TrainingRows | None, compression: str | None = None
    ) -> Shipment:
        """All samples, as one batch of training and one of validation samples."""
        batches = None if validation is None else [_as_batch(validation)]
        return cls.of([_as_batch(rows)], batches, compression)

    @property
    def n_bytes(self) -> int:
        """Size of all tensors."""
        batches = [*self.train, *(self.validation or [])]
        return sum(_size(inputs) + sum(map(_size, columns)) for inputs, columns in batches)

    def rows(self) -> tuple[TrainingRows, TrainingRows | None]:
        """Training and validation samples of `of_rows`."""
        validation = None if self.validation is None else _as_rows(self.validation[0])
        return _as_rows(self.train[0]), validation


def received(batches: Iterable[Batch]) -> list[Batch]:
    """Batches with inputs as they are received."""
    return [(unpacked(inputs), columns) for inputs, columns in batches]


def _as_batch(rows: TrainingRows) -> Batch:
    return rows.X, (rows.y,) if rows.weight is None else (rows.y, rows.weight)


def _as_rows(batch: Batch) -> TrainingRows:
    y, *weight = batch[1]
    return TrainingRows(unpacked(batch[0]), y, weight[0] if weight else None)


def _size(inputs: Any) -> int:
    if isinstance(inputs, StreamedRows):
        return n_rows_of(inputs) * _size(take(inputs, slice(1)))
    if isinstance(inputs, tuple):
        return sum(map(_size, inputs))
    n_bytes: int = inputs.nbytes  # of a tensor or `Packed`
    return n_bytes

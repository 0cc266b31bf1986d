"""Training of heads on the embeddings of frozen stages, which are computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.nn.modules.dropout import _DropoutNd

from skearlyexit._data._streamed import StreamedRows
from skearlyexit.training._network import ExitView, MultiExitNetwork, View
from skearlyexit.training._rows import Inputs, TrainingRows, n_rows_of, take, to_device
from skearlyexit.training._trainer import Trainer

#: Maximum size of the stored embeddings. Larger ones are computed in every epoch.
CACHE_BYTES = 2**31
ROWS_A_PASS = 256


class CachedView(View):
    """Heads of some exits, whose inputs are the concatenated pooled embeddings of these exits.

    Parameters
    ----------
    heads : dict of int to torch.nn.Module
        Modules that map vectors to logits, by exit.
    widths : sequence of int
        Size of the vectors of each head.

    Notes
    -----
    **Shape**: (n, sum(widths)) to a list of logits (n, n_classes), one for each head.
    """

    def __init__(self, heads: dict[int, torch.nn.Module], widths: Sequence[int]) -> None:
        super().__init__()
        self.heads = torch.nn.ModuleDict({str(i): head for i, head in heads.items()})
        self.exits = list(heads)
        self.widths = list(widths)

    def trained_part(self) -> torch.nn.Module:
        return self.heads

    def forward(self, rows: torch.Tensor) -> list[torch.Tensor]:
        columns = rows.split(self.widths, dim=1)
        return [head(part) for head, part in zip(self.heads.values(), columns, strict=True)]


def view_of_heads(
    network: MultiExitNetwork, exits: Sequence[int], trainer: Trainer
) -> tuple[View, Trainer]:
    """View of some heads on frozen stages, and a trainer with the samples for this view.

    The embeddings of all samples are computed once, unless the pooling of a head has weights or
    dropout, or the embeddings take more than `CACHE_BYTES`.
    """
    heads: dict[int, Any] = {i: network.heads[i] for i in exits}
    poolings = {i: head.pooling for i, head in heads.items()}
    tables = [trainer.rows, *([] if trainer.validation is None else [trainer.validation])]
    if not any(map(_changes, poolings.values())):
        network.to(trainer.device).eval()
        few = _pooled(network, poolings, to_device(take(trainer.rows.X, slice(2)), trainer.device))
        row_bytes = sum(part[0].numel() * part.element_size() for part in few)
        if row_bytes * sum(map(len, tables)) <= CACHE_BYTES:
            train, *validation = (_embedded(network, poolings, rows, trainer) for rows in tables)
            bodies = {i: head.body for i, head in heads.items()}
            return (
                CachedView(bodies, [part.shape[1] for part in few]),
                replace(trainer, rows=train, validation=validation[0] if validation else None),
            )
    return ExitView(network, exits, freeze_stages=True), trainer


def _changes(pooling: torch.nn.Module) -> bool:
    """Whether its output for the same embedding may differ from epoch to epoch."""
    random = any(isinstance(module, _DropoutNd) for module in pooling.modules())
    return random or len(pooling.state_dict()) > 0


def _embedded(
    network: MultiExitNetwork,
    poolings: dict[int, torch.nn.Module],
    rows: TrainingRows,
    trainer: Trainer,
) -> TrainingRows:
    """The samples with their concatenated pooled embeddings as inputs, in main memory."""
    passes = [
        torch.cat(_pooled(network, poolings, some), dim=1).cpu()
        for some in passes_of(rows.X, trainer.device)
    ]
    return replace(rows, X=torch.cat(passes))


def passes_of(inputs: Inputs | StreamedRows, device: str) -> Iterator[Inputs]:
    """Inputs in order, in batches on the device."""
    for start in range(0, n_rows_of(inputs), ROWS_A_PASS):
        yield to_device(take(inputs, slice(start, start + ROWS_A_PASS)), device)


@torch.no_grad()
def _pooled(
    network: MultiExitNetwork, poolings: dict[int, torch.nn.Module], rows: Inputs
) -> list[torch.Tensor]:
    """Pooled embeddings of each exit, of shape (n, width)."""
    carry: Any = rows
    vectors = []
    for i, stage in enumerate(network.stages[: max(poolings) + 1]):
        carry, embedding = stage(carry)
        if i in poolings:
            vectors.append(poolings[i](embedding))
    return vectors

"""Losses and accuracies of the exits in an epoch."""

from __future__ import annotations

from typing import Any

import torch


class ExitTally:
    """Mean loss and accuracy of each exit, accumulated over the batches of an epoch.

    Nothing is copied from the device before the end of the epoch.
    """

    def __init__(self) -> None:
        self._losses: list[torch.Tensor] = []
        self._hits: list[torch.Tensor] = []
        self._n_rows: list[int] = []

    def add(self, losses: torch.Tensor, stacked: torch.Tensor, y: torch.Tensor) -> None:
        """Add a batch.

        Parameters
        ----------
        losses : Tensor of shape (n_exits,)
            Mean loss of each exit.
        stacked : Tensor of shape (n_exits, n, n_classes)
            Logits.
        y : Tensor of shape (n_labeled,)
            Classes of the first samples, as indices. Further samples have no labels.
        """
        self._losses.append(losses.detach())
        answers = stacked.detach()[:, : len(y)].argmax(dim=2)
        self._hits.append((answers == y).sum(dim=1))
        self._n_rows.append(len(y))

    def take(self, part: str, n_exits: int) -> dict[str, Any]:
        """Return the entries of the history, and reset the tally.

        Parameters
        ----------
        part : str
            Prefix of the names.
        n_exits : int
            Number of exits of the view. Batches with fewer exits contain the last ones.

        Returns
        -------
        entries : dict of str to list of float
            One value for each exit, NaN for an exit without logits. Empty if there was no batch.
        """
        names = f"{part}_exit_losses", f"{part}_exit_accuracies"
        if not n_exits:
            return {name: [] for name in names}
        if not self._n_rows:
            return {}
        losses, hits = (_filled(column, n_exits) for column in (self._losses, self._hits))
        n_rows = torch.tensor(self._n_rows, dtype=torch.float64)
        total = n_rows @ (~losses.isnan()).to(n_rows)
        self._losses, self._hits, self._n_rows = [], [], []
        means = (n_rows[:, None] * losses).nansum(dim=0) / total, hits.nansum(dim=0) / total
        return {name: each.tolist() for name, each in zip(names, means, strict=True)}


def _filled(batches: list[torch.Tensor], n_exits: int) -> torch.Tensor:
    """Values of all batches, shape (n_batches, n_exits), padded with NaN on the left."""
    filled = [
        torch.nn.functional.pad(each.to(torch.float64), (n_exits - len(each), 0), value=torch.nan)
        for each in batches
    ]
    return torch.stack(filled).cpu()

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

    def add(self, losses: torch.Tensor, n_correct: torch.Tensor | None, n_rows: int) -> None:
        """Add a batch.

        Parameters
        ----------
        losses : Tensor of shape (n_exits,)
            Mean loss of each exit.
        n_correct : Tensor of shape (n_exits,) or None
            Number of correct predictions of each exit. None without classes.
        n_rows : int
            Number of samples with labels.
        """
        self._losses.append(losses.detach())
        if n_correct is not None:
            self._hits.append(n_correct)
        self._n_rows.append(n_rows)

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
            Without classes, there are no accuracies.
        """
        columns = {f"{part}_exit_losses": self._losses, f"{part}_exit_accuracies": self._hits}
        if not n_exits:
            return {name: [] for name in columns}
        if not self._n_rows:
            return {}
        n_rows = torch.tensor(self._n_rows, dtype=torch.float64)
        entries = {}
        for name, batches in columns.items():
            if batches:
                filled = _filled(batches, n_exits)
                total = n_rows @ (~filled.isnan()).to(n_rows)
                # Losses are means over a batch, and correct predictions are counted.
                sums = n_rows[:, None] * filled if batches is self._losses else filled
                entries[name] = (sums.nansum(dim=0) / total).tolist()
        self._losses, self._hits, self._n_rows = [], [], []
        return entries


def _filled(batches: list[torch.Tensor], n_exits: int) -> torch.Tensor:
    """Values of all batches, shape (n_batches, n_exits), padded with NaN on the left."""
    filled = [
        torch.nn.functional.pad(each.to(torch.float64), (n_exits - len(each), 0), value=torch.nan)
        for each in batches
    ]
    return torch.stack(filled).cpu()

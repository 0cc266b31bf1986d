"""What every exit does in an epoch."""

from __future__ import annotations

from typing import Any

import torch


class ExitTally:
    """Mean loss and accuracy of each exit, added up batch by batch.

    Nothing is fetched from the device before the epoch is over.
    """

    def __init__(self) -> None:
        self._losses: list[torch.Tensor] = []
        self._hits: list[torch.Tensor] = []
        self._n_rows: list[int] = []

    def add(self, losses: torch.Tensor, stacked: torch.Tensor, y: torch.Tensor) -> None:
        """Take a batch in.

        Parameters
        ----------
        losses : Tensor of shape (n_exits,)
            Mean over the rows.
        stacked : Tensor of shape (n_exits, n, n_classes)
            Logits.
        y : Tensor of shape (n,)
        """
        self._losses.append(losses.detach())
        # Rows behind those of y have no labels.
        answers = stacked.detach()[:, : len(y)].argmax(dim=2)
        self._hits.append((answers == y).sum(dim=1))
        self._n_rows.append(len(y))

    def take(self, part: str, n_exits: int) -> dict[str, Any]:
        """Entries for the history, and begin anew.

        Parameters
        ----------
        part : str
            What their names begin with.
        n_exits : int
            Exits of the view. Where fewer have answered, they were the last ones.

        Returns
        -------
        entries : dict of str to list of float
            One number for each exit, NaN for one that has not answered; empty if there was no
            batch.
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
    """Numbers of all batches, shape (n_batches, n_exits), NaN in front where there are fewer."""
    filled = [
        torch.nn.functional.pad(each.to(torch.float64), (n_exits - len(each), 0), value=torch.nan)
        for each in batches
    ]
    return torch.stack(filled).cpu()

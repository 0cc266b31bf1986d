"""Cross-entropy of every exit, and the weights it is added up with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812

#: Weights of the exits as a function of the share of the run that has passed.
Schedule = Callable[[float], Sequence[float]]


class ExitLoss(torch.nn.Module):
    """Weighted sum over exits of the mean, over rows, of weight times cross-entropy.

    Parameters
    ----------
    weights : sequence of float, or callable
        One weight for each exit of the view, or a function from the share of the run that has
        passed, in [0, 1], to such weights.

    Attributes
    ----------
    progress : float
        Share of the run that has passed; set by the trainer.
    """

    def __init__(self, weights: Sequence[float] | Schedule) -> None:
        super().__init__()
        self.weights = weights
        self.progress = 0.0

    def forward(
        self, logits: Sequence[torch.Tensor], target: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Loss of a batch.

        Parameters
        ----------
        logits : sequence of Tensor of shape (n, n_classes)
            One for each exit.
        target : (y,) or (y, sample_weight)
            Tensors of shape (n,). Weights are relative to a mean of 1 over all training rows, so
            that what is minimised does not depend on how rows fall into batches.
        """
        y, *sample_weight = target
        weights = self.weights(self.progress) if callable(self.weights) else self.weights
        stacked = torch.stack(tuple(logits))
        n_exits, n_rows, n_classes = stacked.shape
        # All exits in one call: the cost of calling exceeds that of computing.
        losses = F.cross_entropy(
            stacked.view(-1, n_classes), y.expand(n_exits, n_rows).reshape(-1), reduction="none"
        ).view(n_exits, n_rows)
        if sample_weight:
            losses = losses * sample_weight[0]
        return losses.mean(dim=1) @ stacked.new_tensor(weights)

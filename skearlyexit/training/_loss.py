"""Cross-entropy of every exit, and how it is added up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812

from skearlyexit.training._tally import ExitTally

#: Weights of the exits as a function of the share of the run that has passed.
Schedule = Callable[[float], Sequence[float]]

#: What a batch is compared with: (y,) or (y, sample_weight).
Target = Sequence[torch.Tensor]


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
    tallies : dict of bool to ExitTally
        What the exits did, in training and in evaluation.

    Examples
    --------
    >>> import torch
    >>> from skearlyexit.training import ExitLoss
    >>> logits = [torch.zeros(4, 2), torch.zeros(4, 2)]  # two exits with equal logits
    >>> loss = ExitLoss([0.5, 1.0])(logits, (torch.tensor([0, 1, 1, 0]),))
    >>> round(float(loss), 3)  # 0.5 + 1.0 times the logarithm of 2
    1.04
    """

    def __init__(self, weights: Sequence[float] | Schedule) -> None:
        super().__init__()
        self.weights = weights
        self.progress = 0.0
        self.tallies = {True: ExitTally(), False: ExitTally()}

    def forward(self, logits: Sequence[torch.Tensor], target: Target) -> torch.Tensor:
        """Loss of a batch.

        Parameters
        ----------
        logits : sequence of Tensor of shape (n, n_classes)
            One for each exit.
        target : (y,) or (y, sample_weight)
            Tensors of shape (n,), or shorter, where the last rows have no labels. Weights are
            relative to a mean of 1 over all training rows, so that what is minimized does not
            depend on how rows fall into batches.
        """
        losses = self.exit_losses(logits, target)
        return losses @ self._weights_now(losses)

    def exit_losses(self, logits: Sequence[torch.Tensor], target: Target) -> torch.Tensor:
        """Mean cross-entropy of each exit, shape (n_exits,), which is written down, too."""
        stacked = torch.stack(tuple(logits))
        losses = mean_losses(stacked, target)
        self.tallies[self.training].add(losses, stacked, target[0])
        return losses

    def _weights_now(self, losses: torch.Tensor) -> torch.Tensor:
        """Weight of each exit in this step, given the mean loss of each, shape (n_exits,)."""
        return losses.new_tensor(self._scheduled())

    def _scheduled(self) -> Sequence[float]:
        """Weights now; in evaluation those of the end, so that epochs can be compared."""
        if not callable(self.weights):
            return self.weights
        return self.weights(self.progress if self.training else 1.0)


class AdaptiveExitLoss(ExitLoss):
    """Losses of all exits, each divided by its own running mean.

    Every exit then counts the same, however small its loss has become. In validation losses are
    added up as they are, so that epochs compare.

    Parameters
    ----------
    n_exits : int
    momentum : float, default=0.95
        Share of the running mean that a step keeps.

    References
    ----------
    Hu, Dey, Hebert, Bagnell, "Learning anytime predictions in neural networks via adaptive loss
    balancing", AAAI 2019.
    """

    running: torch.Tensor

    def __init__(self, n_exits: int, *, momentum: float = 0.95) -> None:
        super().__init__([1.0] * n_exits)
        self.momentum = momentum
        self.n_seen = 0
        self.register_buffer("running", torch.zeros(n_exits, dtype=torch.float64))

    def _weights_now(self, losses: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return torch.ones_like(losses)
        self.n_seen += 1
        # The mean of the steps so far until there are enough of them.
        keep = min(self.momentum, 1 - 1 / self.n_seen)
        self.running.mul_(keep).add_((1 - keep) * losses.detach())
        inverse = 1 / self.running.clamp_min(1e-8)
        return (inverse * len(losses) / inverse.sum()).to(losses.dtype)


def mean_losses(stacked: torch.Tensor, target: Target) -> torch.Tensor:
    """Mean cross-entropy of each exit.

    Parameters
    ----------
    stacked : Tensor of shape (n_exits, n, n_classes)
        Logits.
    target : (y,) or (y, sample_weight)
        Rows beyond these have no labels, and do not count.

    Returns
    -------
    losses : Tensor of shape (n_exits,)
    """
    y, *sample_weight = target
    if len(y) < stacked.shape[1]:
        stacked = stacked[:, : len(y)].contiguous()
    n_exits, n_rows, n_classes = stacked.shape
    # All exits in one call: the cost of calling exceeds that of computing.
    losses = F.cross_entropy(
        stacked.view(-1, n_classes), y.expand(n_exits, n_rows).reshape(-1), reduction="none"
    ).view(n_exits, n_rows)
    if sample_weight:
        losses = losses * sample_weight[0]
    return losses.mean(dim=1)

"""Weighted sum of the losses of the exits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from skearlyexit.training._criterion import Criterion, CrossEntropy
from skearlyexit.training._tally import ExitTally

#: Function from the progress of the training phase, in [0, 1], to the weights of the exits.
Schedule = Callable[[float], Sequence[float]]

#: Target of a batch: (y,) or (y, sample_weight).
Target = Sequence[torch.Tensor]

#: Least weight of a sample in `ReachExitLoss`, before the division by the mean.
LEAST_REACH = 0.1


class ExitLoss(torch.nn.Module):
    """Weighted sum of the losses of the exits.

    The loss of an exit is the mean over the samples of a batch of the loss that the estimator asks
    for, by default the cross-entropy in classification, times the sample weight.

    Parameters
    ----------
    weights : sequence of float, or callable
        Weight of each exit of the view. A callable returns these weights for the progress of the
        training phase, which is in [0, 1].

    Attributes
    ----------
    progress : float
        Progress of the training phase, as a share of its steps. It is set by the trainer.
    criterion : Criterion
        Loss of the outputs of an exit for each sample: cross-entropy, until the trainer sets that
        of the estimator.
    tallies : dict of bool to ExitTally
        Losses and accuracies of the exits in the current epoch, in training (True) and in
        evaluation (False).

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
        self.criterion: Criterion = CrossEntropy()
        self.tallies = {True: ExitTally(), False: ExitTally()}

    def forward(self, logits: Sequence[torch.Tensor], target: Target) -> torch.Tensor:
        """Compute the loss of a batch.

        Parameters
        ----------
        logits : sequence of Tensor of shape (n, n_classes)
            Logits of each exit.
        target : sequence of Tensor of shape (n,)
            ``(y,)`` or ``(y, sample_weight)``. The tensors are shorter than n if the last samples
            have no labels. The mean weight of all training samples is 1, rather than that of the
            batch.

        Returns
        -------
        loss : Tensor of shape ()
            Weighted sum of the losses of the exits.
        """
        losses = self.exit_losses(logits, target)
        return losses @ self._weights_now(losses)

    def exit_losses(self, logits: Sequence[torch.Tensor], target: Target) -> torch.Tensor:
        """Compute the mean loss of each exit, and add it to the tallies.

        Parameters
        ----------
        logits : sequence of Tensor of shape (n, n_classes)
            Logits of each exit.
        target : sequence of Tensor of shape (n,)
            ``(y,)`` or ``(y, sample_weight)``, as in `forward`.

        Returns
        -------
        losses : Tensor of shape (n_exits,)
            Mean loss of each exit.
        """
        stacked, y = torch.stack(tuple(logits)), target[0]
        losses = self._means(stacked, target)
        n_correct = self.criterion.n_correct(stacked.detach()[:, : len(y)], y)
        self.tallies[self.training].add(losses, n_correct, len(y))
        return losses

    def _means(self, stacked: torch.Tensor, target: Target) -> torch.Tensor:
        """Mean loss of each exit, shape (n_exits,)."""
        return self._mean_losses(stacked, target)

    def _mean_losses(
        self, stacked: torch.Tensor, target: Target, factor: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Mean loss of each exit.

        Parameters
        ----------
        stacked : Tensor of shape (n_exits, n, n_outputs)
            Outputs of all exits.
        target : sequence of Tensor
            ``(y,)`` or ``(y, sample_weight)``. Further samples have no labels and are ignored.
        factor : Tensor of shape (n_exits, n_labeled) or None, default=None
            Further weights of the samples at each exit.

        Returns
        -------
        losses : Tensor of shape (n_exits,)
            Mean over the samples with labels of weight times loss.
        """
        y, *sample_weight = target
        if len(y) < stacked.shape[1]:
            stacked = stacked[:, : len(y)].contiguous()
        n_exits, n_rows, n_outputs = stacked.shape
        # One call for all exits, since for small batches the overhead of a call dominates.
        losses = self.criterion.losses(
            stacked.view(-1, n_outputs),
            y.expand(n_exits, *y.shape).reshape(-1, *y.shape[1:]),
            training=self.training,
        ).view(n_exits, n_rows)
        if sample_weight:
            losses = losses * sample_weight[0]
        if factor is not None:
            losses = losses * factor
        return losses.mean(dim=1)

    def _weights_now(self, losses: torch.Tensor) -> torch.Tensor:
        """Weight of each exit in this step, given the mean loss of each, shape (n_exits,)."""
        return losses.new_tensor(self._scheduled())

    def _scheduled(self) -> Sequence[float]:
        """Current weights; in evaluation the final ones, so that epochs are comparable."""
        if not callable(self.weights):
            return self.weights
        return self.weights(self.progress if self.training else 1.0)


class AdaptiveExitLoss(ExitLoss):
    """Sum of the losses of all exits, each divided by its running mean.

    All exits then have the same influence, however small their losses are. The validation loss is
    the sum of the losses without weights, so that epochs are comparable.

    Parameters
    ----------
    n_exits : int
        Number of exits.
    momentum : float, default=0.95
        Weight of the previous running mean in its update.

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
        # In the first steps, the running mean is the mean of all steps.
        keep = min(self.momentum, 1 - 1 / self.n_seen)
        self.running.mul_(keep).add_((1 - keep) * losses.detach())
        inverse = 1 / self.running.clamp_min(1e-8)
        return (inverse * len(losses) / inverse.sum()).to(losses.dtype)


class ReachExitLoss(ExitLoss):
    """Sum of the losses of all exits, in which samples count by their chance to reach the exit.

    The chance to reach an exit is the product of the probabilities that the predictions of all
    exits before it are wrong, according to the network itself, and at least `LEAST_REACH`. It is
    divided by its mean over the batch, so that the exits have the same weight. The validation loss
    is the sum of the losses without weights, so that epochs are comparable.

    Parameters
    ----------
    n_exits : int
        Number of exits.
    """

    def __init__(self, n_exits: int) -> None:
        super().__init__([1.0] * n_exits)

    def _means(self, stacked: torch.Tensor, target: Target) -> torch.Tensor:
        if not self.training:
            return super()._means(stacked, target)
        with torch.no_grad():
            n_labeled = len(target[0])
            doubt = 1 - torch.softmax(stacked[:-1, :n_labeled], dim=2).amax(dim=2)
            reach = torch.cat([stacked.new_ones(1, n_labeled), doubt.cumprod(dim=0)])
            reach = reach.clamp_min(LEAST_REACH)
            reach /= reach.mean(dim=1, keepdim=True)
        return self._mean_losses(stacked, target, reach)

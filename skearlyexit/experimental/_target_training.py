"""Difference target propagation: each stage has a target for its embedding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval

from skearlyexit._determinism._random import isolated_random_state
from skearlyexit.training import (
    ExitLoss,
    MultiExitNetwork,
    Trainer,
    TrainingStrategy,
)
from skearlyexit.training._alone import train_alone
from skearlyexit.training._local_error import LocalView
from skearlyexit.training._local_losses import Decoder
from skearlyexit.training._loss import Target
from skearlyexit.training._rows import take, to_device
from skearlyexit.training._unlabeled import mean_over_rows


class TargetTraining(TrainingStrategy):
    """Training of all stages by difference target propagation.

    Each stage minimizes the squared distance of its embedding to a target, divided by
    ``2 * step``. The target of the last embedding h_K is a gradient step on the cross-entropy of
    the last exit, ``t_K = h_K - step * gradient``. The targets of earlier stages are computed from
    it by decoders, ``t_i = h_i + d_i(t_(i+1)) - d_i(h_(i+1))``, where the decoder d_i is trained to
    reconstruct the embedding of a stage from that of the next stage.

    The heads are trained by cross-entropy, without a gradient to the stages. No gradient is
    propagated from a stage to the stage before.

    Parameters
    ----------
    step : float, default=0.1
        Size of the gradient step from the last embedding to its target.

    Notes
    -----
    A decoder has a hidden layer with twice as many channels as its input and ReLU. Decoders are
    discarded after training. A network with a single exit is trained by cross-entropy.

    References
    ----------
    Lee, Zhang, Fischer, Bengio, "Difference target propagation", ECML PKDD 2015.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.experimental import TargetTraining
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=16, hidden=16), exits=["stem", "block1"],
    ...     training=TargetTraining(step=0.1), calibration=None, max_epochs=2, random_state=0)
    >>> [(epoch["phase"], epoch["exits"]) for epoch in clf.fit(X, y).history_]
    [('targets', [0, 1, 2]), ('targets', [0, 1, 2])]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "step": [Interval(Real, 0, None, closed="neither")]
    }

    def __init__(self, step: float = 0.1) -> None:
        self.step = step

    def obstacle_to_regression(self) -> str:
        return "TargetTraining propagates logits of classes"

    def train(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        if network.n_exits == 1:
            train_alone(network, trainer)
            return
        with isolated_random_state(next(trainer.seeds) % 2**32):
            decoders = [
                make_decoder(later, earlier)
                for earlier, later in _neighbors(_embeddings(network, trainer))
            ]
        view = TargetView(network, decoders)
        trainer.fit(view, TargetLoss(decoders, self.step), phase="targets")


@torch.no_grad()
def _embeddings(network: MultiExitNetwork, trainer: Trainer) -> list[torch.Tensor]:
    """Embeddings of a few samples at all stages before training."""
    carry: Any = to_device(take(trainer.rows.X, slice(2)), trainer.device)
    embeddings = []
    for stage in network.stages:
        carry, embedding = stage.to(trainer.device).eval()(carry)
        embeddings.append(embedding)
    return embeddings


def _neighbors(parts: Sequence[Any]) -> list[tuple[Any, Any]]:
    return list(pairwise(parts))


def make_decoder(later: torch.Tensor, earlier: torch.Tensor) -> torch.nn.Module:
    """Decoder from the embedding of a stage to the flattened embedding of the stage before.

    Parameters
    ----------
    later, earlier : Tensor of shape (n, n_channels, ...)
        A few embeddings of both stages, for their shapes.
    """
    wide = torch.cat([later, later], dim=1)  # enough channels for ReLU to keep all information
    return torch.nn.Sequential(
        Decoder(later, [wide]),
        torch.nn.ReLU(),
        torch.nn.Unflatten(1, wide.shape[1:]),
        Decoder(wide, [earlier]),
    )


class TargetView(LocalView):
    """The network with stopped gradients between stages, and between stages and heads.

    Parameters
    ----------
    network : MultiExitNetwork
    decoders : sequence of torch.nn.Module
        One for each exit but the last, whose input is the next embedding; see `make_decoder`.

    Notes
    -----
    **Shape**: samples (n, ...) to a list of the logits of K exits (n, n_classes), the K inputs of
    the heads and the K outputs of the stages (n, ...), which have equal values, and the K - 1
    reconstructions of embeddings from the next one, (n, n_values).
    """

    def __init__(self, network: MultiExitNetwork, decoders: Sequence[torch.nn.Module]) -> None:
        super().__init__(network, range(network.n_exits))
        self.decoders = torch.nn.ModuleList(decoders)

    def _answers(self, embeddings: list[torch.Tensor]) -> list[torch.Tensor]:
        # In the precision of the outputs, so that the loss does not receive copies.
        dtype = next(self.heads.parameters()).dtype
        read = [embedding.detach().to(dtype).requires_grad_() for embedding in embeddings]
        decoded = [
            decoder(embedding.detach())
            for decoder, embedding in zip(self.decoders, embeddings[1:], strict=True)
        ]
        return [*super()._answers(read), *read, *embeddings, *decoded]


class TargetLoss(ExitLoss):
    """Cross-entropy of all exits, distances of embeddings to their targets, errors of decoders.

    In validation, only the cross-entropy is used.

    Parameters
    ----------
    decoders : sequence of torch.nn.Module
        Decoders of the view.
    step : float
    """

    def __init__(self, decoders: Sequence[torch.nn.Module], step: float) -> None:
        super().__init__([1.0] * (len(decoders) + 1))
        # In a tuple, so that they are not registered as submodules of the loss.
        self.decoders = tuple(decoders)
        self.step = step

    def forward(self, outputs: Sequence[torch.Tensor], target: Target) -> torch.Tensor:
        """Loss of a batch, from the outputs of `TargetView` and the labels."""
        n_exits = len(self.decoders) + 1
        logits, read, made = (outputs[i * n_exits : (i + 1) * n_exits] for i in range(3))
        loss = super().forward(logits, target)
        if not self.training:
            return loss
        weight = target[1] if len(target) > 1 else None
        targets = self.targets(logits[-1], read, target[0])
        for embedding, wanted in zip(made, targets, strict=True):
            distance = (embedding - wanted).square().flatten(1).sum(dim=1)
            loss = loss + mean_over_rows(distance, weight) / (2 * self.step)
        for decoded, embedding in zip(outputs[3 * n_exits :], made[:-1], strict=True):
            error = (decoded - embedding.detach().flatten(1)).square().mean(dim=1)
            loss = loss + mean_over_rows(error, weight)
        return loss

    def targets(
        self, logits: torch.Tensor, embeddings: Sequence[torch.Tensor], y: torch.Tensor
    ) -> list[torch.Tensor]:
        """Targets of all stages.

        Parameters
        ----------
        logits : Tensor of shape (n, n_classes)
            Logits of the last exit, computed from the last of the embeddings.
        embeddings : sequence of Tensor of shape (n, ...)
            Inputs of the heads.
        y : Tensor of shape (n,)
        """
        total = self.criterion.losses(logits, y, training=False).sum()
        (gradient,) = torch.autograd.grad(total, embeddings[-1], retain_graph=True)
        with torch.no_grad():
            targets = [embeddings[-1] - self.step * gradient]
            pairs = _neighbors(embeddings)
            for decoder, (own, later) in reversed(list(zip(self.decoders, pairs, strict=True))):
                difference = decoder(targets[0]) - decoder(later)
                targets.insert(0, own + difference.view_as(own))
        return targets

"""Joint training with distillation from later exits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit.training._joint import SCHEDULED_WEIGHTS, exit_weights, obstacle_of_weights
from skearlyexit.training._loss import ExitLoss, Schedule, Target
from skearlyexit.training._network import ExitView, MultiExitNetwork
from skearlyexit.training._phases import Phase, PhasedTraining
from skearlyexit.training._trainer import Trainer
from skearlyexit.training._unlabeled import all_weights

TEACHERS = {"last", "next", "later"}


class DistillationTraining(PhasedTraining):
    """Joint training in which each exit also learns from the predictions of later exits.

    For each exit but the last, ``alpha * temperature**2`` times the Kullback-Leibler divergence of
    its predicted probabilities from those of a later exit, the teacher, is added to the loss of
    `JointTraining`. The logits of both are divided by the temperature. The teacher receives no
    gradient from the divergence. Since the divergence requires no labels, samples without labels
    (`X_unlabeled` in `fit`) can be used too. They have the weight 1 and are included in batch
    normalization. With ``loss="squared_hinge"``, the sum over the classes of the squared difference
    of the margins takes the place of the divergence, and in regression the mean squared difference
    of the predictions. `temperature` must then be 1.

    Parameters
    ----------
    teacher : {"last", "next", "later"}, default="last"
        Teacher of an exit: the last exit, the next exit, or all later exits. For ``"later"``, the
        mean of the divergences is used.
    alpha : float, default=0.3
        Weight of the divergence, relative to a loss of weight 1. Since the teacher is trained at
        the same time, values of ``alpha * temperature**2`` above 1 can reduce the accuracy of all
        exits.
    temperature : float, default=1.0
        Divisor of the logits in the divergence.
    weights : float, {"depth", "ramp"} or sequence of float, default=1.0
        Weights of the losses of the exits, as in `JointTraining`.
    backbone_share : float, default=0.0
        Share of the epochs, at least 0 and below 1, of a first phase that trains the backbone with
        its last head only. Ignored if there is one exit.

    References
    ----------
    Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network", 2015.

    ``"last"``: Phuong and Lampert, "Distillation-based training for multi-exit
    architectures", ICCV 2019; Li, Zhang, Qi, Yang, Huang, "Improved techniques for training
    adaptive deep networks", ICCV 2019. ``"next"`` and ``"later"`` are variants of it.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import DistillationTraining, EarlyExitClassifier, MLPBackbone
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=16, hidden=16), exits=["stem", "block1"],
    ...     training=DistillationTraining("next", backbone_share=0.5), calibration=None,
    ...     max_epochs=4, random_state=0)
    >>> [epoch["phase"] for epoch in clf.fit(X, y).history_]
    ['backbone', 'backbone', 'distillation', 'distillation']
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "weights": SCHEDULED_WEIGHTS,
        "teacher": [StrOptions(TEACHERS)],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "backbone_share": [Interval(Real, 0, 1, closed="left")],
    }
    uses_unlabeled = True

    def __init__(
        self,
        teacher: str = "last",
        *,
        alpha: float = 0.3,
        temperature: float = 1.0,
        weights: float | str | Sequence[float] = 1.0,
        backbone_share: float = 0.0,
    ) -> None:
        self.teacher = teacher
        self.alpha = alpha
        self.temperature = temperature
        self.weights = weights
        self.backbone_share = backbone_share

    def takes_unlabeled(self) -> bool:
        return self.alpha > 0

    def phases(
        self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer
    ) -> Iterator[Phase]:
        loss = self._loss(costs)
        last = network.n_exits - 1
        share = self.backbone_share if last else 0.0
        if share:
            yield Phase(trainer, ExitView(network, [last]), ExitLoss([1.0]), "backbone", share)
        everything = ExitView(network, range(network.n_exits))
        yield Phase(trainer, everything, loss, "distillation", 1.0 - share)

    def update(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        everything = ExitView(network, range(network.n_exits))
        trainer.fit(everything, self._loss(costs), phase="distillation")

    def _loss(self, costs: np.ndarray) -> DistillationLoss:
        weights = exit_weights(self.weights, costs, name=type(self).__name__)
        return DistillationLoss(weights, self.teacher, self.alpha, self.temperature)

    def obstacle_to_update(self) -> str:
        return obstacle_of_weights(self.weights, name=type(self).__name__)

    def obstacle_to_regression(self) -> str:
        return (
            "DistillationTraining(temperature=...) divides logits, and values of targets have none"
            if self.temperature != 1
            else ""
        )

    def obstacle_to_hinge(self) -> str:
        return (
            "DistillationTraining(temperature=...) divides logits, and margins have no temperature"
            if self.temperature != 1
            else ""
        )


class DistillationLoss(ExitLoss):
    """`ExitLoss` plus the divergence of each exit from its teacher.

    Parameters
    ----------
    weights : sequence of float, or callable
        As in `ExitLoss`.
    teacher : {"last", "next", "later"}
        As in `DistillationTraining`.
    alpha, temperature : float
        As in `DistillationTraining`.
    """

    def __init__(
        self,
        weights: Sequence[float] | Schedule,
        teacher: str,
        alpha: float,
        temperature: float,
    ) -> None:
        super().__init__(weights)
        self.teacher, self.alpha, self.temperature = teacher, alpha, temperature

    def forward(self, logits: Sequence[torch.Tensor], target: Target) -> torch.Tensor:
        """Loss of a batch; see `ExitLoss.forward`."""
        own = super().forward(logits, target)
        if not self.training:
            # The teachers change, so the divergences of different epochs are not comparable.
            return own
        weight = all_weights(target, len(logits[0]))
        divergences = self.divergences(
            torch.stack(tuple(logits)), () if weight is None else (weight,)
        )
        return own + self.alpha * divergences.sum()

    def divergences(
        self, stacked: torch.Tensor, sample_weight: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Mean divergence of each exit but the last from its teacher, times squared temperature.

        Parameters
        ----------
        stacked : Tensor of shape (n_exits, n, n_classes)
            Logits of all exits.
        sample_weight : sequence of Tensor
            Tensor of shape (n,) with the sample weights, or empty.

        Returns
        -------
        divergences : Tensor of shape (n_exits - 1,)
            Divergences, multiplied by the squared temperature.
        """
        rows = self.criterion.divergences(stacked, self._of_teachers, self.temperature)
        if sample_weight:
            rows = rows * sample_weight[0]
        return self.temperature**2 * rows.mean(dim=1)

    def _of_teachers(self, values: torch.Tensor) -> torch.Tensor:
        """Values of the teacher of each exit but the last, or of all of them; (n_exits, ...)."""
        if self.teacher == "last":
            return values[-1:]
        if self.teacher == "next":
            return values[1:]
        later = values.flip(0).cumsum(dim=0).flip(0)[1:]
        n_later = torch.arange(len(later), 0, -1, dtype=values.dtype, device=values.device)
        return later / n_later.view(-1, *[1] * (values.ndim - 1))

"""Earlier exits learn from later ones, too."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit.training._base import TrainingStrategy
from skearlyexit.training._joint import SCHEDULED_WEIGHTS, exit_weights, obstacle_of_weights
from skearlyexit.training._loss import ExitLoss, Schedule, Target
from skearlyexit.training._network import ExitView, MultiExitNetwork
from skearlyexit.training._trainer import Trainer
from skearlyexit.training._unlabeled import all_weights

TEACHERS = {"last", "next", "later"}


class DistillationTraining(TrainingStrategy):
    """Joint training in which each exit also imitates exits behind it.

    To the joint loss is added, for each exit but the last, ``alpha * temperature**2`` times the
    Kullback-Leibler divergence of its softened probabilities from those of its teacher, from which
    no gradient flows. To imitate takes no labels: rows without them count in the divergence with a
    weight of 1, and in batch normalization. With one exit, or `alpha` 0, nothing is imitated.

    Parameters
    ----------
    teacher : {"last", "next", "later"}, default="last"
        The last exit, the next one, or all later ones (the mean of the divergences).
    alpha : float, default=0.3
        Weight of what is imitated, for an exit whose own loss weighs 1. A teacher is as new as its
        pupils: more than about 1 for ``alpha * temperature**2`` was seen to hold all of them back.
    temperature : float, default=1.0
        What logits are divided by.
    weights : float, {"depth", "ramp"} or sequence of float, default=1.0
        Weights of the exits' own losses, as in `JointTraining`.
    backbone_share : float, default=0.0
        Share of the epochs given to the backbone alone before, 0 <= share < 1, so that the teacher
        knows something when its pupils begin. With one exit there is no such phase.

    References
    ----------
    Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network", 2015.

    From the last exit: Phuong and Lampert, "Distillation-based training for multi-exit
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
        """Whether it learns from rows without labels with the parameters that it has."""
        return self.alpha > 0

    def train(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        """Train the network in place; see `TrainingStrategy.train`."""
        loss = self._loss(costs)
        last = network.n_exits - 1
        share = self.backbone_share if last else 0.0
        if share:
            trainer.fit(ExitView(network, [last]), ExitLoss([1.0]), share=share, phase="backbone")
        everything = ExitView(network, range(network.n_exits))
        trainer.fit(everything, loss, share=1.0 - share, phase="distillation")

    def update(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        """Train everything on; see `TrainingStrategy.update`."""
        everything = ExitView(network, range(network.n_exits))
        trainer.fit(everything, self._loss(costs), phase="distillation")

    def _loss(self, costs: np.ndarray) -> DistillationLoss:
        weights = exit_weights(self.weights, costs, name=type(self).__name__)
        return DistillationLoss(weights, self.teacher, self.alpha, self.temperature)

    def obstacle_to_update(self) -> str:
        """Nothing but weights that change; see `TrainingStrategy.obstacle_to_update`."""
        return obstacle_of_weights(self.weights, name=type(self).__name__)


class DistillationLoss(ExitLoss):
    """`ExitLoss`, and what separates each exit from its teachers.

    Parameters
    ----------
    weights : as in `ExitLoss`
    teacher, alpha, temperature : as in `DistillationTraining`
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
            # Teachers change, so that divergences of two epochs do not compare.
            return own
        weight = all_weights(target, len(logits[0]))
        divergences = self.divergences(
            torch.stack(tuple(logits)), () if weight is None else (weight,)
        )
        return own + self.alpha * divergences.sum()

    def divergences(
        self, stacked: torch.Tensor, sample_weight: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Temperature squared times the divergence of each exit but the last from its teachers.

        Parameters
        ----------
        stacked : Tensor of shape (n_exits, n, n_classes)
        sample_weight : (weight,) of shape (n,), or ()

        Returns
        -------
        divergences : Tensor of shape (n_exits - 1,)
        """
        logs = F.log_softmax(stacked / self.temperature, dim=2)
        taught, teaching = logs[:-1], logs.detach()
        # Row i: how exit i listens to each exit.
        listens = torch.ones(len(logs) - 1, len(logs), dtype=logs.dtype).triu(1)
        if self.teacher == "last":
            listens[:, :-1] = 0
        elif self.teacher == "next":
            listens = listens.tril(1)
        listens = (listens / listens.sum(dim=1, keepdim=True)).to(logs.device)
        probabilities = teaching.exp()
        # KL(teacher || exit), expanded: the teacher's own term and the cross term.
        own = torch.einsum("ij,jnc->in", listens, probabilities * teaching)
        cross = torch.einsum("ij,jnc,inc->in", listens, probabilities, taught)
        rows = own - cross
        if sample_weight:
            rows = rows * sample_weight[0]
        return self.temperature**2 * rows.mean(dim=1)

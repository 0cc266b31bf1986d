"""Training of the backbone alone, followed by joint training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from skearlyexit.training._alone import train_alone
from skearlyexit.training._base import TrainingStrategy
from skearlyexit.training._joint import (
    JointTraining,
    joint_loss,
    obstacle_of_probabilities,
    obstacle_of_weights,
)
from skearlyexit.training._loss import ExitLoss
from skearlyexit.training._network import ExitView, MultiExitNetwork
from skearlyexit.training._separate import SeparateTraining
from skearlyexit.training._trainer import Trainer


class MixedTraining(TrainingStrategy):
    """Training of the backbone with its last head, followed by joint training of all exits.

    Parameters
    ----------
    weights : float, {"depth", "ramp", "adaptive", "reach"} or sequence of float, default=1.0
        Weights of the losses of the exits in the joint phase, as in `JointTraining`.
    backbone_share : float, default=0.5
        Share of the epochs of the first phase, between 0 and 1 (exclusive).

    References
    ----------
    Kubaty et al., "How to train your multi-exit model? Analyzing the impact of training
    strategies", ICML 2025.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MixedTraining, MLPBackbone
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=16, hidden=16), exits=["stem", "block1"],
    ...     training=MixedTraining(backbone_share=0.25), calibration=None, max_epochs=4,
    ...     random_state=0)
    >>> [(epoch["phase"], epoch["exits"]) for epoch in clf.fit(X, y).history_]
    [('backbone', [2]), ('joint', [0, 1, 2]), ('joint', [0, 1, 2]), ('joint', [0, 1, 2])]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "weights": JointTraining._parameter_constraints["weights"],
        **SeparateTraining._parameter_constraints,
    }

    def __init__(
        self, weights: float | str | Sequence[float] = 1.0, *, backbone_share: float = 0.5
    ) -> None:
        self.weights = weights
        self.backbone_share = backbone_share

    def train(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        if network.n_exits == 1:
            train_alone(network, trainer)
            return
        loss = joint_loss(self.weights, costs, name=type(self).__name__)
        share = self.backbone_share
        last = network.n_exits - 1
        trainer.fit(ExitView(network, [last]), ExitLoss([1.0]), share=share, phase="backbone")
        everything = ExitView(network, range(network.n_exits))
        trainer.fit(everything, loss, share=1.0 - share, phase="joint")

    def update(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        if network.n_exits == 1:
            train_alone(network, trainer)
            return
        JointTraining(self.weights).update(network, costs, trainer)

    def obstacle_to_update(self) -> str:
        return obstacle_of_weights(self.weights, name=type(self).__name__)

    def obstacle_to_regression(self) -> str:
        return obstacle_of_probabilities(self.weights, name=type(self).__name__)

    def obstacle_to_hinge(self) -> str:
        return obstacle_of_probabilities(self.weights, name=type(self).__name__)

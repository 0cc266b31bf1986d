"""Training with auxiliary exits that are removed afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from skearlyexit.training._base import TrainingStrategy
from skearlyexit.training._joint import (
    JointTraining,
    joint_loss,
    obstacle_of_probabilities,
    obstacle_of_weights,
)
from skearlyexit.training._network import ExitView, MultiExitNetwork
from skearlyexit.training._trainer import Trainer


class AuxiliaryTraining(TrainingStrategy):
    """Joint training of a network whose early exits are removed after the training.

    The fitted model is the network with its last exit only. In the training, the losses of the
    early exits provide additional gradients to the first stages.

    Parameters
    ----------
    weights : float, {"depth", "ramp", "adaptive", "reach"} or sequence of float, default=0.3
        Weights of the losses of the exits, as in `JointTraining`.

    References
    ----------
    Szegedy et al., "Going deeper with convolutions", CVPR 2015. Lee et al., "Deeply-supervised
    nets", AISTATS 2015.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import AuxiliaryTraining, EarlyExitClassifier, MLPBackbone
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=16, hidden=16), exits=["stem", "block1"],
    ...     training=AuxiliaryTraining(0.3), calibration=None, max_epochs=2, random_state=0)
    >>> clf.fit(X, y).exit_names_
    ['block3']
    >>> clf.costs_
    array([1.])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "weights": JointTraining._parameter_constraints["weights"]
    }

    def __init__(self, weights: float | str | Sequence[float] = 0.3) -> None:
        self.weights = weights

    def remaining_exits(self, n_exits: int) -> Sequence[int]:
        return [n_exits - 1]

    def train(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        loss = joint_loss(self.weights, costs, name=type(self).__name__)
        trainer.fit(ExitView(network, range(network.n_exits)), loss, phase="joint")

    def obstacle_to_update(self) -> str:
        return obstacle_of_weights(self.weights, name=type(self).__name__)

    def obstacle_to_regression(self) -> str:
        return obstacle_of_probabilities(self.weights, name=type(self).__name__)

    def obstacle_to_hinge(self) -> str:
        return obstacle_of_probabilities(self.weights, name=type(self).__name__)

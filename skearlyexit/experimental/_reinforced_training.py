"""Training of gates by reinforcement, in alternation with the network."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval

from skearlyexit.training import (
    ExitLoss,
    MultiExitNetwork,
    Trainer,
    TrainingStrategy,
)
from skearlyexit.training._alone import train_alone
from skearlyexit.training._gated import GatedView, leaving_chances
from skearlyexit.training._joint import SCHEDULED_WEIGHTS, exit_weights
from skearlyexit.training._loss import Schedule, Target


class ReinforcedTraining(TrainingStrategy):
    """Joint training, alternating with gates that are learned by reinforcement.

    A gate is a linear layer whose output in [0, 1] is the learned probability that a sample that
    reaches the exit exits there. There is one at each exit but the last. Steps alternate: in one,
    stages and heads are trained by the losses of all exits. In the next, the gates are trained:
    several trials are drawn for each sample, which exits at random with these probabilities. The
    reward of a trial is the negative loss at its exit minus `cost_weight` times its cost. The
    expected reward is maximized by REINFORCE, with the mean reward of the other trials of the
    sample as a baseline. The gradient does not reach stages or heads.

    With ``policy="gate"``, the outputs of the gates are the scores of the exits.

    Parameters
    ----------
    cost_weight : float, default=0.1
        Weight of the cost in the reward. A cost of 1 is that of the plain network.
    n_trials : int, default=4
        Number of trials of each sample in a step, at least 2.
    weights : float, {"depth", "ramp"} or sequence of float, default=1.0
        Weights of the losses of the exits, as in `JointTraining`.

    See Also
    --------
    GatedTraining : Minimizes an expectation that is computed instead of sampled.
    ReinforcedPolicy : Policy learned by reinforcement on held-out samples, after the training.

    Notes
    -----
    The network is trained in half of the steps only.

    References
    ----------
    Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement
    learning", Machine Learning 1992.

    Guan, Liu, Liu, Peng, "Energy-efficient amortized inference with cascaded deep classifiers",
    IJCAI 2018.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.experimental import ReinforcedTraining
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=16, hidden=16), exits=["stem", "block1"], policy="gate",
    ...     training=ReinforcedTraining(0.2), calibration=None, max_epochs=2, random_state=0)
    >>> table = clf.fit(X, y).exit_table(X)
    >>> table.gates.shape
    (200, 3)
    >>> bool((table.scores[:, :2] == table.gates[:, :2]).all())  # the gates are the scores
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "cost_weight": [Interval(Real, 0, None, closed="left")],
        "n_trials": [Interval(Integral, 2, None, closed="left")],
        "weights": SCHEDULED_WEIGHTS,
    }
    learns_gates: ClassVar[bool] = True

    def __init__(
        self,
        cost_weight: float = 0.1,
        *,
        n_trials: int = 4,
        weights: float | str | Sequence[float] = 1.0,
    ) -> None:
        self.cost_weight = cost_weight
        self.n_trials = n_trials
        self.weights = weights

    def obstacle_to_regression(self) -> str:
        return "ReinforcedTraining rewards correct classes"

    def train(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        if network.n_exits == 1:
            train_alone(network, trainer)
            return
        weights = exit_weights(self.weights, costs, name=type(self).__name__)
        loss = ReinforcedLoss(weights, costs, self.cost_weight, self.n_trials)
        trainer.fit(GatedView(network, detached=True), loss, phase="reinforced")


class ReinforcedLoss(ExitLoss):
    """Losses of all exits, alternating with the loss of the gates by trials.

    In validation, the losses of all exits are used.

    Parameters
    ----------
    weights : as in `ExitLoss`
    costs : ndarray of shape (n_exits,)
        Cumulative cost of each exit.
    cost_weight, n_trials : as in `ReinforcedTraining`
    """

    def __init__(
        self,
        weights: Sequence[float] | Schedule,
        costs: np.ndarray,
        cost_weight: float,
        n_trials: int,
    ) -> None:
        super().__init__(weights)
        self.costs = [float(cost) for cost in costs]
        self.cost_weight, self.n_trials = cost_weight, n_trials
        self.n_steps = 0

    def forward(self, logits: Sequence[torch.Tensor], target: Target) -> torch.Tensor:
        """Loss of a batch, from the logits of all exits followed by those of the gates."""
        *outputs, gates = logits
        joint = super().forward(outputs, target)
        if not self.training:
            return joint
        self.n_steps += 1
        return joint if self.n_steps % 2 else self.of_trials(outputs, gates, target)

    def of_trials(
        self, outputs: Sequence[torch.Tensor], gates: torch.Tensor, target: Target
    ) -> torch.Tensor:
        """Negative mean, over samples and trials, of advantage times log-probability."""
        y, *sample_weight = target
        chances = leaving_chances(gates)
        losses = torch.stack(
            [self.criterion.losses(each.detach(), y, training=False) for each in outputs], dim=1
        )
        rewards = -losses - self.cost_weight * gates.new_tensor(self.costs)
        exits = torch.multinomial(chances.detach().exp(), self.n_trials, replacement=True)
        gained = rewards.gather(1, exits)
        # The baseline is the mean of the other trials of the sample.
        advantage = (gained - gained.mean(dim=1, keepdim=True)) * self.n_trials
        advantage = advantage / (self.n_trials - 1)
        rows = -(advantage * chances.gather(1, exits)).mean(dim=1)
        return (rows * sample_weight[0]).mean() if sample_weight else rows.mean()

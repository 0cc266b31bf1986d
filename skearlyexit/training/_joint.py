"""All exits at once."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit.training._base import TrainingStrategy
from skearlyexit.training._loss import AdaptiveExitLoss, ExitLoss, Schedule
from skearlyexit.training._network import EquilibriumView, ExitView, MultiExitNetwork
from skearlyexit.training._trainer import Trainer

Weights = float | str | Sequence[float]

#: What the weights of exits may be that do not depend on the losses.
SCHEDULED_WEIGHTS = [
    Interval(Real, 0, None, closed="left"),
    StrOptions({"depth", "ramp"}),
    "array-like",
]


class JointTraining(TrainingStrategy):
    """Minimizes the loss of the last exit plus weighted losses of the others.

    Parameters
    ----------
    weights : float, {"depth", "ramp", "adaptive"} or sequence of float, default=1.0
        Weight of the exits before the last, whose own weight is 1. A number for all of them;
        ``"depth"``, weights that grow with the exit's number and add up to 1 with the last
        exit's; ``"ramp"``, weights that grow during training from 0.01 to each exit's share of
        the cost; ``"adaptive"``, weights of all exits that go with one over the running mean of
        their loss; or one number for each exit but the last.
    equilibrium : bool, default=False
        Whether gradients are scaled where the network branches, so that what the stages get does
        not grow with the number of exits behind them: of exits 1 to K, exit i hands on 1 / (K - i
        + 1) of its gradient, and the rest of the network (K - i) / (K - i + 1).

    References
    ----------
    Lee et al., "Deeply-supervised nets", AISTATS 2015. ``"depth"``: Zhou et al., "BERT loses
    patience", NeurIPS 2020. ``"ramp"``: Kaya, Hong, Dumitras, "Shallow-deep networks", ICML 2019.
    ``"adaptive"``: Hu et al., "Learning anytime predictions in neural networks via adaptive loss
    balancing", AAAI 2019. `equilibrium`: Li et al., "Improved techniques for training adaptive
    deep networks", ICCV 2019.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, JointTraining, MLPBackbone
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=16, hidden=16), exits=["stem", "block1"],
    ...     training=JointTraining([0.2, 0.5]), calibration=None, max_epochs=2, random_state=0)
    >>> [(epoch["phase"], epoch["exits"]) for epoch in clf.fit(X, y).history_]
    [('joint', [0, 1, 2]), ('joint', [0, 1, 2])]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "weights": [*SCHEDULED_WEIGHTS, StrOptions({"adaptive"})],
        "equilibrium": ["boolean"],
    }

    def __init__(
        self, weights: float | str | Sequence[float] = 1.0, *, equilibrium: bool = False
    ) -> None:
        self.weights = weights
        self.equilibrium = equilibrium

    def train(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        """Train the network in place; see `TrainingStrategy.train`."""
        exits = range(network.n_exits)
        view = (EquilibriumView if self.equilibrium else ExitView)(network, exits)
        loss = joint_loss(self.weights, costs, name=type(self).__name__)
        trainer.fit(view, loss, phase="joint")

    def obstacle_to_update(self) -> str:
        """Nothing but weights that change; see `TrainingStrategy.obstacle_to_update`."""
        return obstacle_of_weights(self.weights, name=type(self).__name__)


def joint_loss(weights: Weights, costs: np.ndarray, *, name: str = "JointTraining") -> ExitLoss:
    """Loss of all exits for what the user passed as weights to a strategy of that name."""
    if isinstance(weights, str) and weights == "adaptive":
        return AdaptiveExitLoss(len(costs))
    return ExitLoss(exit_weights(weights, costs, name=name))


def obstacle_of_weights(weights: Weights, *, name: str) -> str:
    """Why weights do not suit some rows at a time; empty if they do."""
    if isinstance(weights, str) and weights in ("ramp", "adaptive"):
        return f"{name}(weights={weights!r}) goes by how far a training is"
    return ""


def exit_weights(
    weights: Weights, costs: np.ndarray, *, name: str = "JointTraining"
) -> Sequence[float] | Schedule:
    """Weights of all exits, the last included, for what the user passed to a strategy.

    Raises
    ------
    ValueError
        If the number of weights is wrong or one is negative.
    """
    n_exits = len(costs)
    if isinstance(weights, str):
        if weights == "depth":
            depth = np.arange(1, n_exits + 1)
            return list(depth / depth.sum())
        return lambda progress: [
            *np.minimum(costs[:-1], 0.01 + costs[:-1] * progress),
            1.0,
        ]
    early = np.asarray(weights, dtype=np.float64)
    early = np.full(n_exits - 1, early) if early.ndim == 0 else early
    if early.shape != (n_exits - 1,) or not (early >= 0).all():
        raise ValueError(
            f"The weights of {name} must be {n_exits - 1} non-negative numbers, one for "
            f"each exit but the last. Got {weights!r} instead."
        )
    return [*early, 1.0]

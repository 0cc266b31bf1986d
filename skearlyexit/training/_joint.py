"""Joint training of all exits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit.training._loss import AdaptiveExitLoss, ExitLoss, ReachExitLoss, Schedule
from skearlyexit.training._network import EquilibriumView, ExitView, MultiExitNetwork
from skearlyexit.training._phases import Phase, PhasedTraining
from skearlyexit.training._trainer import Trainer

Weights = float | str | Sequence[float]

#: Constraints on weights of the exits that do not depend on the losses.
SCHEDULED_WEIGHTS = [
    Interval(Real, 0, None, closed="left"),
    StrOptions({"depth", "ramp"}),
    "array-like",
]


class JointTraining(PhasedTraining):
    """Training that minimizes a weighted sum of the losses of all exits.

    Parameters
    ----------
    weights : float, {"depth", "ramp", "adaptive", "reach"} or sequence of float, default=1.0
        Weights of the losses (cross-entropies) of the exits. In all cases but ``"depth"`` and
        ``"adaptive"``, the weight of the last exit is 1.

        - float: weight of all exits but the last.
        - sequence: weight of each exit but the last.
        - ``"depth"``: proportional to the number of the exit, counted from 1, with the sum 1.
        - ``"ramp"``: increases linearly during the training, from 0.01 to the cost of the backbone
          up to the exit, as a share of the cost of the entire backbone.
        - ``"adaptive"``: inversely proportional to the running mean of the loss of the exit, with
          the number of exits as the sum.
        - ``"reach"``: 1, but at each exit samples are weighted by their chance to reach it, at
          least 0.1: the product of the predicted probabilities that the exits before it are wrong.
    equilibrium : bool, default=False
        Whether the gradients are scaled at each exit, so that the gradient of a stage does not
        increase with the number of later exits. At exit i of K, counted from 1, the gradient from
        the head is multiplied by ``1 / (K - i + 1)``, and that from the next stage by
        ``(K - i) / (K - i + 1)``.

    References
    ----------
    Lee et al., "Deeply-supervised nets", AISTATS 2015. ``"depth"``: Zhou et al., "BERT loses
    patience", NeurIPS 2020. ``"ramp"``: Kaya, Hong, Dumitras, "Shallow-deep networks", ICML 2019.
    ``"adaptive"``: Hu et al., "Learning anytime predictions in neural networks via adaptive loss
    balancing", AAAI 2019. ``"reach"`` is a variant of Yuan, Yang, Zhang, "Hard-aware deeply
    cascaded embedding", ICCV 2017. `equilibrium`: Li et al., "Improved techniques for training
    adaptive deep networks", ICCV 2019.

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
        "weights": [*SCHEDULED_WEIGHTS, StrOptions({"adaptive", "reach"})],
        "equilibrium": ["boolean"],
    }

    def __init__(
        self, weights: float | str | Sequence[float] = 1.0, *, equilibrium: bool = False
    ) -> None:
        self.weights = weights
        self.equilibrium = equilibrium

    def phases(
        self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer
    ) -> Iterator[Phase]:
        exits = range(network.n_exits)
        view = (EquilibriumView if self.equilibrium else ExitView)(network, exits)
        loss = joint_loss(self.weights, costs, name=type(self).__name__)
        yield Phase(trainer, view, loss, "joint")

    def obstacle_to_update(self) -> str:
        return obstacle_of_weights(self.weights, name=type(self).__name__)

    def obstacle_to_regression(self) -> str:
        return obstacle_of_probabilities(self.weights, name=type(self).__name__)

    def obstacle_to_hinge(self) -> str:
        return obstacle_of_probabilities(self.weights, name=type(self).__name__)


def joint_loss(weights: Weights, costs: np.ndarray, *, name: str = "JointTraining") -> ExitLoss:
    """Loss of all exits for the parameter `weights` of a strategy with this name."""
    if isinstance(weights, str) and weights == "adaptive":
        return AdaptiveExitLoss(len(costs))
    if isinstance(weights, str) and weights == "reach":
        return ReachExitLoss(len(costs))
    return ExitLoss(exit_weights(weights, costs, name=name))


def obstacle_of_weights(weights: Weights, *, name: str) -> str:
    """Reason why `partial_fit` does not support the weights; empty if it does."""
    if isinstance(weights, str) and weights in ("ramp", "adaptive"):
        return f"{name}(weights={weights!r}) depends on the progress of the training"
    return ""


def obstacle_of_probabilities(weights: Weights, *, name: str) -> str:
    """Reason why the weights need predicted probabilities; empty if they do not."""
    if isinstance(weights, str) and weights == "reach":
        return f"{name}(weights='reach') weights samples by predicted probabilities"
    return ""


def exit_weights(
    weights: Weights, costs: np.ndarray, *, name: str = "JointTraining"
) -> Sequence[float] | Schedule:
    """Weights of all exits for the parameter `weights` of a strategy.

    Parameters
    ----------
    weights : float, {"depth", "ramp"} or sequence of float
        As in `JointTraining`.
    costs : ndarray of shape (n_exits,)
        Cost of the backbone up to each exit, as a share of the cost of the entire backbone.
    name : str, default="JointTraining"
        Name of the strategy for errors.

    Returns
    -------
    weights : sequence of float, or callable
        Weight of each exit, or a function of the progress of the training that returns them.

    Raises
    ------
    ValueError
        If the number of weights is wrong or a weight is negative.
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

"""Joint training in which the stages are frozen one after another."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit.training._alone import train_alone
from skearlyexit.training._base import TrainingStrategy
from skearlyexit.training._joint import SCHEDULED_WEIGHTS, exit_weights
from skearlyexit.training._loss import ExitLoss
from skearlyexit.training._network import ExitView, MultiExitNetwork
from skearlyexit.training._trainer import Trainer

SPACINGS = {"linear": 1, "squared": 2, "cubic": 3}


class FreezeOutTraining(TrainingStrategy):
    """Joint training in which the stages are frozen one after another.

    The learning rate of stage i and its head follows half a period of a cosine, from its maximum at
    the start to 0 at the share t_i of the training. Afterwards, the stage is frozen, and no
    gradients are computed for it, which saves time. Weights that are shared by several stages have
    the learning rate of the last of these stages. The `lr_schedule` of the estimator is ignored,
    unless there is one exit.

    Parameters
    ----------
    start : float, default=0.5
        Offset of the shares t_i, at least 0 and below 1. With K stages, t_i is
        ``start + (1 - start) * (i + 1) / K``, raised to the power given by `spacing`. The last
        stage, i = K - 1, is trained until the end.
    spacing : {"linear", "squared", "cubic"}, default="linear"
        Power to which the shares are raised: 1, 2 or 3. With a higher power, stages are frozen
        earlier, which saves more time and reduces the accuracy.
    scaled : bool, default=True
        Whether the learning rate of stage i is divided by t_i. Its sum over all steps is then equal
        for all stages.
    weights : float, {"depth", "ramp"} or sequence of float, default=1.0
        Weights of the losses of the exits, as in `JointTraining`.

    References
    ----------
    Brock, Lim, Ritchie, Weston, "FreezeOut: accelerate training by progressively freezing layers",
    2017.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, FreezeOutTraining, MLPBackbone
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=16, hidden=16), exits=["stem", "block1"],
    ...     training=FreezeOutTraining(0.1), calibration=None, max_epochs=5, random_state=0)
    >>> losses = [epoch["train_exit_losses"] for epoch in clf.fit(X, y).history_]
    >>> np.isnan(losses).sum(axis=1)  # number of frozen stages in each epoch
    array([0, 0, 1, 1, 2])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "start": [Interval(Real, 0, 1, closed="left")],
        "spacing": [StrOptions(set(SPACINGS))],
        "scaled": ["boolean"],
        "weights": SCHEDULED_WEIGHTS,
    }

    def __init__(
        self,
        start: float = 0.5,
        *,
        spacing: str = "linear",
        scaled: bool = True,
        weights: float | str | Sequence[float] = 1.0,
    ) -> None:
        self.start = start
        self.spacing = spacing
        self.scaled = scaled
        self.weights = weights

    def train(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        if network.n_exits == 1:
            train_alone(network, trainer)
            return
        n_exits = network.n_exits
        share = self.start + (1 - self.start) * np.arange(1, n_exits + 1) / n_exits
        stops = [float(stop) for stop in share ** SPACINGS[self.spacing]]
        view = FreezingView(network, stops, scaled=self.scaled)
        trainer.fit(
            view,
            LastExitsLoss(exit_weights(self.weights, costs, name=type(self).__name__)),
            phase="freeze-out",
        )


class FreezingView(ExitView):
    """View of a network whose stages are frozen one after another.

    Parameters
    ----------
    network : MultiExitNetwork
        Network to train.
    stops : sequence of float
        Share of the training after which each stage is frozen, in ascending order.
    scaled : bool
        Whether the learning rate of each stage is divided by this share.

    Attributes
    ----------
    n_frozen : int
        Number of frozen stages.

    Notes
    -----
    **Shape**: inputs (n, ...) to a list of logits (n, n_classes). In training, they are those of
    the exits after stages that are not frozen; in evaluation, those of all exits.
    """

    def __init__(self, network: MultiExitNetwork, stops: Sequence[float], *, scaled: bool) -> None:
        super().__init__(network, range(network.n_exits))
        self.stops = list(stops)
        self.scaled = scaled
        self.n_frozen = 0
        modules = [module for stage in self.stages for module in stage.modules()]
        self.shares_modules = len(set(modules)) < len(modules)

    def advance(self, progress: float) -> None:
        """Freeze the stages whose share of the training has passed."""
        self.n_frozen = sum(progress >= stop for stop in self.stops[:-1])

    def groups(self) -> list[list[torch.nn.Parameter]]:
        """Parameters of each stage with its head; shared ones belong to the last stage of them."""
        last = {
            each: i
            for i, stage in enumerate(self.stages)
            for part in (stage, self.heads[str(i)])
            for each in part.parameters()
            if each.requires_grad
        }
        return [[each for each in last if last[each] == i] for i in range(len(self.stages))]

    def rate(self, group: int, progress: float) -> float:
        """Half a period of a cosine, until the stage is frozen."""
        stop = self.stops[group]
        if progress >= stop:
            return 0.0
        rate = 0.5 * (1 + np.cos(np.pi * progress / stop))
        return float(rate / stop if self.scaled else rate)

    def train(self, mode: bool = True) -> FreezingView:
        """Set training or evaluation mode; frozen stages remain in evaluation mode."""
        super().train(mode)
        for i in range(self.n_frozen):
            self.stages[i].eval()
            self.heads[str(i)].eval()
        if mode and self.n_frozen:
            self._train_remaining()
        return self

    def _train_remaining(self) -> None:
        """Set training mode for modules that frozen stages share with stages that are trained."""
        if self.shares_modules:
            for stage in self.stages[self.n_frozen :]:
                stage.train()

    def forward(self, rows: torch.Tensor) -> list[torch.Tensor]:
        if not self.training:
            return super().forward(rows)
        n_frozen = self.n_frozen
        carry: Any = rows
        logits = []
        for i, stage in enumerate(self.stages):
            if i < n_frozen:
                stage.eval()
                with torch.no_grad():
                    carry, _ = stage(carry)
                self._train_remaining()
            else:
                carry, embedding = stage(carry)
                logits.append(self.heads[str(i)](embedding))
        return logits


class LastExitsLoss(ExitLoss):
    """`ExitLoss` of the last exits, as many as there are logits."""

    def _weights_now(self, losses: torch.Tensor) -> torch.Tensor:
        return losses.new_tensor(list(self._scheduled())[-len(losses) :])

"""Callbacks of skorch that are used in every phase."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import skorch
from skorch.callbacks import Callback, EarlyStopping

from skearlyexit.training._progress import FitProgress
from skearlyexit.training._state import State, put_state, state_of

#: What the history of the estimator has in common with that of skorch.
COMMON_KEYS = ("epoch", "train_loss", "valid_loss", "dur")
#: Share of the loss by which it has to decrease for early stopping.
THRESHOLD = 1e-4


class Progress(Callback):
    """Callback that sets progress and learning rate, and records the history of the estimator.

    A callback of the user may replace the history of skorch by that of a checkpoint.
    """

    def __init__(self, n_steps: int, factor: Callable[[float], float], shown: FitProgress) -> None:
        self.n_steps = n_steps
        self.factor = factor
        self.shown = shown

    def on_train_begin(self, net: skorch.NeuralNet, **kwargs: Any) -> None:
        self.step_ = 0
        self.records_: list[dict[str, Any]] = []
        self.factors_ = [1.0] * len(net.optimizer_.param_groups)

    def on_batch_begin(
        self, net: skorch.NeuralNet, *, training: bool = False, **kwargs: Any
    ) -> None:
        if not training:
            return
        progress = self.step_ / self.n_steps
        net.criterion_.progress = progress
        net.module_.advance(progress)
        # Relative to the last step, so that schedulers among the user's callbacks have an effect.
        for i, group in enumerate(net.optimizer_.param_groups):
            own = net.module_.rate(i, progress)
            factor = self.factor(progress) if own is None else own
            # A learning rate of 0 remains 0.
            group["lr"] *= factor / self.factors_[i] if self.factors_[i] else 0.0
            self.factors_[i] = factor
        self.step_ += 1

    def on_epoch_end(self, net: skorch.NeuralNet, **kwargs: Any) -> None:
        exits = list(net.module_.exits)
        tallies = net.criterion_.tallies
        epoch = net.history[-1]
        record: dict[str, Any] = {key: epoch[key] for key in COMMON_KEYS if key in epoch}
        record["exits"] = exits
        for training, part in ((True, "train"), (False, "valid")):
            record |= tallies[training].take(part, len(exits))
        self.records_.append(record)
        self.shown.epoch()


class Stopping(EarlyStopping):
    """Early stopping that restores the full state of the network, not only its `state_dict`.

    A loss may be negative.
    """

    def on_train_begin(self, net: skorch.NeuralNet, **kwargs: Any) -> None:
        super().on_train_begin(net, **kwargs)
        self.best_: State | None = None

    def on_epoch_end(self, net: skorch.NeuralNet, **kwargs: Any) -> None:
        super().on_epoch_end(net, **kwargs)
        if self.best_epoch_ == net.history[-1, "epoch"]:
            self.best_ = state_of(net.module_)

    def _calc_new_threshold(self, score: float) -> float:
        # That of skorch is above a negative score, so that a larger one would be lower.
        return _below(score)

    def on_train_end(self, net: skorch.NeuralNet, **kwargs: Any) -> None:
        if self.best_ is not None and self.best_epoch_ != net.history[-1, "epoch"]:
            put_state(net.module_, self.best_)


def _below(loss: float) -> float:
    """Value below which a loss is an improvement."""
    return loss - THRESHOLD * abs(loss)


def n_without_improvement(losses: Sequence[float]) -> int:
    """Number of epochs since the last improvement, as `Stopping` counts them."""
    n_epochs, threshold = 0, math.inf
    for loss in losses:
        if loss < threshold:
            n_epochs, threshold = 0, _below(loss)
        else:
            n_epochs += 1
    return n_epochs

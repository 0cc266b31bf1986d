"""Options of a training phase, and of its execution."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch


def cosine(progress: float) -> float:
    """Half a cosine period, multiplied by a linear increase in the first 5 % of the steps."""
    return min(1.0, 0.05 + 20 * progress) * 0.5 * (1 + math.cos(math.pi * progress))


def constant(progress: float) -> float:
    """Constant learning rate."""
    return 1.0


SCHEDULES: dict[str, Callable[[float], float]] = {"constant": constant, "cosine": cosine}

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


@dataclass(frozen=True)
class TrainingOptions:
    """Options of a training run.

    Attributes
    ----------
    max_epochs, batch_size, lr, optimizer, lr_schedule : int, int, float, str or callable, str
        As in `EarlyExitClassifier`.
    patience : int or None, default=None
        Number of epochs without a lower validation loss after which a phase ends and the weights
        with the lowest validation loss are restored. None trains for all epochs.
    callbacks : sequence of skorch callbacks, default=()
        Callbacks, which are copied for each phase.
    """

    max_epochs: int
    batch_size: int
    lr: float
    optimizer: str | Callable[..., torch.optim.Optimizer]
    lr_schedule: str
    patience: int | None = None
    callbacks: Sequence[Any] = ()

    def make_optimizer(
        self, groups: list[list[torch.nn.Parameter]], _: Any, lr: float
    ) -> torch.optim.Optimizer:
        """Make an optimizer of groups of parameters.

        The parameters of the module, which skorch passes, are ignored: some may be frozen.
        """
        parameters: Any = groups[0]
        if len(groups) > 1:
            parameters = [{"params": group} for group in groups]
        if not isinstance(self.optimizer, str):
            return self.optimizer(parameters, lr=lr)
        return OPTIMIZERS[self.optimizer](parameters, lr=lr, fused=True)


@dataclass(frozen=True)
class Execution:
    """Options of the execution of a training run.

    Attributes
    ----------
    device : str, default="cpu"
        Device on which the training runs.
    mixed_precision : bool, default=False
        Whether the forward passes run under bfloat16 autocast.
    compiled : bool or dict, default=False
        Whether the forward passes are compiled; a dict holds keyword arguments of
        ``torch.compile``.
    verbose : int, default=0
        If not 0, the phases and epochs are printed.
    """

    device: str = "cpu"
    mixed_precision: bool = False
    compiled: bool | dict[str, Any] = False
    verbose: int = 0

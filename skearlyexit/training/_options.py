"""How a phase of training goes, and how it is run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch


def cosine(progress: float) -> float:
    """Rise over the first twentieth of the run, then fall to 0 along a half cosine."""
    return min(1.0, 0.05 + 20 * progress) * 0.5 * (1 + math.cos(math.pi * progress))


def constant(progress: float) -> float:
    """Keep the learning rate."""
    return 1.0


SCHEDULES: dict[str, Callable[[float], float]] = {"constant": constant, "cosine": cosine}

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


@dataclass(frozen=True)
class TrainingOptions:
    """What is asked for of the training.

    Attributes
    ----------
    max_epochs, batch_size, lr, optimizer, lr_schedule : as in `EarlyExitClassifier`
    patience : int or None, default=None
        Epochs without a lower validation loss after which a phase ends and returns to its best
        weights; None trains all epochs.
    callbacks : sequence of skorch callbacks, default=()
        Copied for each phase.
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
        """New optimizer of groups of parameters.

        Those of the module, which skorch passes, are ignored: some of them may be frozen.
        """
        parameters: Any = groups[0]
        if len(groups) > 1:
            parameters = [{"params": group} for group in groups]
        if not isinstance(self.optimizer, str):
            return self.optimizer(parameters, lr=lr)
        return OPTIMIZERS[self.optimizer](parameters, lr=lr, fused=True)


@dataclass(frozen=True)
class Execution:
    """How the training is run.

    Attributes
    ----------
    device : str, default="cpu"
    mixed_precision : bool, default=False
        Whether the forward pass is done in bfloat16 where it can be.
    compiled : bool or dict, default=False
        Whether it is compiled; a dict holds keyword arguments of ``torch.compile``.
    verbose : int, default=0
    """

    device: str = "cpu"
    mixed_precision: bool = False
    compiled: bool | dict[str, Any] = False
    verbose: int = 0

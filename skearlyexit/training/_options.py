"""Options of a training phase, and of its execution."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from skearlyexit.training._criterion import Criterion, CrossEntropy
from skearlyexit.training._muon import Muon, hidden_matrices
from skearlyexit.training._network import View
from skearlyexit.training._progress import FitProgress


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
    "muon": Muon,
    "sgd": torch.optim.SGD,
}


#: Number of steps over which weights are averaged if an epoch has fewer.
LEAST_HORIZON = 20
#: Number of steps without a lower validation loss after which `n_iter_no_change="auto"` stops, if
#: `LEAST_EPOCHS` epochs have fewer.
LEAST_STEPS = 30
LEAST_EPOCHS = 3


@dataclass(frozen=True)
class Patience:
    """Number of epochs without a lower validation loss after which a phase ends.

    Attributes
    ----------
    n_epochs : int or None
        Number of epochs. None is as many as have `LEAST_STEPS` steps, at least `LEAST_EPOCHS`.
    """

    n_epochs: int | None

    def epochs(self, n_steps: int) -> int:
        """Number of epochs of so many steps."""
        if self.n_epochs is not None:
            return self.n_epochs
        return max(LEAST_EPOCHS, math.ceil(LEAST_STEPS / n_steps))


@dataclass(frozen=True)
class TrainingOptions:
    """Options of a training run.

    Attributes
    ----------
    max_epochs, batch_size, lr, optimizer, lr_schedule : int, int, float, str or callable, str
        As in `EarlyExitClassifier`.
    weight_decay, gradient_clipping, weight_averaging : float, float, bool
        As in `EarlyExitClassifier`.
    criterion : Criterion, default=CrossEntropy()
        Loss of the outputs of an exit.
    patience : Patience or None, default=None
        When a phase ends early and the weights with the lowest validation loss are restored. None
        trains for all epochs.
    callbacks : sequence of skorch callbacks, default=()
        Callbacks, which are copied for each phase.
    rate : float, default=1.0
        Factor of the learning rate.
    """

    max_epochs: int
    batch_size: int
    lr: float
    optimizer: str | Callable[..., torch.optim.Optimizer]
    lr_schedule: str
    weight_decay: float | None = None
    criterion: Criterion = field(default_factory=CrossEntropy)
    gradient_clipping: float | None = None
    weight_averaging: bool = False
    patience: Patience | None = None
    callbacks: Sequence[Any] = ()
    rate: float = 1.0

    def make_optimizer(self, module: View, _: Any, lr: float) -> torch.optim.Optimizer:
        """Make an optimizer of the groups of parameters of a view.

        The parameters of the module, which skorch passes, are ignored: some may be frozen.
        """
        groups = module.groups()
        parameters: Any = groups[0]
        if len(groups) > 1:
            parameters = [{"params": group} for group in groups]
        if not isinstance(self.optimizer, str):
            return self.optimizer(parameters, lr=lr)
        options: dict[str, Any] = {"fused": True}
        if self.weight_decay is not None:
            options["weight_decay"] = self.weight_decay
        if self.optimizer == "muon":
            options["matrices"] = hidden_matrices(module.trained_part())
        return OPTIMIZERS[self.optimizer](parameters, lr=lr, **options)


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
    progress : FitProgress, default=FitProgress()
        What shows the progress. It is silent by default.
    """

    device: str = "cpu"
    mixed_precision: bool = False
    compiled: bool | dict[str, Any] = False
    progress: FitProgress = field(default_factory=FitProgress)

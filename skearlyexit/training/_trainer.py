"""The one loop that all strategies train with, on skorch."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import skorch
import torch
from skorch.callbacks import Callback, EarlyStopping

from skearlyexit._random import isolated_random_state
from skearlyexit.training._loss import ExitLoss
from skearlyexit.training._memory import TrainingMemory, outcome_of, restore
from skearlyexit.training._network import View


@dataclass(frozen=True)
class TrainingRows(torch.utils.data.Dataset):
    """Rows to learn from, or to validate on.

    Attributes
    ----------
    X : Tensor of shape (n_samples, ...)
    y : Tensor of shape (n_samples,)
        Indices of classes.
    weight : Tensor of shape (n_samples,) or None
    """

    X: torch.Tensor
    y: torch.Tensor
    weight: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.X)


class _Batches:
    """Batches cut out of whole tensors, which is what makes small networks fast.

    A last batch of a single row joins the one before it: batch normalisation cannot train on it.
    """

    def __init__(self, dataset: TrainingRows, batch_size: int, shuffle: bool = False) -> None:
        self.dataset, self.shuffle = dataset, shuffle
        n_rows = len(dataset)
        starts = list(range(0, n_rows, batch_size))[: _n_batches(n_rows, batch_size)]
        self.bounds = list(zip(starts, [*starts[1:], n_rows], strict=True))

    def __len__(self) -> int:
        return len(self.bounds)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, tuple[torch.Tensor, ...]]]:
        rows = self.dataset
        columns = [rows.X, rows.y] + ([] if rows.weight is None else [rows.weight])
        order = torch.randperm(len(rows)) if self.shuffle else None
        for start, stop in self.bounds:
            if order is None:
                X, *target = (column[start:stop] for column in columns)
            else:
                X, *target = (column.index_select(0, order[start:stop]) for column in columns)
            yield X, tuple(target)


def _n_batches(n_rows: int, batch_size: int) -> int:
    n_full, n_over = divmod(n_rows, batch_size)
    return max(1, n_full + (n_over > 1) + (n_over == 1 and n_full == 0))


class _Progress(Callback):
    """Before each step: tells the loss how far the run is, and sets the learning rate."""

    def __init__(self, n_steps: int, factor: Callable[[float], float]) -> None:
        self.n_steps = n_steps
        self.factor = factor

    def on_train_begin(self, net: skorch.NeuralNet, **kwargs: Any) -> None:
        self.step_ = 0
        self.factor_ = 1.0

    def on_batch_begin(
        self, net: skorch.NeuralNet, *, training: bool = False, **kwargs: Any
    ) -> None:
        if not training:
            return
        progress = self.step_ / self.n_steps
        net.criterion_.progress = progress
        # Relative to the last step, so that schedulers among the user's callbacks have their say.
        factor = self.factor(progress)
        for group in net.optimizer_.param_groups:
            group["lr"] *= factor / self.factor_
        self.factor_ = factor
        self.step_ += 1


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


@dataclass
class Trainer:
    """Minimises losses on a set of rows.

    Attributes
    ----------
    rows : TrainingRows
    validation : TrainingRows or None
        Rows for early stopping.
    max_epochs, batch_size, lr, optimizer, lr_schedule : as in the estimators
    patience : int or None
        Epochs without a lower validation loss after which a phase ends and returns to its best
        weights; None trains all epochs.
    callbacks : sequence of skorch callbacks
        Copied for each phase.
    device : str
    verbose : int
    seeds : iterator of int
        One for each phase.
    n_rows : int or None
        Fewer rows than these are trained on for more epochs, so that as many steps are made; None
        takes the epochs as they are.
    memory : TrainingMemory or None
        Where phases are kept.
    share : float
        Epochs that there are to spend, as a share of `max_epochs`.
    history : list of dict
        One entry for each epoch, of all phases.
    """

    rows: TrainingRows
    validation: TrainingRows | None
    max_epochs: int
    batch_size: int
    lr: float
    optimizer: str | Callable[..., torch.optim.Optimizer]
    lr_schedule: str
    patience: int | None = None
    callbacks: Sequence[Any] = ()
    device: str = "cpu"
    verbose: int = 0
    seeds: Iterator[int] = field(default_factory=count)
    n_rows: int | None = None
    memory: TrainingMemory | None = None
    share: float = 1.0
    history: list[dict[str, Any]] = field(default_factory=list)

    def remaining(self, share: float) -> Trainer:
        """Trainer for a share of the epochs, that writes the same history."""
        return replace(self, share=self.share * share)

    def fit(
        self, module: View, loss: ExitLoss, *, share: float = 1.0, phase: str = "training"
    ) -> None:
        """Train what of the module may be trained, in place.

        Parameters
        ----------
        module : View
        loss : ExitLoss
        share : float, default=1.0
            Share of this trainer's epochs, at least one epoch.
        phase : str, default="training"
            Name in the history.
        """
        parameters = module.trainable()
        if not parameters:
            return
        n_epochs = max(1, round(self.max_epochs * self.share * share * self._stretch()))
        # A phase draws from generators of its own, so that it depends on none before it.
        seed = next(self.seeds) % 2**32

        def train() -> list[dict[str, Any]]:
            if self.verbose:
                print(f"[skearlyexit] {phase}: {n_epochs} epochs on {len(self.rows)} rows")
            with isolated_random_state(seed, self.device):
                history = self._run(module, loss, parameters, n_epochs, phase)
            module.eval()
            return history

        if self.memory is None:
            history = train()
        else:
            facts = [module, loss, self._facts(), n_epochs, seed]
            history = self._recall(self.memory, module, facts, train, phase)
        self.history.extend({"phase": phase, **epoch} for epoch in history)

    def _stretch(self) -> float:
        """By what the epochs are more, so that as many steps are made as on `n_rows` rows."""
        if self.n_rows is None:
            return 1.0
        return _n_batches(self.n_rows, self.batch_size) / _n_batches(
            len(self.rows), self.batch_size
        )

    def _recall(
        self,
        memory: TrainingMemory,
        module: View,
        facts: Any,
        train: Callable[[], list[dict[str, Any]]],
        phase: str,
    ) -> list[dict[str, Any]]:
        """History of a phase that was trained now, or before."""
        part = module.trained_part()
        outcome, recalled = memory.recall(facts, lambda: outcome_of(part, train()))
        if not recalled:
            return outcome[-1]
        module.eval()
        if not restore(part, outcome):
            warnings.warn(
                "The 'memory' parameter has no effect on this network: training changes more of it "
                "than its parameters and buffers. Register what it learns as buffers.",
                UserWarning,
                stacklevel=2,
            )
            return train()
        if self.verbose:
            print(f"[skearlyexit] {phase}: from memory")
        return outcome[-1]

    def _facts(self) -> list[Any]:
        """What the outcome of a phase depends on, besides the phase."""
        loop = [self.batch_size, self.lr, self.optimizer, self.lr_schedule, self.patience]
        return [self.rows, self.validation, *loop, list(self.callbacks), self.device]

    def _run(
        self,
        module: View,
        loss: ExitLoss,
        parameters: list[torch.nn.Parameter],
        n_epochs: int,
        phase: str,
    ) -> list[dict[str, Any]]:
        """Train for some epochs, and return their losses."""
        net = self._net(module, loss, parameters, n_epochs)
        try:
            net.partial_fit(self.rows, None)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ValueError(
                "A batch of one row cannot be normalised. Give batch_size at least 2, and every "
                "training at least two rows, or a network without batch normalisation and heads "
                "such as LinearHead(normalize=False)."
            ) from error
        if not all(torch.isfinite(parameter).all() for parameter in parameters):
            raise ValueError(
                f"The training diverged in its phase {phase!r}: weights are no longer finite. "
                "Lower lr, scale the rows, or look for NaN in what the backbone returns."
            )
        if net.history and "dur" not in net.history[-1]:
            # skorch takes an interrupt for the wish to end training here.
            raise KeyboardInterrupt
        keys = ("epoch", "train_loss", "valid_loss", "dur")
        return [{key: epoch[key] for key in keys if key in epoch} for epoch in net.history]

    def _net(
        self,
        module: View,
        loss: ExitLoss,
        parameters: list[torch.nn.Parameter],
        n_epochs: int,
    ) -> skorch.NeuralNet:
        n_steps = n_epochs * len(_Batches(self.rows, self.batch_size))
        callbacks = [("skearlyexit_progress", _Progress(n_steps, SCHEDULES[self.lr_schedule]))]
        if self.patience is not None:
            stopping = EarlyStopping(patience=self.patience, load_best=True, sink=_silent)
            callbacks.append(("skearlyexit_early_stopping", stopping))
        return skorch.NeuralNet(
            module,
            criterion=loss,
            optimizer=partial(self._make_optimizer, parameters),
            lr=self.lr,
            max_epochs=n_epochs,
            batch_size=self.batch_size,
            iterator_train=_Batches,
            iterator_train__shuffle=True,
            iterator_valid=_Batches,
            dataset=None,
            train_split=None if self.validation is None else self._split,
            callbacks=[*callbacks, *copy.deepcopy(list(self.callbacks))],
            device=self.device,
            verbose=self.verbose,
        ).initialize()

    def _split(self, rows: TrainingRows, y: Any = None, **kwargs: Any) -> tuple[Any, Any]:
        return rows, self.validation

    def _make_optimizer(
        self, parameters: list[torch.nn.Parameter], _: Any, lr: float
    ) -> torch.optim.Optimizer:
        # Of the module's own parameters, which skorch passes, some may be frozen.
        if not isinstance(self.optimizer, str):
            return self.optimizer(parameters, lr=lr)
        return OPTIMIZERS[self.optimizer](parameters, lr=lr, fused=True)


def _silent(*args: Any) -> None:
    """Where the notices of early stopping go: the history tells as much."""


def to_rows(X: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> TrainingRows:
    """Rows of arrays as tensors, with weights scaled to a mean of 1."""
    if weight is not None:
        weight = weight / weight.max()  # whose sum may otherwise overflow
        weight = (weight / weight.mean()).astype(X.dtype)
    return TrainingRows(
        torch.tensor(X),
        torch.tensor(y, dtype=torch.int64),
        None if weight is None else torch.tensor(weight),
    )

"""One stage after the other."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval

from skearlyexit.training._base import TrainingStrategy
from skearlyexit.training._cached import CACHE_BYTES, passes_of
from skearlyexit.training._loss import ExitLoss
from skearlyexit.training._network import MultiExitNetwork, View
from skearlyexit.training._rows import Inputs, TrainingRows, take, to_device
from skearlyexit.training._trainer import Trainer


class LayerwiseTraining(TrainingStrategy):
    """Trains each stage with its head on what the stages before it hand on, which stay as they are.

    Each stage has all of the epochs, on the rows as the stage before it has left them, computed
    once: as many operations as joint training for as many epochs, and a pass over the rows more.
    No gradient crosses a stage, so that memory holds the activations of one stage only, and those
    of the rows between two stages.

    Parameters
    ----------
    max_cache_bytes : int, default=2**31
        Memory for what a stage hands on. Where it would take more, the stages before are run anew
        in every epoch.

    References
    ----------
    Hettinger et al., "Forward thinking: building and training neural networks one layer at a
    time", 2017. Marquez, Hare, Niranjan, "Deep cascade learning", IEEE TNNLS 2018. Belilovsky,
    Eickenberg, Oyallon, "Greedy layerwise learning can scale to ImageNet", ICML 2019.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "max_cache_bytes": [Interval(Integral, 0, None, closed="left")]
    }

    def __init__(self, max_cache_bytes: int = CACHE_BYTES) -> None:
        self.max_cache_bytes = max_cache_bytes

    def train(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        """Train the network in place; see `TrainingStrategy.train`."""
        before: list[torch.nn.Module] = []  # stages that are run anew
        for i in range(network.n_exits):
            stage, head = network.stages[i], network.heads[i]
            view = StageView(before, stage, head, i)
            trainer.fit(view, ExitLoss([1.0]), phase=f"stage {i}")
            if i == network.n_exits - 1:
                return
            before = [*before, stage]
            if self._fits(before, trainer):
                trainer = _handed_on(before, trainer)
                before = []

    def _fits(self, before: list[torch.nn.Module], trainer: Trainer) -> bool:
        """Whether what the stages hand on has room in memory."""
        few = to_device(take(trainer.rows.X, slice(2)), trainer.device)
        carry = _run(before, few)
        parts = carry if isinstance(carry, tuple) else (carry,)
        n_rows = len(trainer.rows) + (0 if trainer.validation is None else len(trainer.validation))
        row_bytes = sum(part[0].numel() * part.element_size() for part in parts)
        return row_bytes * n_rows <= self.max_cache_bytes


class StageView(View):
    """One stage and its head; the stages before it stay as they are.

    Parameters
    ----------
    before : list of torch.nn.Module
        Stages that the rows go through first.
    stage, head : torch.nn.Module
    exit_ : int
        Number of the exit.

    Notes
    -----
    **Shape**: what the first of these stages reads to a list of logits (n, n_classes).
    """

    def __init__(
        self,
        before: list[torch.nn.Module],
        stage: torch.nn.Module,
        head: torch.nn.Module,
        exit_: int,
    ) -> None:
        super().__init__()
        self.exits = [exit_]
        self.before = torch.nn.ModuleList(before)
        self.learning = torch.nn.ModuleList([stage, head])

    def train(self, mode: bool = True) -> StageView:
        """Switch between training and evaluation; what was trained before stays in evaluation."""
        super().train(mode)
        self.before.eval()
        return self

    def trained_part(self) -> torch.nn.Module:
        """What training may change."""
        return self.learning

    def forward(self, carry: Any) -> list[torch.Tensor]:
        stage, head = self.learning
        if isinstance(carry, list):  # which skorch makes of a tuple
            carry = tuple(carry)
        _, embedding = stage(_run(self.before, carry))
        return [head(embedding)]


@torch.no_grad()
def _run(stages: Any, carry: Inputs) -> Inputs:
    for stage in stages:
        carry, _ = stage(carry)
    return carry


def _handed_on(stages: list[torch.nn.Module], trainer: Trainer) -> Trainer:
    """Trainer whose rows are what the stages hand on."""
    for stage in stages:
        stage.to(trainer.device).eval()

    def through(rows: TrainingRows) -> TrainingRows:
        passes: Any = [to_device(_run(stages, some), "cpu") for some in passes_of(rows, trainer)]
        if isinstance(passes[0], tuple):
            columns = zip(*passes, strict=True)
            return replace(rows, X=tuple(torch.cat(column) for column in columns))
        return replace(rows, X=torch.cat(passes))

    validation = None if trainer.validation is None else through(trainer.validation)
    return replace(trainer, rows=through(trainer.rows), validation=validation)

"""One stage after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit._data._streamed import StreamedRows
from skearlyexit._determinism._random import isolated_random_state
from skearlyexit.backbones._stage import arranged
from skearlyexit.training._base import TrainingStrategy
from skearlyexit.training._cached import CACHE_BYTES, passes_of, view_of_heads
from skearlyexit.training._local_losses import (
    LOCAL_LOSSES,
    Decoder,
    StandardizedParts,
    floating,
)
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
    local : {"reconstruction", "similarity"} or None, default=None
        What a stage minimizes besides the cross-entropy of its head, for which no labels are
        needed, so that rows without them are learned from. ``"reconstruction"``: the mean squared
        error of what a decoder of one layer, which is not kept, makes of the embedding, against
        what came into the stage, each channel of it with mean 0 and variance 1.
        ``"similarity"``: the mean squared difference between the cosines of the embeddings of a
        batch, taken as in `LocalErrorTraining`, and those of what came into the stage, each channel
        standardized likewise. Of a stage that reads several tensors, those count that hold
        floating-point numbers.
    local_share : float, default=0.5
        Share of a stage's loss that `local` has. With 1 the stages learn without labels, and then
        the heads from labels, for as many epochs, on embeddings that are computed once if they fit
        in memory.

    Notes
    -----
    Rows without labels weigh 1. A stage normalizes batches with them.

    References
    ----------
    Hettinger et al., "Forward thinking: building and training neural networks one layer at a
    time", 2017. Marquez, Hare, Niranjan, "Deep cascade learning", IEEE TNNLS 2018. Belilovsky,
    Eickenberg, Oyallon, "Greedy layerwise learning can scale to ImageNet", ICML 2019.
    ``"reconstruction"``: Bengio et al., "Greedy layer-wise training of deep networks", NeurIPS
    2006. ``"similarity"``: Pehlevan, Hu, Chklovskii, "A Hebbian/anti-Hebbian neural network for
    linear subspace learning: a derivation from multidimensional scaling of streaming data", Neural
    Computation 2015.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, LayerwiseTraining, MLPBackbone
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=16, hidden=16), exits=["stem", "block1"],
    ...     training=LayerwiseTraining(local="reconstruction"), calibration=None, max_epochs=2,
    ...     random_state=0)
    >>> X_unlabeled, _ = make_classification(500, random_state=1)
    >>> clf = clf.fit(X, y, X_unlabeled=X_unlabeled)  # the stages learn from these rows, too
    >>> [epoch["phase"] for epoch in clf.history_]
    ['stage 0', 'stage 0', 'stage 1', 'stage 1', 'stage 2', 'stage 2']
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "max_cache_bytes": [Interval(Integral, 0, None, closed="left")],
        "local": [StrOptions(set(LOCAL_LOSSES)), None],
        "local_share": [Interval(Real, 0, 1, closed="right")],
    }
    uses_unlabeled = True

    def __init__(
        self,
        max_cache_bytes: int = CACHE_BYTES,
        *,
        local: str | None = None,
        local_share: float = 0.5,
    ) -> None:
        self.max_cache_bytes = max_cache_bytes
        self.local = local
        self.local_share = local_share

    def takes_unlabeled(self) -> bool:
        """Whether it learns from rows without labels with the parameters that it has."""
        return self.local is not None

    def train(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        """Train the network in place; see `TrainingStrategy.train`."""
        for i, before, on_stage in stage_by_stage(network, trainer, self.max_cache_bytes):
            stage, head = network.stages[i], network.heads[i]
            if self.local is None:
                view = StageView(before, stage, head, exit_=i)
                on_stage.fit(view, ExitLoss([1.0]), phase=f"stage {i}")
            else:
                self._fit_locally(before, stage, head, i, on_stage)
        if self.local is not None and self.local_share == 1:
            heads: Any = network.heads
            # Of a stand-in only what pools the embeddings stays.
            untrained = [
                i
                for i, head in enumerate(heads)
                if i not in network.stand_ins or len(head.pooling.state_dict())
            ]
            if untrained:
                labeled = replace(trainer, rows=replace(trainer.rows, unlabeled=None))
                heads_view, on_heads = view_of_heads(network, untrained, labeled)
                on_heads.fit(heads_view, ExitLoss([1.0] * len(untrained)), phase="heads")

    def _fit_locally(
        self,
        before: list[torch.nn.Module],
        stage: torch.nn.Module,
        head: torch.nn.Module,
        exit_: int,
        trainer: Trainer,
    ) -> None:
        """Fit a stage to a loss that needs no labels, and with its head to one that does."""
        assert self.local is not None
        rows = trainer.rows
        tables = [rows.X, *([] if rows.unlabeled is None else [rows.unlabeled])]
        passes = chain.from_iterable(passes_of(table, trainer.device) for table in tables)
        standardized = StandardizedParts(arranged(stage, _run(before, some)) for some in passes)
        decoder = None
        if self.local == "reconstruction":
            came = _run(before, to_device(take(rows.X, slice(2)), trainer.device))
            embedding = _embedding(stage, came, trainer.device)
            with isolated_random_state(next(trainer.seeds) % 2**32):
                decoder = Decoder(embedding, floating(arranged(stage, came)))
        labeled = head if self.local_share < 1 else None
        view = LocalStageView(before, stage, labeled, standardized, decoder, exit_=exit_)
        trainer.fit(view, LOCAL_LOSSES[self.local](self.local_share), phase=f"stage {exit_}")


class StageView(View):
    """One stage and its head; the stages before it stay as they are.

    Parameters
    ----------
    before : list of torch.nn.Module
        Stages that the rows go through first.
    stage : torch.nn.Module
    others : torch.nn.Module
        What learns with it: the head, and more in subclasses.
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
        *others: torch.nn.Module,
        exit_: int,
    ) -> None:
        super().__init__()
        self.exits = [exit_]
        self.before = torch.nn.ModuleList(before)
        self.learning = torch.nn.ModuleList([stage, *others])

    def train(self, mode: bool = True) -> StageView:
        """Switch between training and evaluation; what was trained before stays in evaluation."""
        super().train(mode)
        self.before.eval()
        return self

    def trained_part(self) -> torch.nn.Module:
        """What training may change."""
        return self.learning

    def forward(self, carry: Any) -> list[torch.Tensor]:
        _, embedding = self._through(carry)
        return [self.learning[1](embedding)]

    def _through(self, carry: Any) -> tuple[Any, torch.Tensor]:
        """What comes into the stage, and the embedding that it makes of it."""
        if isinstance(carry, list):  # which skorch makes of a tuple
            carry = tuple(carry)
        carry = _run(self.before, carry)
        _, embedding = self.learning[0](carry)
        return carry, embedding


class LocalStageView(StageView):
    """One stage, its head, and what a local loss compares.

    Parameters
    ----------
    before, stage : as in `StageView`
    head : torch.nn.Module or None
        None learns without labels.
    standardized : StandardizedParts
        Of what comes into the stage.
    decoder : Decoder or None
        None hands out the embedding itself.
    exit_ : int

    Notes
    -----
    **Shape**: what the first of these stages reads to a list of the logits (n, n_classes), unless
    there is no head; what is made of the embedding; and what came into the stage, (n, n_values).
    """

    def __init__(
        self,
        before: list[torch.nn.Module],
        stage: torch.nn.Module,
        head: torch.nn.Module | None,
        standardized: StandardizedParts,
        decoder: Decoder | None,
        *,
        exit_: int,
    ) -> None:
        others = [part for part in (head, decoder) if part is not None]
        super().__init__(before, stage, *others, exit_=exit_)
        if head is None:
            self.exits = []  # none answers
        self.standardized = standardized
        self.has_head, self.has_decoder = head is not None, decoder is not None

    def forward(self, carry: Any) -> list[torch.Tensor]:
        carry, embedding = self._through(carry)
        logits = [self.learning[1](embedding)] if self.has_head else []
        made = self.learning[-1](embedding) if self.has_decoder else embedding
        came = self.standardized(arranged(self.learning[0], carry))
        return [*logits, made, came.to(made.dtype)]


def stage_by_stage(
    network: MultiExitNetwork, trainer: Trainer, max_cache_bytes: int
) -> Iterator[tuple[int, list[torch.nn.Module], Trainer]]:
    """For each stage what it takes to train it, once those before it are trained.

    Yields
    ------
    i : int
        Number of the stage.
    before : list of torch.nn.Module
        Stages before it that the trainer's rows have to go through.
    trainer : Trainer

    Raises
    ------
    ValueError
        If stages share weights, which would change in those that are to stay as they are.
    """
    _check_apart(network)
    before: list[torch.nn.Module] = []  # stages that are run anew
    for i, stage in enumerate(network.stages):
        yield i, before, trainer
        if i == network.n_exits - 1:
            return
        before = [*before, stage]
        if _fits(before, trainer, max_cache_bytes):
            trainer = _handed_on(before, trainer)
            before = []


def _check_apart(network: MultiExitNetwork) -> None:
    owners: dict[torch.nn.Parameter, int] = {}
    for i, stage in enumerate(network.stages):
        for parameter in stage.parameters():
            first = owners.setdefault(parameter, i)
            if first != i and parameter.requires_grad:
                raise ValueError(
                    f"Stages {first} and {i} share weights, so that one cannot be trained after "
                    "the other. Give a training that trains all stages at once, or exits behind "
                    "parts of the network that have weights of their own."
                )


@torch.no_grad()
def _run(stages: Any, carry: Inputs) -> Inputs:
    for stage in stages:
        carry, _ = stage(carry)
    return carry


@torch.no_grad()
def _embedding(stage: torch.nn.Module, carry: Inputs, device: str) -> torch.Tensor:
    """What a stage makes of a few rows, before it is trained."""
    _, embedding = stage.to(device).eval()(carry)
    return embedding


def _fits(before: list[torch.nn.Module], trainer: Trainer, max_cache_bytes: int) -> bool:
    """Whether what the stages hand on has room in memory."""
    rows, validation = trainer.rows, trainer.validation
    few = to_device(take(rows.X, slice(2)), trainer.device)
    carry = _run(before, few)
    parts = carry if isinstance(carry, tuple) else (carry,)
    n_rows = len(rows) + rows.n_unlabeled + (0 if validation is None else len(validation))
    row_bytes = sum(part[0].numel() * part.element_size() for part in parts)
    return row_bytes * n_rows <= max_cache_bytes


def _handed_on(stages: list[torch.nn.Module], trainer: Trainer) -> Trainer:
    """Trainer whose rows are what the stages hand on."""
    for stage in stages:
        stage.to(trainer.device).eval()

    def through(inputs: Inputs | StreamedRows) -> Inputs:
        passes: Any = [
            to_device(_run(stages, some), "cpu") for some in passes_of(inputs, trainer.device)
        ]
        if isinstance(passes[0], tuple):
            return tuple(torch.cat(column) for column in zip(*passes, strict=True))
        return torch.cat(passes)

    def of(rows: TrainingRows) -> TrainingRows:
        unlabeled = None if rows.unlabeled is None else through(rows.unlabeled)
        return replace(rows, X=through(rows.X), unlabeled=unlabeled)

    validation = None if trainer.validation is None else of(trainer.validation)
    return replace(trainer, rows=of(trainer.rows), validation=validation)

"""Training of one stage after another."""

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
from skearlyexit.training._cached import CACHE_BYTES, passes_of, view_of_heads
from skearlyexit.training._local_losses import (
    LOCAL_LOSSES,
    Decoder,
    StandardizedParts,
    floating,
)
from skearlyexit.training._loss import ExitLoss
from skearlyexit.training._network import MultiExitNetwork, View
from skearlyexit.training._phases import Phase, StagewiseTraining
from skearlyexit.training._rows import Inputs, TrainingRows, take, to_device
from skearlyexit.training._trainer import Trainer


class LayerwiseTraining(StagewiseTraining):
    """Training of one stage after another, with the previous stages frozen.

    Each stage is trained together with its head, for all epochs, on the outputs of the previous
    stages, which are computed once. The number of operations is about that of joint training for as
    many epochs. Less memory is required for activations, since gradients are computed for a single
    stage, but the outputs of the previous stage for all samples are stored.

    Parameters
    ----------
    max_cache_bytes : int, default=2**31
        Maximum size of the stored outputs of a stage. Larger outputs are computed again in each
        epoch.
    local : {"reconstruction", "similarity"} or None, default=None
        Local loss of a stage, in addition to the cross-entropy of its head. It compares the
        embeddings with the inputs of the stage, whose channels are standardized. Since it requires
        no labels, samples without labels (`X_unlabeled` in `fit`) can be used too.

        - ``"reconstruction"``: mean squared error of the inputs that a decoder with a single layer
          computes from the embeddings. The decoder is removed after the training.
        - ``"similarity"``: mean squared difference between the cosine similarities of the
          embeddings, computed as in `LocalErrorTraining`, and those of the inputs, over all pairs
          of samples in a batch.
        - None: no local loss.

        If a stage has several input tensors, only those of floating-point numbers are used.
    local_share : float, default=0.5
        Weight of the local loss, above 0 and at most 1. The cross-entropy has the weight
        ``1 - local_share``. With 1, the stages are trained without labels. The heads are trained
        after them, for as many epochs, on embeddings that are computed once if they take at most
        2 GiB. Only used if `local` is not None.

    Notes
    -----
    Samples without labels have the weight 1 and are included in batch normalization.

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
    >>> clf = clf.fit(X, y, X_unlabeled=X_unlabeled)  # the stages are trained with all samples
    >>> [epoch["phase"] for epoch in clf.history_]
    ['stage 0', 'stage 0', 'stage 1', 'stage 1', 'stage 2', 'stage 2']
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "max_cache_bytes": [Interval(Integral, 0, None, closed="left")],
        "local": [StrOptions(set(LOCAL_LOSSES)), None],
        "local_share": [Interval(Real, 0, 1, closed="right")],
    }
    uses_unlabeled = True
    stages_in_turn = True

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
        return self.local is not None

    def phases(
        self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer
    ) -> Iterator[Phase]:
        for i, before, on_stage in stage_by_stage(network, trainer, self.max_cache_bytes):
            stage, head = network.stages[i], network.heads[i]
            if self.local is None:
                view = StageView(before, stage, head, exit_=i)
                yield Phase(on_stage, view, ExitLoss([1.0]), f"stage {i}")
            else:
                yield self._local_phase(before, stage, head, i, on_stage)
        if self.local is not None and self.local_share == 1:
            heads: Any = network.heads
            # Of a head that is replaced by an estimator, only the pooling is used.
            untrained = [
                i
                for i, head in enumerate(heads)
                if i not in network.stand_ins or len(head.pooling.state_dict())
            ]
            if untrained:
                labeled = replace(trainer, rows=replace(trainer.rows, unlabeled=None))
                heads_view, on_heads = view_of_heads(network, untrained, labeled)
                yield Phase(on_heads, heads_view, ExitLoss([1.0] * len(untrained)), "heads")

    def _local_phase(
        self,
        before: list[torch.nn.Module],
        stage: torch.nn.Module,
        head: torch.nn.Module,
        exit_: int,
        trainer: Trainer,
    ) -> Phase:
        """Training of a stage with a local loss, and the loss of its head if it has a weight."""
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
        return Phase(trainer, view, LOCAL_LOSSES[self.local](self.local_share), f"stage {exit_}")


class StageView(View):
    """View of one stage and its head, after frozen stages.

    Parameters
    ----------
    before : list of torch.nn.Module
        Frozen stages that are computed first.
    stage : torch.nn.Module
        Stage to train.
    *others : torch.nn.Module
        Modules that are trained with the stage: its head, and further ones in subclasses.
    exit_ : int
        Index of the exit.

    Notes
    -----
    **Shape**: inputs of the first of these stages to a list of logits (n, n_classes).
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
        """Set training or evaluation mode; frozen stages remain in evaluation mode."""
        super().train(mode)
        self.before.eval()
        return self

    def trained_part(self) -> torch.nn.Module:
        return self.learning

    def forward(self, carry: Any) -> list[torch.Tensor]:
        _, embedding = self._through(carry)
        return [self.learning[1](embedding)]

    def _through(self, carry: Any) -> tuple[Any, torch.Tensor]:
        """Inputs of the stage, and its embeddings."""
        if isinstance(carry, list):  # skorch converts tuples to lists
            carry = tuple(carry)
        carry = _run(self.before, carry)
        _, embedding = self.learning[0](carry)
        return carry, embedding


class LocalStageView(StageView):
    """View of one stage and its head, after frozen stages, for a local loss.

    Parameters
    ----------
    before : list of torch.nn.Module
        As in `StageView`.
    stage : torch.nn.Module
        As in `StageView`.
    head : torch.nn.Module or None
        Head of the stage. None if the stage is trained without labels.
    standardized : StandardizedParts
        Standardization of the inputs of the stage.
    decoder : Decoder or None
        Decoder of the embeddings. None if the loss uses the embeddings themselves.
    exit_ : int
        Index of the exit.

    Notes
    -----
    **Shape**: inputs of the first of these stages to a list of the logits (n, n_classes), if there
    is a head; the decoded or the original embeddings; and the standardized inputs of the stage
    (n, n_values).
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
            self.exits = []  # no exit is computed
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
    """Iterate over the stages, each with a trainer on the outputs of the previous stages.

    Each stage must be trained before the next item is requested.

    Parameters
    ----------
    network : MultiExitNetwork
        Network to train.
    trainer : Trainer
        Trainer with the training samples.
    max_cache_bytes : int
        Maximum size of the stored outputs of a stage.

    Yields
    ------
    i : int
        Index of the stage.
    before : list of torch.nn.Module
        Frozen stages between the inputs of the trainer and this stage.
    trainer : Trainer
        Trainer whose inputs are the outputs of an earlier stage, or the samples.

    Raises
    ------
    ValueError
        If stages share weights, so that the training of one stage would change a frozen stage.
    """
    check_apart(network)
    before: list[torch.nn.Module] = []  # stages whose outputs are not stored
    for i, stage in enumerate(network.stages):
        yield i, before, trainer
        if i == network.n_exits - 1:
            return
        before = [*before, stage]
        if _fits(before, trainer, max_cache_bytes):
            trainer = handed_on(before, trainer)
            before = []


def check_apart(network: MultiExitNetwork) -> None:
    """Raise a ValueError if stages share weights that are trained."""
    owners: dict[torch.nn.Parameter, int] = {}
    for i, stage in enumerate(network.stages):
        for parameter in stage.parameters():
            first = owners.setdefault(parameter, i)
            if first != i and parameter.requires_grad:
                raise ValueError(
                    f"Stages {first} and {i} share weights and cannot be trained one after the "
                    "other. Give a strategy that trains all stages together, or place the exits so "
                    "that no stages share weights."
                )


@torch.no_grad()
def _run(stages: Any, carry: Inputs) -> Inputs:
    for stage in stages:
        carry, _ = stage(carry)
    return carry


@torch.no_grad()
def _embedding(stage: torch.nn.Module, carry: Inputs, device: str) -> torch.Tensor:
    """Embeddings of a few samples by a stage before its training."""
    _, embedding = stage.to(device).eval()(carry)
    return embedding


def _fits(before: list[torch.nn.Module], trainer: Trainer, max_cache_bytes: int) -> bool:
    """Whether the outputs of the stages take at most `max_cache_bytes`."""
    rows, validation = trainer.rows, trainer.validation
    few = to_device(take(rows.X, slice(2)), trainer.device)
    carry = _run(before, few)
    parts = carry if isinstance(carry, tuple) else (carry,)
    n_rows = len(rows) + rows.n_unlabeled + (0 if validation is None else len(validation))
    row_bytes = sum(part[0].numel() * part.element_size() for part in parts)
    return row_bytes * n_rows <= max_cache_bytes


def handed_on(stages: list[torch.nn.Module], trainer: Trainer) -> Trainer:
    """Trainer whose inputs are the outputs of the stages."""
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

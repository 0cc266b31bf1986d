"""Stages and heads as one module, and the part of it that a phase of training looks at."""

from __future__ import annotations

import copy
from abc import ABCMeta, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch

from skearlyexit.backbones import Block
from skearlyexit.backbones._stage import Stage
from skearlyexit.combination import Combination
from skearlyexit.training._state import put_state, state_of


class MultiExitNetwork(torch.nn.Module):
    """A network cut into stages, with a head after each.

    Parameters
    ----------
    stages : sequence of Block
    heads : sequence of PooledModule
        From embeddings to logits.
    stand_ins : collection of int, default=()
        Exits whose head will be replaced after training, so that it matters only through the
        gradient it gives to the stages.
    given : bool, default=False
        Whether the weights of the stages came from the user.
    given_head : bool, default=False
        Whether the last head did too.
    gates : sequence of PooledModule, default=()
        From embeddings to the logit of a gate, for each exit but the last; or none.
    n_classes : int or None, default=None
        For strategies that build something to answer.

    Attributes
    ----------
    combiner : Combiner or None
        What a strategy has learned to make of the heads; set by it.

    Examples
    --------
    >>> import torch
    >>> from skearlyexit.backbones import Chain
    >>> from skearlyexit.heads import LinearHead
    >>> from skearlyexit.training import MultiExitNetwork
    >>> layers = [torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 16)]
    >>> stages = Chain(layers, names=["first", "relu", "second"]).cut([1, 2])
    >>> heads = [LinearHead().build(torch.zeros(2, 16), n_classes=3) for _ in stages]
    >>> MultiExitNetwork(stages, heads, n_classes=3).n_exits
    2
    """

    def __init__(
        self,
        stages: Sequence[Block],
        heads: Sequence[torch.nn.Module],
        *,
        stand_ins: Collection[int] = (),
        given: bool = False,
        given_head: bool = False,
        gates: Sequence[torch.nn.Module] = (),
        n_classes: int | None = None,
    ) -> None:
        super().__init__()
        self.stages = torch.nn.ModuleList(stages)
        self.heads = torch.nn.ModuleList(heads)
        self.gates = torch.nn.ModuleList(gates)
        self.combiner: Combiner | None = None
        self.n_classes = n_classes
        self.stand_ins = frozenset(stand_ins)
        self.given = given
        self.given_head = given_head

    @property
    def n_exits(self) -> int:
        """Number of exits, the last included."""
        return len(self.stages)

    def adopt(self, combiner: Combiner) -> None:
        """Take a combiner, unless there is one like it that has learned already."""
        own = self.combiner
        if type(own) is not type(combiner) or own.settings != combiner.settings:
            self.combiner = combiner

    def is_like(self, other: MultiExitNetwork) -> bool:
        """Whether stages, heads and gates have the same weights, whatever is in them."""
        shapes, others = (
            [
                (name, weight.shape, weight.dtype)
                for part in each._parts()
                for name, weight in part.named_parameters()
            ]
            for each in (self, other)
        )
        return shapes == others

    def go_on_from(self, other: MultiExitNetwork) -> None:
        """Take all that a network like this one has learned."""
        for own, parts in zip(self._parts(), other._parts(), strict=True):
            put_state(own, state_of(parts))
        self.combiner = copy.deepcopy(other.combiner)

    def _parts(self) -> list[torch.nn.ModuleList]:
        return [self.stages, self.heads, self.gates]

    def with_exits(self, kept: Sequence[int]) -> MultiExitNetwork:
        """The same network with some of its exits only, ascending, the last among them."""
        if len(kept) == self.n_exits:
            return self
        starts = [0, *(exit_ + 1 for exit_ in kept)]
        network = MultiExitNetwork(
            [Stage(list(self.stages[start:stop])) for start, stop in pairwise(starts)],
            [self.heads[exit_] for exit_ in kept],
            stand_ins=[i for i, exit_ in enumerate(kept) if exit_ in self.stand_ins],
            given=self.given,
            given_head=self.given_head,
            gates=[self.gates[exit_] for exit_ in kept[:-1]] if len(self.gates) else (),
            n_classes=self.n_classes,
        )
        network.combiner = self.combiner
        return network


class Combiner(torch.nn.Module, metaclass=ABCMeta):
    """Makes one answer of what the exits so far say, with weights that are trained."""

    @property
    def settings(self) -> tuple[Any, ...]:
        """What, besides its class, tells it from another."""
        return ()

    @abstractmethod
    def fitted(self) -> Combination:
        """The same as a rule for probabilities."""


class View(torch.nn.Module):
    """What a phase of training looks at: from rows to a list of logits, one for each exit.

    Attributes
    ----------
    exits : list of int
        Exits that answer, ascending.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.training import ExitLoss, TrainingStrategy, View
    >>> class Alone(View):  # one stage and its head, on what the stages before it return
    ...     def __init__(self, network, exit_):
    ...         super().__init__()
    ...         self.before = network.stages[:exit_].requires_grad_(False)
    ...         self.stage, self.head = network.stages[exit_], network.heads[exit_]
    ...         self.exits = [exit_]
    ...     def forward(self, rows):
    ...         for stage in self.before:
    ...             rows, _ = stage(rows)
    ...         return [self.head(self.stage(rows)[1])]
    >>> class StageByStage(TrainingStrategy):
    ...     def train(self, network, costs, trainer):
    ...         for exit_ in range(network.n_exits):
    ...             trainer.fit(Alone(network, exit_), ExitLoss([1.0]), phase=f"stage {exit_}")
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"], training=StageByStage(),
    ...     calibration=None, max_epochs=2, random_state=0)
    >>> [(epoch["phase"], epoch["exits"]) for epoch in clf.fit(X, y).history_]
    [('stage 0', [0]), ('stage 0', [0]), ('stage 1', [1]), ('stage 1', [1])]
    """

    exits: list[int]

    def trained_part(self) -> torch.nn.Module:
        """What training may change."""
        return self

    def trainable(self) -> list[torch.nn.Parameter]:
        """Parameters that training may change."""
        return [each for each in self.trained_part().parameters() if each.requires_grad]

    def groups(self) -> list[list[torch.nn.Parameter]]:
        """The same in groups with learning rates of their own."""
        return [self.trainable()]

    def rate(self, group: int, progress: float) -> float | None:
        """Factor of a group's learning rate; None follows the trainer's schedule."""
        return None

    def advance(self, progress: float) -> None:
        """Take note, before a step, of the share of the phase that has passed."""


class ExitView(View):
    """The network as seen from some of its exits.

    Parameters
    ----------
    network : MultiExitNetwork
    exits : sequence of int
        Exits that answer, ascending.
    freeze_stages : bool, default=False
        Whether the stages stay as they are, in evaluation mode and out of the backward pass.

    Notes
    -----
    **Shape**: rows (n, ...) to a list of logits (n, n_classes), one for each exit asked.

    Examples
    --------
    >>> import torch
    >>> from skearlyexit.backbones import Chain
    >>> from skearlyexit.heads import LinearHead
    >>> from skearlyexit.training import ExitView, MultiExitNetwork
    >>> layers = [torch.nn.Linear(8, 16), torch.nn.Linear(16, 16), torch.nn.Linear(16, 16)]
    >>> stages = Chain(layers, names=["first", "second", "third"]).cut([0, 1, 2])
    >>> heads = [LinearHead().build(torch.zeros(2, 16), n_classes=3) for _ in stages]
    >>> view = ExitView(MultiExitNetwork(stages, heads), [0, 2])
    >>> [tuple(logits.shape) for logits in view(torch.zeros(5, 8))]
    [(5, 3), (5, 3)]
    """

    def __init__(
        self, network: MultiExitNetwork, exits: Sequence[int], *, freeze_stages: bool = False
    ) -> None:
        super().__init__()
        self.exits = list(exits)
        self.freeze_stages = freeze_stages
        self._mode: bool | None = None
        self.stages = network.stages[: self.exits[-1] + 1]
        self.heads = torch.nn.ModuleDict({str(i): network.heads[i] for i in self.exits})

    def train(self, mode: bool = True) -> ExitView:
        """Switch between training and evaluation; frozen stages stay in evaluation."""
        if mode is not self._mode:  # asked before every batch, and slow to carry out
            super().train(mode)
            if self.freeze_stages:
                self.stages.eval()
            self._mode = mode
        return self

    def trained_part(self) -> torch.nn.Module:
        """What training may change."""
        return self.heads if self.freeze_stages else self

    def forward(self, rows: torch.Tensor) -> list[torch.Tensor]:
        carry: Any = rows
        embeddings = []
        for i, stage in enumerate(self.stages):
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_stages):
                carry, embedding = stage(carry)
            if i in self.exits:
                embedding, carry = self._branch(i, embedding, carry)
                embeddings.append(embedding)
        return self._answers(embeddings)

    def _answers(self, embeddings: list[torch.Tensor]) -> list[torch.Tensor]:
        """Logits of the exits."""
        exits = zip(self.exits, embeddings, strict=True)
        return [self.heads[str(i)](embedding) for i, embedding in exits]

    def _branch(self, exit_: int, embedding: torch.Tensor, carry: Any) -> tuple[torch.Tensor, Any]:
        """What the head gets, and what goes on."""
        return embedding, carry


class EquilibriumView(ExitView):
    """The network whose gradients are scaled where an exit branches off; see `JointTraining`."""

    def _branch(self, exit_: int, embedding: torch.Tensor, carry: Any) -> tuple[torch.Tensor, Any]:
        n_left = len(self.exits) - self.exits.index(exit_)  # this one included
        parts = carry if isinstance(carry, tuple) else (carry,)
        onward = tuple(scale_gradient(part, (n_left - 1) / n_left) for part in parts)
        head = scale_gradient(embedding, 1 / n_left)
        return head, onward if isinstance(carry, tuple) else onward[0]


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.factor * gradient, None


def scale_gradient(x: torch.Tensor, factor: float) -> torch.Tensor:
    """The same numbers, whose gradient is handed back times a factor."""
    if not x.is_floating_point():
        return x  # a mask has no gradient
    scaled: torch.Tensor = _ScaledGradient.apply(x, factor)
    return scaled


@contextmanager
def settled_statistics(module: torch.nn.Module) -> Iterator[None]:
    """Let batch normalization use the statistics that it has, also in training."""
    kind = torch.nn.modules.batchnorm._BatchNorm
    norms = [each for each in module.modules() if isinstance(each, kind)]

    def settle(norm: torch.nn.Module, _: Any) -> None:
        norm.eval()

    hooks = [norm.register_forward_pre_hook(settle) for norm in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()

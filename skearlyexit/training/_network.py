"""Network with exits, and views of it that are trained in a phase."""

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
    """Network that is divided into stages, with a head after each stage.

    Parameters
    ----------
    stages : sequence of Block
        Stages of the network. The output of a stage is ``(carry, embedding)``: the input of the
        next stage and that of the head.
    heads : sequence of PooledModule
        Head of each exit, which maps embeddings to logits.
    stand_ins : collection of int, default=()
        Indices of the exits whose head is replaced by a scikit-learn estimator after the training.
    given : bool, default=False
        Whether the weights of the stages were given by the user.
    given_head : bool, default=False
        Whether the last head was given by the user.
    gates : sequence of PooledModule, default=()
        Gate of each exit but the last, which maps embeddings to a logit; or no gates.
    n_classes : int, default=None
        Number of classes. Only used by strategies that build additional modules.

    Attributes
    ----------
    combiner : Combiner or None
        Module that combines the outputs of the heads. It is set by strategies that learn one.

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
        """Set the combiner, unless there is one with the same settings already.

        Parameters
        ----------
        combiner : Combiner
            New combiner.
        """
        own = self.combiner
        if type(own) is not type(combiner) or own.settings != combiner.settings:
            self.combiner = combiner

    def is_like(self, other: MultiExitNetwork) -> bool:
        """Compare the architecture with that of another network.

        Parameters
        ----------
        other : MultiExitNetwork
            Other network.

        Returns
        -------
        is_like : bool
            Whether the parameters of stages, heads and gates have the same names, shapes and
            precision.
        """
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
        """Copy the weights and the combiner of a network with the same architecture.

        Parameters
        ----------
        other : MultiExitNetwork
            Network to copy from.
        """
        for own, theirs in zip(self._parts(), other._parts(), strict=True):
            put_state(own, state_of(theirs))
        self.combiner = copy.deepcopy(other.combiner)

    def _parts(self) -> list[torch.nn.ModuleList]:
        return [self.stages, self.heads, self.gates]

    def with_exits(self, kept: Sequence[int]) -> MultiExitNetwork:
        """Remove exits; the stages before them become part of the next stage.

        Parameters
        ----------
        kept : sequence of int
            Indices of the exits to keep in ascending order, including the last exit.

        Returns
        -------
        network : MultiExitNetwork
            Network with these exits, which shares its modules with this network. This network
            itself if all exits are kept.
        """
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
    """Base class of modules that are trained to combine the outputs of the heads."""

    @property
    def settings(self) -> tuple[Any, ...]:
        """Settings in which combiners of the same class differ."""
        return ()

    @abstractmethod
    def fitted(self) -> Combination:
        """Equivalent combination of predicted probabilities."""


class View(torch.nn.Module):
    """Base class of modules that are trained in a phase of the training.

    A view maps a batch of inputs to a list of logits, one tensor for each of its exits. A subclass
    must define `forward` and set `exits`.

    Attributes
    ----------
    exits : list of int
        Indices of the exits whose logits are returned, in ascending order.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.training import ExitLoss, TrainingStrategy, View
    >>> class Alone(View):  # one stage and its head, after frozen stages
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
        """Return the module that is changed by the training.

        Returns
        -------
        module : torch.nn.Module
            The view itself by default.
        """
        return self

    def trainable(self) -> list[torch.nn.Parameter]:
        """Return the parameters that are trained.

        Returns
        -------
        parameters : list of torch.nn.Parameter
            Parameters of `trained_part` that require a gradient.
        """
        return [each for each in self.trained_part().parameters() if each.requires_grad]

    def groups(self) -> list[list[torch.nn.Parameter]]:
        """Return the parameters that are trained, in groups with separate learning rates.

        Returns
        -------
        groups : list of list of torch.nn.Parameter
            Groups of parameters. A single group by default.
        """
        return [self.trainable()]

    def rate(self, group: int, progress: float) -> float | None:
        """Return the factor of the learning rate of a group of parameters.

        Parameters
        ----------
        group : int
            Index of the group.
        progress : float
            Progress of the phase, as a share of its steps.

        Returns
        -------
        factor : float or None
            Factor of the learning rate of the trainer. None, the default, is the factor of the
            trainer's schedule.
        """
        return None

    def advance(self, progress: float) -> None:
        """Update the view before a step. The default implementation does nothing.

        Parameters
        ----------
        progress : float
            Progress of the phase, as a share of its steps.
        """


class ExitView(View):
    """View of the heads of some exits and the stages before them.

    Parameters
    ----------
    network : MultiExitNetwork
        Network to train.
    exits : sequence of int
        Indices of the exits whose logits are returned, in ascending order.
    freeze_stages : bool, default=False
        Whether only the heads are trained. The stages are then in evaluation mode, and no gradients
        are computed for them.

    Notes
    -----
    **Shape**: inputs (n, ...) to a list of logits (n, n_classes), one for each of the exits.

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
        """Set training or evaluation mode; frozen stages remain in evaluation mode.

        Parameters
        ----------
        mode : bool, default=True
            True for training mode, False for evaluation mode.

        Returns
        -------
        self : ExitView
            The view itself.
        """
        if mode is not self._mode:  # called before each batch, and slow
            super().train(mode)
            if self.freeze_stages:
                self.stages.eval()
            self._mode = mode
        return self

    def trained_part(self) -> torch.nn.Module:
        return self.heads if self.freeze_stages else self

    def forward(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """Compute the logits of the exits.

        Parameters
        ----------
        rows : Tensor of shape (n, ...)
            Inputs of the first stage.

        Returns
        -------
        logits : list of Tensor of shape (n, n_classes)
            Logits of each exit.
        """
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
        """Inputs of the head and of the next stage."""
        return embedding, carry


class EquilibriumView(ExitView):
    """View of a network whose gradients are scaled at each exit; see `JointTraining`."""

    def _branch(self, exit_: int, embedding: torch.Tensor, carry: Any) -> tuple[torch.Tensor, Any]:
        n_left = len(self.exits) - self.exits.index(exit_)  # including this one
        parts = carry if isinstance(carry, tuple) else (carry,)
        onward = tuple(scale_gradient(part, (n_left - 1) / n_left) for part in parts)
        head = scale_gradient(embedding, 1 / n_left)
        return head, onward if isinstance(carry, tuple) else onward[0]


class _ScaledGradient(torch.autograd.Function):
    """Identity whose gradient is multiplied by a factor."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.factor * gradient, None


def scale_gradient(x: torch.Tensor, factor: float) -> torch.Tensor:
    """Return the same values, whose gradient is multiplied by a factor."""
    if not x.is_floating_point():
        return x  # a mask has no gradient
    scaled: torch.Tensor = _ScaledGradient.apply(x, factor)
    return scaled


@contextmanager
def settled_statistics(module: torch.nn.Module) -> Iterator[None]:
    """Context in which batch normalization uses its running statistics, also in training mode."""
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

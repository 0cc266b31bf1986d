"""From a module to the graph of its operations, the same for training and evaluation."""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import fx

from skearlyexit.backbones._tracing._modes import (
    ask_for_mode,
    differing,
    drop_auxiliary_outputs,
    unsteady,
)
from skearlyexit.backbones._tracing._tracer import Call, Leaf, Tracer
from skearlyexit.backbones._tracing._untraceable import UntraceableError


@dataclass
class Trace:
    """The operations of a module in the order in which they run.

    Attributes
    ----------
    graph : torch.fx.Graph
        The ``meta`` of each node holds its ``"value"``, a `Value`, and what it ``"writes"``: the
        nodes whose values it changes in place.
    calls : list of Call
        In the order in which they ended.
    leaves : set of str
        Submodules that were taken whole though they might be looked into.
    in_evaluation : set of str
        Submodules that stay in evaluation mode when the whole is trained, by a `train` of its own.
    trainable : dict of str to bool
        Whether each parameter is trained then.
    """

    graph: fx.Graph
    calls: list[Call]
    leaves: set[str] = field(default_factory=set)
    in_evaluation: set[str] = field(default_factory=set)
    trainable: dict[str, bool] = field(default_factory=dict)


def trace(
    root: torch.nn.Module,
    rows: torch.Tensor,
    leaves: Sequence[Leaf] = (),
    known: set[str] | None = None,
) -> Trace:
    """Operations of a module, with its mode as one of the inputs.

    A module is run on two and on three rows side by side, in both modes. What follows from the
    shapes alone and is the same for both is taken for fixed. Where a constant differs between the
    modes, such as the ``training`` of a dropout, the graph asks for the mode. A submodule that
    runs other operations in training than in evaluation, or is not the same twice in training, as
    with random numbers that are not torch's or a counter, is taken whole.

    Parameters
    ----------
    root : torch.nn.Module
        Called with rows as its only argument. Left in evaluation mode.
    rows : Tensor
        Three of them, which the module can be called with.
    leaves : sequence of str, class or callable, default=()
        Submodules, by name or class, and functions to be taken whole.
    known : set of str, default=None
        Submodules that an earlier trace of the same module has taken whole besides; None looks for
        them.

    Raises
    ------
    UntraceableError
        If an operation stands in the way; the message says which.
    """
    whole = set(known or ())
    constants: dict[str, torch.Tensor] = {}
    # Training changes statistics, and whatever else a module counts.
    twin = copy.deepcopy(root).train()
    in_evaluation = {name for name, module in twin.named_modules() if not module.training}
    trainable = {name: weight.requires_grad for name, weight in twin.named_parameters()}
    while True:
        make = partial(Tracer, leaves, whole, rows, constants, watches=known is None)
        evaluating = make()
        evaluating.run(root.eval())
        in_training = make()
        again = make() if known is None else in_training
        try:
            in_training.run(twin.train())
            if again is not in_training:
                again.run(twin.train(), seed=1)
        except UntraceableError:
            path = in_training.stack[-1] or again.stack[-1]
            if not path or path in whole:
                raise
            whole.add(path)  # which does something else in training, then
            continue
        changing = evaluating.drawing | in_training.drawing
        if again is not in_training:
            # What is kept once, as a size or a mask, stays the same from the second call on.
            changing |= again.counting | set(unsteady(in_training, again))
        if "" in changing:
            raise UntraceableError(
                "The backbone cannot be cut: its own forward does something else each time, as "
                "with random numbers that are not torch's or with a counter. Put that into a "
                "submodule of its own, or into a function that is named in the 'leaf' list of "
                "TracedBackbone."
            )
        if changing:
            whole |= changing
            continue
        order = list(evaluating.graph.nodes)
        drop_auxiliary_outputs(in_training.graph, evaluating.graph)
        different = set(differing(in_training, evaluating))
        if not different:
            graph = evaluating.graph
            ask_for_mode(graph)
            _tidy(graph)
            calls = list(_kept(evaluating.calls, order, set(graph.nodes)))
            return Trace(graph, calls, whole, in_evaluation, trainable)
        if "" in different:
            raise UntraceableError(
                "The backbone cannot be cut: its own forward runs other operations in training "
                "than in evaluation. Put what differs into a submodule, or into a function that "
                "is named in the 'leaf' list of TracedBackbone."
            )
        whole |= different


def _kept(calls: Sequence[Call], order: list[fx.Node], kept: set[fx.Node]) -> Iterator[Call]:
    """Calls whose output is still there, after what is left of what came before."""
    position = {node: i for i, node in enumerate(order)}
    for call in calls:
        if call.output in kept:
            earlier = reversed(order[: position[call.before] + 1])
            yield replace(call, before=next(node for node in earlier if node in kept))


def _tidy(graph: fx.Graph) -> None:
    """Leave out numbers and parts of tuples that are not used, and take parts at once."""
    for node in reversed(list(graph.nodes)):
        if node.op not in ("call_function", "call_method") or node.meta["writes"]:
            continue
        is_part = node.target is operator.getitem and _is_tuple(node.args[0])
        if not node.users and (is_part or not issubclass(node.meta["value"].kind, torch.Tensor)):
            graph.erase_node(node)
        elif is_part and isinstance(node.args[1], int) and node.args[1] != 0:
            # The first is the one that matters; where it is handed on, the others are there too.
            node.args[0].append(node)


def _is_tuple(node: Any) -> bool:
    return isinstance(node, fx.Node) and issubclass(node.meta["value"].kind, tuple | list)

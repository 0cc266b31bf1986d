"""Tracing of a module to one graph of operations for both training and evaluation."""

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
        The ``meta`` of each node holds ``"value"``, a `Value`, and ``"writes"``, the nodes whose
        values it changes in place.
    calls : list of Call
        Calls of submodules, in the order in which they ended.
    leaves : set of str
        Submodules that are not traced and were not listed by the user.
    in_evaluation : set of str
        Submodules that stay in evaluation mode after a call of ``train()``, which the module
        overrides.
    trainable : dict of str to bool
        Whether each parameter requires a gradient after that call.
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
    """Trace a module to a graph that reads the mode of the module.

    The module is run on two and on three samples at the same time, in both modes. Values that are
    determined by the shape of the input, and are the same for both, become constants. If a constant
    differs between the modes, such as ``training`` of a dropout, the graph reads the mode. A
    submodule is not traced but becomes a single operation if its operations differ between the
    modes or between two calls in training mode, such as with random numbers that are not drawn by
    torch or with a counter.

    Parameters
    ----------
    root : torch.nn.Module
        Module with one argument. It is left in evaluation mode.
    rows : Tensor of shape (3, ...)
        Valid input of the module.
    leaves : sequence of str, class or callable, default=()
        Submodules, by name or class, and functions that are not traced.
    known : set of str, default=None
        Further submodules that are not traced, as found by an earlier trace of the same module.
        None determines them.

    Returns
    -------
    traced : Trace

    Raises
    ------
    UntraceableError
        If an operation cannot be traced.
    """
    whole = set(known or ())
    constants: dict[str, torch.Tensor] = {}
    # A copy, since training mode changes statistics and counters.
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
            whole.add(path)  # its operations differ between the modes
            continue
        changing = evaluating.drawing | in_training.drawing
        if again is not in_training:
            # A value that is only stored in the first call, such as a mask, does not change later.
            changing |= again.counting | set(unsteady(in_training, again))
        if "" in changing:
            raise UntraceableError(
                "The backbone cannot be cut: its own forward does something else each time, such "
                "as with random numbers that torch does not draw, or with a counter. Put that into "
                "a submodule of its own, or into a function that is named in the 'leaf' list of "
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
    """Calls whose output is among the kept nodes, with the last kept node before each."""
    position = {node: i for i, node in enumerate(order)}
    for call in calls:
        if call.output in kept:
            earlier = reversed(order[: position[call.before] + 1])
            yield replace(call, before=next(node for node in earlier if node in kept))


def _tidy(graph: fx.Graph) -> None:
    """Remove unused numbers and parts of tuples, and move the parts directly after the tuple."""
    for node in reversed(list(graph.nodes)):
        if node.op not in ("call_function", "call_method") or node.meta["writes"]:
            continue
        is_part = node.target is operator.getitem and _is_tuple(node.args[0])
        if not node.users and (is_part or not issubclass(node.meta["value"].kind, torch.Tensor)):
            graph.erase_node(node)
        elif is_part and isinstance(node.args[1], int) and node.args[1] != 0:
            # A cut comes after the first part, for which all parts that are passed on must exist.
            node.args[0].append(node)


def _is_tuple(node: Any) -> bool:
    return isinstance(node, fx.Node) and issubclass(node.meta["value"].kind, tuple | list)

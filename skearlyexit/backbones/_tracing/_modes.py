"""Differences between the operations of a module in training and in evaluation mode."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import fx

from skearlyexit.backbones._tracing._proxy import Value
from skearlyexit.backbones._tracing._tracer import Tracer

#: Attribute of a module that holds its mode, and target of the node of a graph that reads it.
MODE = "training"


def drop_auxiliary_outputs(in_training: fx.Graph, evaluating: fx.Graph) -> None:
    """Remove the outputs that are returned in training only, after the one of both modes."""
    outputs = [next(iter(reversed(graph.nodes))) for graph in (in_training, evaluating)]
    several = [_parts_returned(output.args[0]) for output in outputs]
    if several[0] is None or several[1] is not None or not isinstance(several[0][0], fx.Node):
        return
    outputs[0].args = (several[0][0],)
    for graph in (in_training, evaluating):
        for node in reversed(graph.nodes):
            ends = node.op in ("placeholder", "output")
            if not (ends or node.users or node.meta["writes"]):
                graph.erase_node(node)


def _parts_returned(returned: Any) -> Any:
    """Parts of the output of a network, or None if it is not a tuple or list."""
    if isinstance(returned, fx.Node) and hasattr(returned.target, "_fields"):
        returned = returned.args
    return returned if isinstance(returned, tuple | list) and returned else None


def differing(first: Tracer, second: Tracer) -> Iterator[str]:
    """Modules whose own operations differ between two traces."""
    by_owner: list[dict[str, list[Any]]] = []
    for tracer in (first, second):
        operations = defaultdict(list)
        for node in tracer.graph.nodes:
            operations[tracer.owners.get(node, "")].append((node.op, str(node.target)))
        by_owner.append(operations)
    for owner in by_owner[0].keys() | by_owner[1].keys():
        if by_owner[0].get(owner) != by_owner[1].get(owner):
            yield owner
    if len(first.graph.nodes) != len(second.graph.nodes):
        return
    nodes = [list(tracer.graph.nodes) for tracer in (first, second)]
    position = [{node: i for i, node in enumerate(each)} for each in nodes]
    for a, b in zip(*nodes, strict=True):
        try:
            merged = _merge((a.args, a.kwargs), (b.args, b.kwargs), *position)
        except _DiffersError:
            yield second.owners.get(b, "")
        else:
            b.meta["merged"] = merged
            b.meta["writes"] |= {nodes[1][position[0][node]] for node in a.meta["writes"]}


def unsteady(first: Tracer, second: Tracer) -> Iterator[str]:
    """Modules whose operations differ between two traces in the same mode."""
    yield from differing(first, second)
    for node in second.graph.nodes:
        if _has_choice(node.meta.get("merged")):
            yield second.owners.get(node, "")


class _DiffersError(Exception):
    """Arguments differ by more than constants."""


@dataclass(frozen=True)
class _Choice:
    """A constant in training mode, and that in evaluation mode."""

    in_training: Any
    evaluating: Any


def _merge(a: Any, b: Any, places_a: dict[fx.Node, int], places_b: dict[fx.Node, int]) -> Any:
    """Arguments of the second graph, with a `_Choice` where constants differ."""
    if isinstance(a, fx.Node) or isinstance(b, fx.Node):
        if isinstance(a, fx.Node) and isinstance(b, fx.Node) and places_a[a] == places_b[b]:
            return b
        raise _DiffersError
    if type(a) is not type(b):
        raise _DiffersError
    if isinstance(a, tuple | list):
        if len(a) != len(b):
            raise _DiffersError
        merged = [_merge(x, y, places_a, places_b) for x, y in zip(a, b, strict=True)]
        return tuple(merged) if isinstance(a, tuple) else merged
    if isinstance(a, dict):
        if a.keys() != b.keys():
            raise _DiffersError
        return {key: _merge(a[key], b[key], places_a, places_b) for key in a}
    if isinstance(a, slice):
        parts = [(a.start, b.start), (a.stop, b.stop), (a.step, b.step)]
        return slice(*(_merge(x, y, places_a, places_b) for x, y in parts))
    are_nan = a != a and b != b
    return b if are_nan or a == b else _Choice(a, b)


def choose(training: bool, in_training: Any, evaluating: Any) -> Any:
    """Select one of two constants by the mode of a network."""
    return in_training if training else evaluating


def ask_for_mode(graph: fx.Graph) -> None:
    """Replace each `_Choice` in a graph by operations that read the mode."""
    for node in list(graph.nodes):
        args, kwargs = node.meta.pop("merged")
        if not _has_choice((args, kwargs)):
            continue
        with graph.inserting_before(node):
            mode = _noted(graph.create_node("get_attr", MODE), False)
            args, kwargs = _resolved((args, kwargs), graph, mode)
            node.args, node.kwargs = args, kwargs


def _noted(node: fx.Node, value: Any) -> fx.Node:
    node.meta |= {"writes": set(), "value": Value(type(value), value, value)}
    return node


def _has_choice(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(map(_has_choice, value))
    if isinstance(value, dict):
        return any(map(_has_choice, value.values()))
    return isinstance(value, _Choice)


def _resolved(value: Any, graph: fx.Graph, mode: fx.Node) -> Any:
    if isinstance(value, _Choice):
        if value.in_training is True and value.evaluating is False:
            return mode
        chosen = graph.call_function(choose, (mode, value.in_training, value.evaluating))
        return _noted(chosen, value.evaluating)
    if isinstance(value, tuple | list):
        return type(value)(_resolved(part, graph, mode) for part in value)
    if isinstance(value, dict):
        return {key: _resolved(part, graph, mode) for key, part in value.items()}
    return value

"""From a module to the graph of its operations, the same for training and evaluation."""

from __future__ import annotations

import operator
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import fx

#: Attribute of a module that says in which mode it is, as a node of a graph.
MODE = "training"

#: A submodule by name, a class of modules, or a function.
Leaf = str | type[torch.nn.Module] | Callable[..., Any]


@dataclass
class Trace:
    """The operations of a module in the order in which they run.

    Attributes
    ----------
    graph : torch.fx.Graph
    outputs : list of (str, torch.fx.Node)
        What each call of a submodule returned, by its name, in the order in which calls ended. A
        submodule that is called again is named ``name:2``.
    leaves : set of str
        Submodules that were taken whole though they might be looked into.
    """

    graph: fx.Graph
    outputs: list[tuple[str, fx.Node]]
    leaves: set[str] = field(default_factory=set)


class UntraceableError(ValueError):
    """A module whose operations cannot be told without running it on numbers."""


def trace(root: torch.nn.Module, leaves: Sequence[Leaf] = ()) -> Trace:
    """Operations of a module, with its mode as one of the inputs.

    A module is run symbolically in both modes, and where a constant differs between the two, such
    as the ``training`` of a dropout, the graph asks for the mode. A submodule that runs other
    operations in training than in evaluation is taken whole.

    Parameters
    ----------
    root : torch.nn.Module
        Called with rows as its only argument. Its mode is changed.
    leaves : sequence of str, class or callable, default=()
        Submodules, by name or class, and functions to be taken whole.

    Raises
    ------
    UntraceableError
        If an operation stands in the way; the message says which.
    """
    whole: set[str] = set()
    while True:
        tracers = []
        for training in (True, False):
            root.train(training)
            tracers.append(_Tracer(leaves, whole))
            tracers[-1].run(root)
        in_training, evaluating = tracers
        differing = set(_differing(in_training, evaluating))
        if not differing:
            _ask_for_mode(evaluating.graph)
            return Trace(evaluating.graph, evaluating.outputs, whole)
        if "" in differing:
            raise UntraceableError(
                "The backbone cannot be cut: its own forward runs other operations in training "
                "than in evaluation. Put what differs into a submodule, or into a function that "
                "is named in the 'leaf' list of TracedBackbone."
            )
        whole |= differing


def _in_place(name: str) -> Callable[[Any, Any], Any]:
    operation = getattr(operator, name)

    def run(a: Any, b: Any) -> Any:
        return operation(a, b)

    run.__name__ = run.__qualname__ = f"{name}_"
    return run


# Operators that change their first argument, which torch.fx would replace by those that do not. By
# functions of ours, since its own code for them changes numbers too, which Python does not.
iadd_, isub_, imul_, itruediv_ = map(_in_place, ("iadd", "isub", "imul", "itruediv"))
IN_PLACE = (iadd_, isub_, imul_, itruediv_, operator.setitem)


class _Proxy(fx.Proxy):
    """Stands for a value while a module is traced; knows assignments that change it."""

    def _changed(self, function: Callable[..., Any], *args: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", function, (self, *args), {})

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self._changed(iadd_, other)

    def __isub__(self, other: Any) -> fx.Proxy:
        return self._changed(isub_, other)

    def __imul__(self, other: Any) -> fx.Proxy:
        return self._changed(imul_, other)

    def __itruediv__(self, other: Any) -> fx.Proxy:
        return self._changed(itruediv_, other)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._changed(operator.setitem, key, value)


class _Tracer(fx.Tracer):
    def __init__(self, leaves: Sequence[Leaf], whole: set[str]) -> None:
        functions = tuple(leaf for leaf in leaves if callable(leaf) and not isinstance(leaf, type))
        super().__init__(autowrap_functions=functions, param_shapes_constant=True)
        self.names = {leaf for leaf in leaves if isinstance(leaf, str)} | whole
        self.kinds = tuple(leaf for leaf in leaves if isinstance(leaf, type))
        self.stack: list[str] = [""]
        self.owners: dict[fx.Node, str] = {}
        self.outputs: list[tuple[str, fx.Node]] = []
        self.calls: Counter[str] = Counter()

    def run(self, root: torch.nn.Module) -> None:
        names = {name for name, _ in root.named_modules()}
        unknown = sorted(name for name in self.names if name not in names)
        if unknown:
            raise ValueError(
                f"The 'leaf' list names {unknown}, which the module does not have. Its submodules "
                f"are {sorted(names - {''})[:40]}."
            )
        try:
            self.graph = self.trace(root)
        except Exception as error:
            raise UntraceableError(_explanation(root, self.stack, error)) from error

    def is_leaf_module(self, m: torch.nn.Module, module_qualified_name: str) -> bool:
        return (
            module_qualified_name in self.names
            or isinstance(m, self.kinds)
            or bool(super().is_leaf_module(m, module_qualified_name))
        )

    def call_module(
        self, m: torch.nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        path = self.path_of_module(m)
        self.stack.append(path)
        output = super().call_module(m, forward, args, kwargs)
        self.stack.pop()  # not on an error, which is to tell where it happened
        self.calls[path] += 1
        name = path if self.calls[path] == 1 else f"{path}:{self.calls[path]}"
        if isinstance(output, fx.Proxy):
            self.outputs.append((name, output.node))
        return output

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def create_node(self, kind: str, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(kind, *args, **kwargs)
        if kind == "call_module":
            module = self.root.get_submodule(str(node.target))
            node.meta["inplace"] = getattr(module, "inplace", False)
        # A module that is taken whole is an operation of the one that calls it.
        self.owners[node] = self.stack[-2 if kind == "call_module" else -1]
        return node


def _differing(first: _Tracer, second: _Tracer) -> Iterator[str]:
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
    position = [{node: i for i, node in enumerate(t.graph.nodes)} for t in (first, second)]
    for a, b in zip(first.graph.nodes, second.graph.nodes, strict=True):
        try:
            merged = _merge((a.args, a.kwargs), (b.args, b.kwargs), *position)
        except _DiffersError:
            yield second.owners.get(b, "")
        else:
            b.meta["merged"] = merged


class _DiffersError(Exception):
    """Arguments that no choice between constants can make equal."""


@dataclass(frozen=True)
class _Choice:
    """Constants in training and in evaluation."""

    in_training: Any
    evaluating: Any


def _merge(a: Any, b: Any, places_a: dict[fx.Node, int], places_b: dict[fx.Node, int]) -> Any:
    """Arguments of the second graph, with a choice where constants differ."""
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
    return b if a == b else _Choice(a, b)


def choose(training: bool, in_training: Any, evaluating: Any) -> Any:
    """One of two constants, by the mode of a network."""
    return in_training if training else evaluating


def _ask_for_mode(graph: fx.Graph) -> None:
    """Replace choices between constants by operations on the mode."""
    for node in list(graph.nodes):
        args, kwargs = node.meta.pop("merged")
        if not _has_choice((args, kwargs)):
            continue
        with graph.inserting_before(node):
            mode = graph.create_node("get_attr", MODE)
            args, kwargs = _resolved((args, kwargs), graph, mode)
            node.args, node.kwargs = args, kwargs


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
        return graph.call_function(choose, (mode, value.in_training, value.evaluating))
    if isinstance(value, tuple | list):
        return type(value)(_resolved(part, graph, mode) for part in value)
    if isinstance(value, dict):
        return {key: _resolved(part, graph, mode) for key, part in value.items()}
    return value


def _explanation(root: torch.nn.Module, stack: Sequence[str], error: Exception) -> str:
    """What stands in the way of tracing, where, and what helps."""
    # The innermost line that is neither torch's nor ours is the operation.
    ours = {str(Path(torch.__file__).parent), str(Path(__file__).parent)}
    lines = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(frame.filename.startswith(folder) for folder in ours)
        and not frame.filename.startswith("<")
    ]
    where = ""
    if lines:
        frame = lines[-1]
        where = f" at {frame.line!r} ({Path(frame.filename).name}, line {frame.lineno})"
    path = stack[-1]
    if path:
        kind = type(root.get_submodule(path)).__name__
        who = f"its submodule {path!r} ({kind})"
        helps = (
            f"Take that submodule whole by TracedBackbone(module, leaf=[{path!r}]), or a function "
            "in it by naming the function there, or give the network as a list of stages."
        )
    else:
        who = f"its own forward ({type(root).__name__})"
        helps = (
            "Put that operation into a submodule, or into a function, and name it in "
            "TracedBackbone(module, leaf=[...]); or give the network as a list of stages."
        )
    return (
        f"The backbone cannot be traced: {who} does something{where} that depends on numbers "
        f"in the rows, or that torch.fx does not know: {error}. {helps}"
    )

"""From a module to the graph of its operations, the same for training and evaluation."""

from __future__ import annotations

import operator
import sys
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import reduce
from inspect import signature
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import fx

from skearlyexit._random import isolated_random_state
from skearlyexit.backbones._proxy import (
    IN_PLACE,
    Proxy,
    Value,
    is_fixed,
    is_known,
    leaves_of,
    picked,
    recorded_factories,
    recorded_gradients,
    replaced_builtins,
    tensors_of,
)

#: Attribute of a module that says in which mode it is, as a node of a graph.
MODE = "training"

#: A submodule by name, a class of modules, or a function.
Leaf = str | type[torch.nn.Module] | Callable[..., Any]


@dataclass(frozen=True)
class Call:
    """Call of a submodule.

    Attributes
    ----------
    path : str
        Of the submodule.
    name : str
        The same; ``path:2`` if it is called again, and so on.
    before : Node
        The last operation before the call.
    output : Node
        What it returned, or the first thing that it returned.
    """

    path: str
    name: str
    before: fx.Node
    output: fx.Node


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
    """

    graph: fx.Graph
    calls: list[Call]
    leaves: set[str] = field(default_factory=set)


class UntraceableError(ValueError):
    """A module whose operations cannot be told without running it on numbers."""


class _RowsError(ValueError):
    """An operation that fails on some numbers of rows."""


def trace(root: torch.nn.Module, rows: torch.Tensor, leaves: Sequence[Leaf] = ()) -> Trace:
    """Operations of a module, with its mode as one of the inputs.

    A module is run on two and on three rows side by side, in both modes. What follows from the
    shapes alone and is the same for both is taken for fixed. Where a constant differs between the
    modes, such as the ``training`` of a dropout, the graph asks for the mode. A submodule that
    runs other operations in training than in evaluation is taken whole.

    Parameters
    ----------
    root : torch.nn.Module
        Called with rows as its only argument. Its mode is changed.
    rows : Tensor
        Three of them, which the module can be called with.
    leaves : sequence of str, class or callable, default=()
        Submodules, by name or class, and functions to be taken whole.

    Raises
    ------
    UntraceableError
        If an operation stands in the way; the message says which.
    """
    whole: set[str] = set()
    constants: dict[str, torch.Tensor] = {}
    while True:
        evaluating = _Tracer(leaves, whole, rows, constants)
        evaluating.run(root.eval())
        in_training = _Tracer(leaves, whole, rows, constants)
        try:
            with _buffers_kept(root):
                in_training.run(root.train())
        except UntraceableError:
            path = in_training.stack[-1]
            if not path or path in whole:
                raise
            whole.add(path)  # which does something else in training, then
            continue
        order = list(evaluating.graph.nodes)
        _drop_auxiliary_outputs(in_training.graph, evaluating.graph)
        differing = set(_differing(in_training, evaluating))
        if not differing:
            graph = evaluating.graph
            _ask_for_mode(graph)
            _tidy(graph)
            return Trace(graph, list(_kept(evaluating.calls, order, set(graph.nodes))), whole)
        if "" in differing:
            raise UntraceableError(
                "The backbone cannot be cut: its own forward runs other operations in training "
                "than in evaluation. Put what differs into a submodule, or into a function that "
                "is named in the 'leaf' list of TracedBackbone."
            )
        whole |= differing


def _kept(calls: Sequence[Call], order: list[fx.Node], kept: set[fx.Node]) -> Iterator[Call]:
    """Calls whose output is still there, after what is left of what came before."""
    position = {node: i for i, node in enumerate(order)}
    for call in calls:
        if call.output in kept:
            earlier = reversed(order[: position[call.before] + 1])
            yield replace(call, before=next(node for node in earlier if node in kept))


@contextmanager
def _buffers_kept(root: torch.nn.Module) -> Iterator[None]:
    """Undo what a run in training mode does to running statistics."""
    kept = [
        (module, name, buffer, buffer.clone())
        for module in root.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, value in kept:
                module._buffers[name] = buffer.copy_(value)


class _Tracer(fx.Tracer):
    # Otherwise what is made of a buffer would be made once, and forgotten where it is kept.
    proxy_buffer_attributes = True

    def __init__(
        self,
        leaves: Sequence[Leaf],
        whole: set[str],
        rows: torch.Tensor,
        constants: dict[str, torch.Tensor],
    ) -> None:
        functions = [leaf for leaf in leaves if callable(leaf) and not isinstance(leaf, type)]
        # The second takes no proxies, and is still met in older code.
        super().__init__(autowrap_functions=(*functions, torch.autograd.Variable))
        self._autowrap_search += _modules_with(functions)
        self.names = {leaf for leaf in leaves if isinstance(leaf, str)} | whole
        self.kinds = tuple(leaf for leaf in leaves if isinstance(leaf, type))
        self.samples = rows[:2].clone(), rows.clone()
        self.constants = constants
        self.stack: list[str] = [""]
        self.owners: dict[fx.Node, str] = {}
        self.calls: list[Call] = []
        self.n_calls: Counter[str] = Counter()
        self.running = False
        self.memory: dict[int, int] = {}
        self.fresh = count()

    def run(self, root: torch.nn.Module) -> None:
        names = {name for name, _ in root.named_modules()}
        unknown = sorted(name for name in self.names if name not in names)
        if unknown:
            raise ValueError(
                f"The 'leaf' list names {unknown}, which the module does not have. Its submodules "
                f"are {sorted(names - {''})[:40]}."
            )
        try:
            with (
                torch.enable_grad(),  # what the module itself keeps out of it is seen
                isolated_random_state(0),
                recorded_factories(self),
                recorded_gradients(self),
                replaced_builtins(root),
            ):
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
        if self.running:
            return forward(*args, **kwargs)
        path = self.path_of_module(m)
        self.stack.append(path)
        before = next(iter(reversed(self.graph.nodes)))
        output = super().call_module(m, forward, args, kwargs)
        self.stack.pop()  # not on an error, which is to tell where it happened
        self.n_calls[path] += 1
        name = path if self.n_calls[path] == 1 else f"{path}:{self.n_calls[path]}"
        first = next((each for each in leaves_of(output) if isinstance(each, fx.Proxy)), None)
        if first is not None:
            self.calls.append(Call(path, name, before, first.node))
        return output

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self.running:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        """Rows; other arguments have their defaults."""
        _, name, *_ = signature(root_fn).parameters
        return root_fn, [self.root, self.create_proxy("placeholder", name, (), {})]

    def create_proxy(
        self, kind: str, target: Any, args: Any, kwargs: Any, *others: Any, **options: Any
    ) -> Any:
        """Record an operation, unless what it gives is a fixed number or size."""
        given = [each for each in leaves_of((args, kwargs)) if isinstance(each, Proxy)]
        known = is_known(kind, target, args, kwargs)
        runs, writes = self._run(kind, target, args, kwargs)
        if known and is_fixed(runs, target):
            return runs[0]
        changed = [each for each in given if each.node in writes]
        node = self.create_node(kind, target, self.create_arg(args), self.create_arg(kwargs))
        self._note(node, runs, [each.runs[1] for each in given])
        node.meta["writes"] |= writes
        for each in changed:
            each.is_known &= known
            if runs[1] is each.runs[1] and each.node.op != "get_attr":
                each.node = node  # what is changed and returned is known by its last change
        proxy = Proxy(node, self, runs, known)
        if torch.is_grad_enabled() or target == "detach" or kind in ("placeholder", "get_attr"):
            return proxy
        return proxy.detach() if isinstance(runs[1], torch.Tensor) else proxy

    def _run(
        self, kind: str, target: Any, args: Any, kwargs: Any
    ) -> tuple[tuple[Any, Any], set[fx.Node]]:
        """What an operation gives on two and on three rows, and what it changes."""
        if kind == "placeholder":
            return self.samples, set()
        given = [each for each in leaves_of((args, kwargs)) if isinstance(each, Proxy)]
        runs, writes = [], set()
        self.running = True
        try:
            for i in (1, 0):
                before = [[t._version for t in tensors_of(proxy.runs[i])] for proxy in given]
                runs.append(self._call(kind, target, picked(args, i), picked(kwargs, i)))
                for proxy, versions in zip(given, before, strict=True):
                    if [t._version for t in tensors_of(proxy.runs[i])] != versions:
                        writes.add(proxy.node)
        except Exception as error:
            if runs:
                raise _RowsError(str(error)) from error
            raise
        finally:
            self.running = False
        return (runs[1], runs[0]), writes

    @torch.no_grad()
    def _call(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        if kind == "get_attr":
            return reduce(getattr, target.split("."), self.root)
        if kind == "call_module":
            return self.root.get_submodule(target)(*args, **kwargs)
        if kind == "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        return target(*args, **kwargs)

    def create_node(self, kind: str, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(kind, *args, **kwargs)
        node.meta["writes"] = {node.args[0]} if self._says_it_changes(node) else set()
        if kind == "get_attr":
            runs, _ = self._run(kind, node.target, (), {})
            self._note(node, runs, [runs[1]])
        elif kind != "output":
            self._note(node, (None, None), [])
        # A module that is taken whole is an operation of the one that calls it.
        self.owners[node] = self.stack[-2 if kind == "call_module" else -1]
        return node

    def _says_it_changes(self, node: fx.Node) -> bool:
        """Whether an operation is known, by its name, to change its first argument."""
        if not node.args or not isinstance(node.args[0], fx.Node):
            return False
        name = str(node.target)
        return bool(node.args[0].meta["value"].memory) and bool(
            (node.op == "call_method" and name.endswith("_") and not name.endswith("__"))
            or node.kwargs.get("inplace")
            or node.target in IN_PLACE
            or (node.op == "call_module" and self._attribute(name, "inplace"))
        )

    def _attribute(self, path: str, name: str) -> Any:
        return vars(self.root.get_submodule(path)).get(name)

    def _note(self, node: fx.Node, runs: tuple[Any, Any], given: Any) -> None:
        two, three = runs
        if isinstance(three, torch.Tensor):
            shapes = tuple(two.shape), tuple(three.shape)
            floating = three.is_floating_point()
            value = Value(type(three), *shapes, floating, self._memory(three, given))
        elif tensors_of(three):
            value = Value(type(three), None, None, memory=self._memory(three, given))
        else:
            value = Value(type(three), two, three)
        node.meta["value"] = value

    def _memory(self, value: Any, given: Any) -> frozenset[int]:
        """Where the numbers of new tensors are; where those of older ones are, if it is there."""
        known = set(map(_address, tensors_of(given)))
        for tensor in tensors_of(value):
            address = _address(tensor)
            if address not in known or address not in self.memory:
                # What was there before is gone.
                self.memory[address] = next(self.fresh)
                known.add(address)
        return frozenset(self.memory[_address(tensor)] for tensor in tensors_of(value))

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, torch.Tensor) and a not in self.tensor_attrs:
            # A tensor that is made in passing is another one, but equal, in another run.
            for name, constant in self.constants.items():
                if _are_equal(a, constant):
                    self.tensor_attrs[a] = name
        argument = super().create_arg(a)
        if isinstance(a, torch.Tensor):
            name = self.tensor_attrs.get(a, "")
            if name.startswith("_tensor_constant"):
                self.constants[name] = a
        return argument

    def to_bool(self, obj: fx.Proxy) -> bool:
        """What a condition on sizes is, if it is the same for any number of rows."""
        if isinstance(obj, Proxy) and obj.is_known:
            two, three = map(bool, obj.runs)
            if two == three:
                return two
        return super().to_bool(obj)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Parts of a tuple, or of a tensor along an axis that is not the rows'."""
        if isinstance(obj, Proxy):
            return iter([operator.getitem(obj, i) for i in range(len(obj))])
        return super().iter(obj)


def _modules_with(functions: Sequence[Callable[..., Any]]) -> list[ModuleType]:
    """Python modules, in any of which a function may be looked up when it is called."""
    return [
        module
        for module in (list(sys.modules.values()) if functions else [])
        if any(value is each for value in list(vars(module).values()) for each in functions)
    ]


def _address(tensor: torch.Tensor) -> int:
    if tensor.layout != torch.strided or not tensor.numel():
        return -id(tensor)
    return tensor.untyped_storage().data_ptr()


def _are_equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)


def _drop_auxiliary_outputs(in_training: fx.Graph, evaluating: fx.Graph) -> None:
    """Leave out what is returned in training only, behind what is returned in both modes."""
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
    """What a network returns, if it is a tuple."""
    if isinstance(returned, fx.Node) and hasattr(returned.target, "_fields"):
        returned = returned.args
    return returned if isinstance(returned, tuple | list) and returned else None


def _tidy(graph: fx.Graph) -> None:
    """Leave out numbers and parts of tuples that nobody looks at, and take parts at once."""
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
    if isinstance(error, _RowsError):
        return (
            f"The backbone runs on 3 rows, and fails on 2{where}: {error}. A number of rows is "
            "frozen into it; write x.shape[0], or -1 in a shape, for the number of rows."
        )
    path = stack[-1]
    mode = " in training mode" if root.training else ""
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
        f"The backbone cannot be traced: {who} does something{mode}{where} that depends on "
        f"numbers in the rows, or that torch.fx does not know: {error}. {helps}"
    )

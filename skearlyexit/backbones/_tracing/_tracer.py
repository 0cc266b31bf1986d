"""A tracer that records the operations of a module while they run on a few samples."""

from __future__ import annotations

import operator
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from inspect import signature
from itertools import count
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import fx

from skearlyexit._determinism._in_place import may_write
from skearlyexit._determinism._random import isolated_random_state
from skearlyexit._utils._interrupts import deferred_interrupts
from skearlyexit.backbones._tracing._proxy import (
    IN_PLACE,
    Applied,
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
from skearlyexit.backbones._tracing._untraceable import RowsError, UntraceableError, explanation

#: Packages whose functions only make in-place changes that torch detects.
_KNOWN = ("torch", "skearlyexit", "_operator", "builtins", "math")

#: A submodule by name, a class of modules, or a function.
Leaf = str | type[torch.nn.Module] | Callable[..., Any]


@dataclass(frozen=True)
class Call:
    """Call of a submodule.

    Attributes
    ----------
    path : str
        Path of the submodule.
    name : str
        Name of the call: the path for the first call of the submodule, ``path:2`` for the second,
        and so on.
    before : Node
        Last operation before the call.
    output : Node
        Output of the call, or the first one if it returned several.
    """

    path: str
    name: str
    before: fx.Node
    output: fx.Node


class Tracer(fx.Tracer):
    # Otherwise values computed from a buffer would be recorded as constants, and changes of a
    # buffer not at all.
    proxy_buffer_attributes = True

    def __init__(
        self,
        leaves: Sequence[Leaf],
        whole: set[str],
        rows: torch.Tensor,
        constants: dict[str, torch.Tensor],
        *,
        watches: bool = True,
    ) -> None:
        functions = [leaf for leaf in leaves if callable(leaf) and not isinstance(leaf, type)]
        # The latter does not accept proxies, and is still used in older code.
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
        self.thread = threading.get_ident()
        self.memory: dict[int, int] = {}
        self.fresh = count()
        self.watches = watches
        self.generators: Any = None
        self.drawing: set[str] = set()
        self.counting: set[str] = set()

    def run(self, root: torch.nn.Module, seed: int = 0) -> None:
        """Record the operations of a module.

        If `watches` is True, two sets of submodules are collected as well. `drawing` are those
        whose code uses the global generators of Python or NumPy, whose numbers would be recorded as
        constants. `counting` are those that change a number among their attributes, or draw from a
        generator among them.
        """
        names = {name for name, _ in root.named_modules()}
        unknown = sorted(name for name in self.names if name not in names)
        if unknown:
            raise ValueError(
                f"The 'leaf' list names {unknown}, which the module does not have. Its submodules "
                f"are {sorted(names - {''})[:40]}."
            )
        for name, constant in self.constants.items():
            if not hasattr(root, name):
                setattr(root, name, constant)
        try:
            with (
                # This also serializes threads, since functions of torch are replaced below for the
                # whole process.
                isolated_random_state(seed),
                deferred_interrupts(),
                torch.enable_grad(),  # so that operations under `torch.no_grad` are recognized
                recorded_factories(self),
                recorded_gradients(self),
                replaced_builtins(root),
            ):
                self.generators, kept = self._states(), self._kept_by(root)
                self.graph = self.trace(root)
                self._note_draws()
                if self._kept_by(root) != kept:
                    self.counting.add("")
        except Exception as error:
            raise UntraceableError(explanation(root, self.stack, error)) from error

    def _is_not_looked_at(self) -> bool:
        """Whether a call is part of an operation already recorded, or of another thread.

        torch.fx replaces the calls of modules in all threads.
        """
        return self.running or threading.get_ident() != self.thread

    def is_leaf_module(self, m: torch.nn.Module, module_qualified_name: str) -> bool:
        return (
            module_qualified_name in self.names
            or isinstance(m, self.kinds)
            or has_hooks(m)
            or bool(super().is_leaf_module(m, module_qualified_name))
        )

    def call_module(
        self, m: torch.nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        if self._is_not_looked_at():
            return forward(*args, **kwargs)
        path = self.path_of_module(m)
        self._note_draws()
        self.stack.append(path)
        before, kept = next(iter(reversed(self.graph.nodes))), self._kept_by(m)
        output = super().call_module(m, forward, args, kwargs)
        self._note_draws()
        if self._kept_by(m) != kept and not self.is_leaf_module(m, path):
            self.counting.add(path)
        self.stack.pop()  # not after an error, since the message names the submodule
        self.n_calls[path] += 1
        name = path if self.n_calls[path] == 1 else f"{path}:{self.n_calls[path]}"
        first = next((each for each in leaves_of(output) if isinstance(each, fx.Proxy)), None)
        if first is not None:
            self.calls.append(Call(path, name, before, first.node))
        return output

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self._is_not_looked_at():
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        """Proxy for the first argument; other arguments have their default values."""
        _, name, *_ = signature(root_fn).parameters
        return root_fn, [self.root, self.create_proxy("placeholder", name, (), {})]

    def create_proxy(
        self, kind: str, target: Any, args: Any, kwargs: Any, *others: Any, **options: Any
    ) -> Any:
        """Record an operation, unless its output is a constant number or size."""
        given = [each for each in leaves_of((args, kwargs)) if isinstance(each, Proxy)]
        known = is_known(kind, target, args, kwargs)
        if _is_foreign(kind, target):
            self._note_draws()
        runs, writes = self._run(kind, target, args, kwargs)
        if _is_foreign(kind, target):
            self.generators = self._states()  # draws of an untraced operation are not constants
        if known and is_fixed(runs, target):
            return runs[0]
        changed = [each for each in given if each.node in writes]
        node = self.create_node(kind, target, self.create_arg(args), self.create_arg(kwargs))
        self._note(node, runs, [each.runs[1] for each in given])
        node.meta["writes"] |= writes
        for each in changed:
            each.is_known &= known
            if runs[1] is each.runs[1] and each.node.op != "get_attr":
                each.node = node  # later operations use the value after its last change
        proxy = Proxy(node, self, runs, known)
        if torch.is_grad_enabled() or target == "detach" or kind in ("placeholder", "get_attr"):
            return proxy
        return proxy.detach() if isinstance(runs[1], torch.Tensor) else proxy

    def _run(
        self, kind: str, target: Any, args: Any, kwargs: Any
    ) -> tuple[tuple[Any, Any], set[fx.Node]]:
        """Output of an operation for two and for three samples, and the nodes that it changes."""
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
                raise RowsError(str(error)) from error
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
        node.meta["may_write"] = self._may_write(node)
        if kind == "get_attr":
            runs, _ = self._run(kind, node.target, (), {})
            self._note(node, runs, [runs[1]])
        elif kind != "output":
            self._note(node, (None, None), [])
        # A module that is not traced is an operation of the module that calls it.
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

    def _may_write(self, node: fx.Node) -> bool:
        """Whether it is not traced, and may change its arguments without torch detecting it."""
        if node.op == "call_module":
            return may_write([self.root.get_submodule(str(node.target))])
        return _is_foreign(node.op, node.target)

    def _note_draws(self) -> None:
        """Note whether the code that has just run has drawn random numbers."""
        now = self._states()
        if now != self.generators:
            self.drawing.add(self.stack[-1])
        self.generators = now

    def _states(self) -> Any:
        return _generators() if self.watches else None

    def _kept_by(self, module: torch.nn.Module) -> Any:
        return _kept_by(module) if self.watches else None

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
        """Identifiers of the memory of tensors: new ones, unless they share that of given ones."""
        known = set(map(_address, tensors_of(given)))
        for tensor in tensors_of(value):
            address = _address(tensor)
            if address not in known or address not in self.memory:
                # An earlier tensor at this address no longer exists.
                self.memory[address] = next(self.fresh)
                known.add(address)
        return frozenset(self.memory[_address(tensor)] for tensor in tensors_of(value))

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, torch.Tensor) and a not in self.tensor_attrs:
            # A tensor created in the code of the module is a new, but equal object in each run.
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
        """Value of a condition on sizes, if it is the same for any number of samples."""
        if isinstance(obj, Proxy) and obj.is_known:
            two, three = map(bool, obj.runs)
            if two == three:
                return two
        return super().to_bool(obj)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Iterate over a tuple, or over a tensor whose first axis is not that of the samples."""
        if isinstance(obj, Proxy):
            return iter([operator.getitem(obj, i) for i in range(len(obj))])
        return super().iter(obj)


def has_hooks(module: torch.nn.Module) -> bool:
    """Whether a module has hooks for the forward or the backward pass."""
    forward = module._forward_hooks or module._forward_pre_hooks
    return bool(forward or module._backward_hooks or module._backward_pre_hooks)


def _is_foreign(kind: str, target: Any) -> bool:
    """Whether an operation is an untraced module, or a function of another package."""
    if kind != "call_function":
        return kind == "call_module"
    function = target.function if isinstance(target, Applied) else target
    return str(getattr(function, "__module__", None)).split(".")[0] not in _KNOWN


def _generators() -> tuple[Any, ...]:
    """States of the global generators of Python and NumPy."""
    _, numbers, position, *_ = np.random.get_state()
    return random.getstate(), np.asarray(numbers).tobytes(), position


def _kept_by(module: torch.nn.Module) -> dict[str, Any]:
    """Numbers among the attributes of a module, and states of generators among them."""
    found: dict[str, Any] = {}
    for name, value in vars(module).items():
        if isinstance(value, np.random.Generator):
            found[name] = str(value.bit_generator.state)
        elif isinstance(value, np.random.RandomState):
            found[name] = str(value.get_state(legacy=False))
        elif isinstance(value, random.Random):
            found[name] = value.getstate()
        elif isinstance(value, int | float):
            found[name] = value
    return found


def _modules_with(functions: Sequence[Callable[..., Any]]) -> list[ModuleType]:
    """Python modules in whose namespace one of the functions is."""
    return [
        module
        for module in (list(sys.modules.values()) if functions else [])
        # None blocks an import, and has no namespace.
        if hasattr(module, "__dict__")
        and any(value is each for value in list(vars(module).values()) for each in functions)
    ]


def _address(tensor: torch.Tensor) -> int:
    if tensor.layout != torch.strided or not tensor.numel():
        return -id(tensor)
    return tensor.untyped_storage().data_ptr()


def _are_equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)

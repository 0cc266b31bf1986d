"""Records what a module does to some rows, operation by operation."""

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

#: Packages whose functions change their arguments only where torch notices it.
_KNOWN = ("torch", "skearlyexit", "_operator", "builtins", "math")

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


class Tracer(fx.Tracer):
    # Otherwise what is made of a buffer would be made once, and forgotten where it is kept.
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
        self.thread = threading.get_ident()
        self.memory: dict[int, int] = {}
        self.fresh = count()
        self.watches = watches
        self.generators: Any = None
        self.drawing: set[str] = set()
        self.counting: set[str] = set()

    def run(self, root: torch.nn.Module, seed: int = 0) -> None:
        """Record what a module does.

        Submodules whose own code draws random numbers of Python or numpy, which would be recorded
        as constants, are noted in `drawing`; those that change a number among their attributes, or
        draw from a generator that is one, in `counting`. Neither unless the tracer `watches`.
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
                # Two threads take turns here, since what follows replaces functions of torch for
                # the whole process.
                isolated_random_state(seed),
                deferred_interrupts(),
                torch.enable_grad(),  # what the module itself keeps out of it is seen
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
        """Whether what runs is an operation already recorded, or no business of this tracer's.

        torch.fx replaces the calls of all modules, those of other threads with them.
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
        self.stack.pop()  # not on an error, which is to tell where it happened
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
        """Rows; other arguments have their defaults."""
        _, name, *_ = signature(root_fn).parameters
        return root_fn, [self.root, self.create_proxy("placeholder", name, (), {})]

    def create_proxy(
        self, kind: str, target: Any, args: Any, kwargs: Any, *others: Any, **options: Any
    ) -> Any:
        """Record an operation, unless what it gives is a fixed number or size."""
        given = [each for each in leaves_of((args, kwargs)) if isinstance(each, Proxy)]
        known = is_known(kind, target, args, kwargs)
        if _is_foreign(kind, target):
            self._note_draws()
        runs, writes = self._run(kind, target, args, kwargs)
        if _is_foreign(kind, target):
            self.generators = self._states()  # it will draw each time that it runs
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

    def _may_write(self, node: fx.Node) -> bool:
        """Whether it is taken whole and may change its arguments without torch noticing it."""
        if node.op == "call_module":
            return may_write([self.root.get_submodule(str(node.target))])
        return _is_foreign(node.op, node.target)

    def _note_draws(self) -> None:
        """Note whether the code that has just run has drawn numbers."""
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


def has_hooks(module: torch.nn.Module) -> bool:
    """Whether calling a module does more than its forward, now or in the backward pass."""
    forward = module._forward_hooks or module._forward_pre_hooks
    return bool(forward or module._backward_hooks or module._backward_pre_hooks)


def _is_foreign(kind: str, target: Any) -> bool:
    """Whether an operation is a module, or a function of somebody else's, that is taken whole."""
    if kind != "call_function":
        return kind == "call_module"
    function = target.function if isinstance(target, Applied) else target
    return str(getattr(function, "__module__", None)).split(".")[0] not in _KNOWN


def _generators() -> tuple[Any, ...]:
    """States of Python's and numpy's generators."""
    _, numbers, position, *_ = np.random.get_state()
    return random.getstate(), np.asarray(numbers).tobytes(), position


def _kept_by(module: torch.nn.Module) -> dict[str, Any]:
    """Numbers among the attributes of a module, and states of generators."""
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

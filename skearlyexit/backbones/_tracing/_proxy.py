"""Proxies of the values in a module that is traced, which hold the values for a few samples."""

from __future__ import annotations

import builtins
import operator
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from inspect import getattr_static
from types import FunctionType
from typing import Any

import torch
from torch import fx
from torch.autograd.function import _SingleLevelFunction
from torch.fx.proxy import Attribute, TraceError


@dataclass(frozen=True)
class Value:
    """Description of the output of an operation, from runs on two and on three samples.

    Attributes
    ----------
    kind : type
        Type of the output.
    on_two, on_three : object
        Shape of the output if it is a tensor; None if it contains tensors; otherwise the output
        itself.
    is_floating : bool, default=False
        Whether it is a tensor of floating-point numbers.
    memory : frozenset of int, default=()
        Identifiers of the memory of its tensors. If two values have one in common, changing one in
        place changes the other.
    """

    kind: type
    on_two: Any
    on_three: Any
    is_floating: bool = False
    memory: frozenset[int] = frozenset()

    @property
    def is_rows(self) -> bool:
        """Whether it is a tensor with one entry for each sample."""
        two, three = self.on_two, self.on_three
        return (
            issubclass(self.kind, torch.Tensor)
            and len(two) >= 1
            and (two[0], three[0]) == (2, 3)
            and two[1:] == three[1:]
        )

    @property
    def is_embedding(self) -> bool:
        """Whether it can be the input of a head."""
        return self.is_rows and self.is_floating and len(self.on_two) >= 2

    def __str__(self) -> str:
        if issubclass(self.kind, torch.Tensor):
            two, three = tuple(self.on_two), tuple(self.on_three)
            return f"a tensor of shape {two} for 2 samples, {three} for 3"
        return f"a {self.kind.__name__}"


@dataclass(frozen=True)
class InPlace:
    """Operator that changes its first argument in place.

    torch.fx would record the operator that returns a new value instead. Its own code for in-place
    operators would also apply to numbers, which Python does not change in place.
    """

    name: str

    @property
    def __name__(self) -> str:
        return f"{self.name}_"

    def __call__(self, a: Any, b: Any) -> Any:
        return getattr(operator, self.name)(a, b)


_CHANGING = (
    *("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow"),
    *("iand", "ior", "ixor", "ilshift", "irshift"),
)
IN_PLACE = (*map(InPlace, _CHANGING), operator.setitem)


class Proxy(fx.Proxy):
    """Proxy of a value in a module that is traced.

    Parameters
    ----------
    node : torch.fx.Node
        Operation whose output the value is.
    tracer : torch.fx.Tracer
    runs : tuple of object
        The value for two and for three samples.
    is_known : bool
        Whether the value is determined by the shape of the input.
    """

    def __init__(
        self, node: fx.Node, tracer: fx.Tracer, runs: tuple[Any, Any], is_known: bool
    ) -> None:
        super().__init__(node, tracer)
        self.runs, self.is_known = runs, is_known

    def __getattr__(self, k: str) -> Any:
        if callable(getattr(self.runs[1], k)):
            return Attribute(self, k)
        return self._call(getattr, k)

    def __index__(self) -> int:
        return operator.index(self._number())

    def __int__(self) -> int:
        return int(self._number())

    def __float__(self) -> float:
        return float(self._number())

    def _number(self) -> Any:
        two, three = self.runs
        if self.is_known and bool(two == three):
            return two
        raise TraceError("a number is needed that depends on the samples, or on their number")

    def __len__(self) -> int:
        lengths = [len(run) for run in self.runs]
        if lengths[0] != lengths[1]:
            raise TraceError("the number of samples is not a constant; use x.shape[0] for len(x)")
        return lengths[0]

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, *args), {})

    def __setitem__(self, key: Any, value: Any) -> None:
        self._call(operator.setitem, key, value)


def _recorded(operator_: InPlace) -> Callable[[Proxy, Any], Any]:
    return lambda proxy, other: proxy._call(operator_, other)


for _operator in map(InPlace, _CHANGING):
    setattr(Proxy, f"__{_operator.name}__", _recorded(_operator))


def picked(value: Any, run: int) -> Any:
    """Arguments for two samples (run 0) or for three (run 1)."""
    if isinstance(value, Proxy):
        return value.runs[run]
    if isinstance(value, Attribute):
        return getattr(picked(value.root, run), value.attr)
    if isinstance(value, tuple):
        parts = [picked(part, run) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, list):
        return [picked(part, run) for part in value]
    if isinstance(value, dict):
        return {key: picked(part, run) for key, part in value.items()}
    if isinstance(value, slice):
        return slice(*(picked(part, run) for part in (value.start, value.stop, value.step)))
    return value


def leaves_of(value: Any) -> Iterator[Any]:
    """Values in a nested structure of arguments or outputs."""
    if isinstance(value, tuple | list):
        for part in value:
            yield from leaves_of(part)
    elif isinstance(value, dict):
        yield from leaves_of(list(value.values()))
    elif isinstance(value, slice):
        yield from leaves_of((value.start, value.stop, value.step))
    else:
        yield value


def tensors_of(value: Any) -> list[torch.Tensor]:
    """Tensors in a nested structure of arguments or outputs."""
    return [each for each in leaves_of(value) if isinstance(each, torch.Tensor)]


#: Attributes and methods of a tensor whose result does not depend on its values.
_SIZES = (
    *("dim", "element_size", "ndim", "ndimension", "nelement", "numel", "shape", "size"),
    *("device", "dtype", "is_complex", "is_cuda", "is_floating_point", "layout"),
)
_PLAIN = (int, float, bool, str, type(None), torch.dtype)


def is_known(kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the output of an operation is determined by the shapes of its arguments."""
    if kind not in ("call_function", "call_method") or draws(target):
        return False
    unknown = [
        each
        for each in leaves_of((args, kwargs))
        if isinstance(each, torch.Tensor)
        or (isinstance(each, fx.Proxy) and not (isinstance(each, Proxy) and each.is_known))
    ]
    name = args[1] if target is getattr else getattr(target, "__name__", target)
    return not unknown or (len(unknown) == 1 and unknown[0] is args[0] and name in _SIZES)


_DRAWS = (
    *("bernoulli", "cauchy", "exponential", "geometric", "gumbel_softmax", "log_normal"),
    *("multinomial", "normal", "poisson", "rrelu", "uniform"),
)


def draws(target: Any) -> bool:
    """Whether an operation draws random numbers."""
    name = str(getattr(target, "__name__", target)).rstrip("_")
    return name in _DRAWS or name.startswith("rand") or "dropout" in name


def is_fixed(runs: tuple[Any, Any], target: Any) -> bool:
    """Whether an output is the same constant for any number of samples, and can be recorded so."""
    # Functions that are wrapped have to return a proxy.
    module = getattr(target, "__module__", None)
    direct = target is getattr or isinstance(target, str) or module == "_operator"
    two, three = runs
    return direct and type(two) is type(three) and _is_plain(two) and two == three


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)


#: Functions that create tensors, which would otherwise be recorded as constants.
_FACTORIES = (
    *("arange", "empty", "eye", "full", "linspace", "logspace", "ones", "tensor", "zeros"),
    *("rand", "randint", "randn", "randperm"),
)


@contextmanager
def recorded_factories(tracer: Any) -> Iterator[None]:
    """Record the creation of tensors in the code of modules as operations."""
    originals = {name: getattr(torch, name) for name in _FACTORIES}
    thread = threading.get_ident()

    def recorded(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def make(*args: Any, **kwargs: Any) -> Any:
            caller = str(sys._getframe(1).f_globals.get("__name__"))
            others = threading.get_ident() != thread or caller.split(".")[0] == "torch"
            if others or tracer.running:
                return original(*args, **kwargs)
            return tracer.create_proxy("call_function", original, args, kwargs)

        return make

    try:
        for name, original in originals.items():
            setattr(torch, name, recorded(original))
        yield
    finally:
        for name, original in originals.items():
            setattr(torch, name, original)


@dataclass(frozen=True)
class Applied:
    """Call of a `torch.autograd.Function`, which defines its own gradient."""

    function: Any

    @property
    def __name__(self) -> str:
        return str(self.function.__name__)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function.apply(*args, **kwargs)


@contextmanager
def recorded_gradients(tracer: Any) -> Iterator[None]:
    """Record each call of a `torch.autograd.Function` as one operation."""

    @classmethod  # type: ignore[misc]
    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if any(isinstance(each, fx.Proxy) for each in leaves_of((args, kwargs))):
            return tracer.create_proxy("call_function", Applied(cls), args, kwargs)
        return super(base, cls).apply(*args, **kwargs)

    base: Any = _SingleLevelFunction
    try:
        base.apply = apply
        yield
    finally:
        del base.apply


def _length(value: Any) -> Any:
    if isinstance(value, Proxy) and isinstance(value.runs[1], torch.Tensor):
        return value.size(0)
    return builtins.len(value)


def _is_instance(value: Any, kind: Any) -> bool:
    return builtins.isinstance(value.runs[1] if type(value) is Proxy else value, kind)


@contextmanager
def replaced_builtins(root: torch.nn.Module) -> Iterator[None]:
    """Replace `len` and `isinstance` by functions for proxies in the files that define the modules.

    Python's own `len` must return an integer, and therefore cannot return a proxy.
    """
    replaced = {"len": _length, "isinstance": _is_instance}
    changed = []
    for module in root.modules():
        forward = getattr_static(type(module), "forward")
        space = forward.__globals__ if isinstance(forward, FunctionType) else {}
        if not str(space.get("__name__")).startswith("torch."):
            for name in replaced.keys() - space.keys():
                space[name] = replaced[name]
                changed.append((space, name))
    try:
        yield
    finally:
        for space, name in changed:
            del space[name]

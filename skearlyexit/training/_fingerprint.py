"""Hash of everything that a computation depends on: modules, arrays, parameters and code."""

from __future__ import annotations

import dis
import functools
import importlib
import pickle
import site
import sys
import sysconfig
import threading
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy
import sklearn
import skorch
import torch
from joblib.hashing import NumpyHasher

from skearlyexit._data._streamed import StreamedRows

_ERRORS = (
    pickle.PickleError,
    TypeError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    RecursionError,
    ValueError,
)

_LOCKS = (type(threading.Lock()), type(threading.RLock()))


def fingerprint(value: Any) -> str:
    """Hash of a value, which is equal in different processes.

    It extends `joblib.hash`, which gives different hashes for equal tensors, does not depend on the
    order of submodules or on the code of functions, and does not support lambdas. Here, tensors are
    hashed by their values, and functions and classes by their code unless they belong to an
    installed package: the hash of a network changes if its code is edited in a notebook.

    Parameters
    ----------
    value : object
        Value to hash.

    Returns
    -------
    key : str
        Hash as a hexadecimal number.

    Raises
    ------
    ValueError
        If a part of the value cannot be hashed, such as an open file.
    """
    try:
        return str(_Hasher("sha1").hash(value))
    except _ERRORS as error:
        raise ValueError(
            "The 'memory' parameter requires that everything the training depends on can be "
            f"hashed, which failed: {str(error).splitlines()[0][:200]}. Remove this object from "
            "backbone, training, optimizer or callbacks, or give memory=None."
        ) from error


class _Hasher(NumpyHasher):
    """Hashes objects that pickle does not distinguish by lists of their parts."""

    def __init__(self, hash_name: str) -> None:
        super().__init__(hash_name)
        # By identity, together with the object: shared and circular references are recognized.
        self._replaced: dict[int, tuple[Any, list[Any]]] = {}

    def save(self, obj: Any) -> None:
        if id(obj) in self._replaced:
            obj = self._replaced[id(obj)][1]
        else:
            parts = _parts(obj)
            if parts is not None:
                self._replaced[id(obj)] = (obj, parts)
                obj = parts
        super().save(obj)

    def _batch_setitems(self, items: Any, *args: Any) -> None:
        # joblib takes every TypeError for keys without an order and pickles the dict again, by then
        # without the values it has met: one that cannot be pickled would be left out.
        items = list(items)
        try:
            ordered = sorted(items, key=lambda item: item[0])
        except TypeError:
            ordered = sorted(
                ((joblib.hash(key), value) for key, value in items), key=lambda item: item[0]
            )
        pickle._Pickler._batch_setitems(self, iter(ordered), *args)  # type: ignore[attr-defined]

    def memoize(self, obj: Any) -> None:
        # Equal tuples may be one object or two, depending on the interpreter, like strings.
        if not isinstance(obj, tuple):
            super().memoize(obj)


def _parts(obj: Any) -> list[Any] | None:
    """Parts by which an object is hashed, or None if it is hashed by pickling."""
    if isinstance(obj, torch.Tensor):
        # The device is not included: what was trained on an accelerator is loaded on the CPU.
        kind = [type(obj).__name__, str(obj.dtype), obj.requires_grad]
        return [*kind, list(obj.shape), *map(_bytes, _strided(obj.detach()))]
    if isinstance(obj, StreamedRows):
        return ["StreamedRows", str(obj.dtype), list(obj.shape), obj.digest]
    if isinstance(obj, torch.nn.Module):
        return _module_parts(obj)
    if isinstance(obj, types.FunctionType) and _is_to_be_read(obj):
        cells = [cell.cell_contents for cell in obj.__closure__ or ()]
        used = {name: obj.__globals__.get(name) for name in sorted(set(_globals(obj.__code__)))}
        modules = {**used, **dict(_imported(obj.__code__, obj.__globals__.get("__package__")))}
        inner = [] if not hasattr(obj, "__wrapped__") else [obj.__wrapped__]
        signature = [obj.__qualname__, obj.__defaults__, obj.__kwdefaults__]
        return [*signature, obj.__code__, cells, used, _reached(obj.__code__, modules), inner]
    if isinstance(obj, type) and _is_to_be_read(obj):
        return [obj.__qualname__, list(obj.__bases__), dict(_members(obj))]
    if isinstance(obj, functools.cached_property):
        return ["cached_property", obj.func]
    if isinstance(obj, property):
        return ["property", obj.fget, obj.fset]
    if isinstance(obj, staticmethod | classmethod):
        return [type(obj).__name__, obj.__func__]
    if hasattr(obj, "cache_info") and hasattr(obj, "__wrapped__"):
        return ["lru_cache", obj.__wrapped__]
    if isinstance(obj, types.CodeType):
        arguments = [obj.co_argcount, obj.co_posonlyargcount, obj.co_kwonlyargcount, obj.co_flags]
        names = [obj.co_names, obj.co_varnames, obj.co_freevars]
        return [*arguments, obj.co_code, obj.co_exceptiontable, *names, list(obj.co_consts)]
    if isinstance(obj, types.ModuleType):
        return ["module", obj.__name__]
    if isinstance(obj, _LOCKS):
        return [type(obj).__name__]  # the result of a training does not depend on who holds it
    if isinstance(obj, frozenset):
        return ["frozenset", set(obj)]
    return None


def _strided(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Dense tensors with all values of a tensor."""
    tensor = tensor.cpu()
    if tensor.layout == torch.sparse_coo:
        tensor = tensor.coalesce()
        return [tensor.indices(), tensor.values()]
    return [tensor.resolve_conj().resolve_neg()]


def _bytes(tensor: torch.Tensor) -> numpy.ndarray:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy()


def _module_parts(module: torch.nn.Module) -> list[Any]:
    state = dict(vars(module))
    state.pop("_flat_weight_refs", None)  # references of recurrent layers to their own weights
    for name, value in state.items():
        if "_hooks" in name and isinstance(value, dict):
            state[name] = list(value.values())  # the keys are numbered across the process
    # The hash of a dict does not depend on its order, but the output of a module may.
    return [type(module), [name for name, _ in module.named_children()], state]


def _members(cls: type) -> Iterator[tuple[str, Any]]:
    """Methods and constants of a class."""
    slots = (types.MemberDescriptorType, types.GetSetDescriptorType)
    for name, value in vars(cls).items():
        special = name.startswith("__") or name == "_abc_impl"
        if not isinstance(value, slots) and (
            not special or isinstance(value, types.FunctionType | staticmethod | classmethod)
        ):
            yield name, value


def _globals(code: types.CodeType) -> Iterator[str]:
    """Names of global variables that code uses."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals(constant)


def _imported(code: types.CodeType, package: str | None) -> Iterator[tuple[str, Any]]:
    """Modules that code imports when it runs."""
    constants: list[Any] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname == "EXTENDED_ARG":
            continue  # it is included in the argument of the next instruction
        if instruction.opname == "IMPORT_NAME":
            level, names = constants
            yield from _modules("." * level + str(instruction.argval), names or (), package)
        constants = [*constants[-1:], instruction.argval]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _imported(constant, package)


def _modules(
    name: str, parts: Sequence[str], package: str | None
) -> Iterator[tuple[str, types.ModuleType]]:
    """Modules that ``import name`` or ``from name import parts`` imports, with their names."""
    try:
        module = importlib.import_module(name, package)
    except (Exception, SystemExit):
        return  # an import that fails here also fails when the code runs
    yield name, module
    top = module.__name__.split(".")[0]
    yield top, sys.modules[top]
    for part in parts:
        if not hasattr(module, part) and hasattr(module, "__path__"):
            yield from _modules(f"{module.__name__}.{part}", (), None)


def _reached(code: types.CodeType, used: dict[str, Any]) -> dict[str, Any]:
    """Attributes of the user's modules that code may access, by name."""
    names = sorted(set(_all_names(code)))
    found: dict[str, Any] = {}
    waiting, seen = list(used.items()), set()
    while waiting:
        key, module = waiting.pop()
        is_read = isinstance(module, types.ModuleType) and not _is_installed(module)
        if not is_read or (key, id(module)) in seen:
            continue
        seen.add((key, id(module)))
        inner = {f"{key}.{name}": getattr(module, name) for name in names if hasattr(module, name)}
        found |= inner
        known = {number for _, number in seen}
        waiting += [(name, value) for name, value in inner.items() if id(value) not in known]
    return found


def _all_names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _all_names(constant)


def _is_to_be_read(obj: Any) -> bool:
    """Whether a function or class is hashed by its code rather than by its name."""
    # In a worker process of a pool, __main__ is a file of an installed package.
    module = None if obj.__module__ == "__main__" else sys.modules.get(obj.__module__)
    if module is None or not _is_installed(module):
        return True
    found: Any = module
    for name in obj.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is not obj


def _is_installed(module: types.ModuleType) -> bool:
    """Whether a module belongs to Python or to an installed package."""
    file = getattr(module, "__file__", None)
    if file is None:
        # A namespace package, without __init__.py.
        file = next(iter(getattr(module, "__path__", ())), None)
    if file is None:
        return module.__name__ != "__main__"
    path = Path(file)
    return not {"site-packages", "dist-packages"}.isdisjoint(path.parts) or any(
        path.is_relative_to(folder) for folder in _FOLDERS
    )


def _package_folders() -> Iterator[Path]:
    """Folders of Python and of installed packages."""
    for kind, folder in sysconfig.get_paths().items():
        if kind in ("stdlib", "platstdlib", "purelib", "platlib"):
            yield Path(folder)
    yield Path(site.getusersitepackages())
    for package in (numpy, sklearn, skorch, torch):
        yield Path(str(package.__file__)).parents[1]


_FOLDERS = list(_package_folders())

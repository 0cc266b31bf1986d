"""A key for what a computation depends on: modules, arrays, settings and code."""

from __future__ import annotations

import pickle
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from joblib.hashing import NumpyHasher

_SCALARS = (bool, int, float, complex, str, bytes, tuple, type(None))


def fingerprint(value: Any) -> str:
    """Hexadecimal key of a value: the same in every process, and another for another value.

    As `joblib.hash`, which however gives equal tensors different keys, tells neither the order of
    modules nor the code of functions, and takes no lambda. Here tensors count by their numbers,
    and functions and classes that are not of an installed package by their code, so that a network
    edited in a notebook is another network.

    Raises
    ------
    ValueError
        If something in the value cannot be taken apart, such as an open file.
    """
    try:
        return str(_Hasher("sha1").hash(value))
    except (pickle.PickleError, TypeError, AttributeError, NotImplementedError) as error:
        raise ValueError(
            "The 'memory' parameter needs a key for all that training depends on, and something "
            f"in it has none: {error}. Take it out of backbone, training, optimizer or callbacks, "
            "or give memory=None."
        ) from error


class _Hasher(NumpyHasher):
    """Replaces what pickle cannot tell apart by lists of its parts."""

    def __init__(self, hash_name: str) -> None:
        super().__init__(hash_name)
        # By identity, with the object, so that shared and circular parts are met again as such.
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


def _parts(obj: Any) -> list[Any] | None:
    """What an object is to be told by, or None if pickle knows."""
    if isinstance(obj, torch.Tensor):
        numbers = obj.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        kind = [type(obj).__name__, str(obj.dtype), str(obj.device), obj.requires_grad]
        return [*kind, list(obj.shape), numbers]
    if isinstance(obj, torch.nn.Module):
        # Pickled dicts are sorted; modules may be called in the order they were added.
        return [type(obj), [name for name, _ in obj.named_children()], obj.__getstate__()]
    if isinstance(obj, types.FunctionType) and _is_to_be_read(obj):
        cells = [cell.cell_contents for cell in obj.__closure__ or ()]
        used = dict(_globals_of(obj.__code__, obj.__globals__))
        return [obj.__qualname__, obj.__code__, obj.__defaults__, obj.__kwdefaults__, cells, used]
    if isinstance(obj, type) and _is_to_be_read(obj):
        return [obj.__qualname__, list(obj.__bases__), dict(_members(obj))]
    if isinstance(obj, types.CodeType):
        return [obj.co_code, obj.co_names, obj.co_varnames, obj.co_freevars, list(obj.co_consts)]
    if isinstance(obj, frozenset):
        return ["frozenset", set(obj)]
    return None


def _members(cls: type) -> Iterator[tuple[str, Any]]:
    """Methods and constants of a class."""
    for name, value in vars(cls).items():
        if isinstance(value, staticmethod | classmethod):
            value = value.__func__
        if isinstance(value, property):
            value = [each for each in (value.fget, value.fset) if each is not None]
        if isinstance(value, types.FunctionType | list) or (
            isinstance(value, _SCALARS) and not name.startswith("__")
        ):
            yield name, value


def _globals_of(code: types.CodeType, names: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Global constants, functions and classes that some code mentions."""
    for name in code.co_names:
        value = names.get(name)
        if isinstance(value, (*_SCALARS, types.FunctionType, type)) and value is not None:
            yield name, value
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals_of(constant, names)


def _is_to_be_read(obj: Any) -> bool:
    """Whether a function or class has no name to find it by, or code that its user may change."""
    # In the worker of a pool, __main__ is a file of an installed package.
    module = None if obj.__module__ == "__main__" else sys.modules.get(obj.__module__)
    if module is None or "<" in obj.__qualname__:
        return True
    file = getattr(module, "__file__", None)
    return file is not None and not any(Path(file).is_relative_to(each) for each in _FOLDERS)


#: Where Python and installed packages lie.
_FOLDERS = [
    Path(folder)
    for kind, folder in sysconfig.get_paths().items()
    if kind in ("stdlib", "platstdlib", "purelib", "platlib")
]

"""Copies of modules that the user holds."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

#: Where `torch.compile` puts the module that it compiles.
_ORIGINAL = "_orig_mod"


def uncompiled(module: Any) -> Any:
    """The module that `torch.compile` was given, or else the same object."""
    while isinstance(module, torch.nn.Module) and _ORIGINAL in module._modules:
        module = module._modules[_ORIGINAL]
    return module


def copied(modules: Sequence[torch.nn.Module]) -> list[torch.nn.Module]:
    """Copy of modules, in which what they share stays shared, and none is compiled."""
    copies = torch.nn.ModuleList(copy.deepcopy(list(modules)))
    for parent in list(copies.modules()):
        for name, child in parent._modules.items():
            if name != _ORIGINAL:
                parent._modules[name] = uncompiled(child)
    return list(copies)

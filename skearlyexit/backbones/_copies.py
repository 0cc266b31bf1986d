"""Copies of modules given by the user."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.weight_norm import WeightNorm

#: Attribute in which `torch.compile` keeps the module that it compiles.
_ORIGINAL = "_orig_mod"


def uncompiled(module: Any) -> Any:
    """Module that `torch.compile` was called with; any other object is returned unchanged."""
    while isinstance(module, torch.nn.Module) and _ORIGINAL in module._modules:
        module = module._modules[_ORIGINAL]
    return module


def check_copyable(value: Any) -> None:
    """Raise a ValueError if a module, or one of a sequence, is lost in part when it is copied."""
    if isinstance(value, list | tuple):
        for each in value:
            check_copyable(each)
    for each in value.modules() if isinstance(value, torch.nn.Module) else ():
        if any(isinstance(hook, WeightNorm) for hook in each._forward_pre_hooks.values()):
            raise ValueError(
                f"A {type(each).__name__} of the backbone has torch.nn.utils.weight_norm, which "
                "torch cannot copy. Use torch.nn.utils.parametrizations.weight_norm instead."
            )
        for name, tensor in [*each._parameters.items(), *each._buffers.items()]:
            if tensor is not None and tensor.is_complex():
                raise ValueError(
                    f"{name!r} of a {type(each).__name__} of the backbone is complex, and would "
                    "lose its imaginary part in the precision of the samples. Store it as "
                    "torch.view_as_real(...), and use torch.view_as_complex(...) in forward."
                )
        for name, parameter in each._parameters.items():
            if parameter is not None and (
                parameter._backward_hooks or parameter._post_accumulate_grad_hooks
            ):
                raise ValueError(
                    f"The parameter {name!r} of a {type(each).__name__} of the backbone has hooks, "
                    "which torch does not copy. Give hooks to modules instead."
                )


def copied(modules: Sequence[torch.nn.Module]) -> list[torch.nn.Module]:
    """Copies of modules without compilation; what the modules share, the copies share, too."""
    check_copyable(list(modules))
    copies = torch.nn.ModuleList(copy.deepcopy(list(modules)))
    for parent in list(copies.modules()):
        for name, child in parent._modules.items():
            if name != _ORIGINAL:
                parent._modules[name] = uncompiled(child)
    return list(copies)

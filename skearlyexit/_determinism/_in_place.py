"""Modules that may write into what they are called with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from skearlyexit._determinism._layers import Normalized, PaddedLinear


class Copy(torch.nn.Module):
    """Hands on a copy of one tensor, or of each tensor of a tuple."""

    def forward(self, carry: Any) -> Any:
        if isinstance(carry, tuple):
            return tuple(part.clone() for part in carry)
        return carry.clone()


#: Modules whose output never shares memory with their input.
_FRESH = (Copy, Normalized, PaddedLinear, torch.nn.Linear, _ConvNd, _NormBase)
#: Where modules come from that write into their input only if they say so by `inplace`.
_KNOWN = ("torch.nn.modules.", "skearlyexit.")


def may_write(modules: Iterable[torch.nn.Module]) -> bool:
    """Whether modules, run one after another, may write into what the first is called with.

    This is not tested by running them: a module may write in training mode only, for some values
    only, or where torch does not notice it. It is False only where it cannot be otherwise.
    """
    for module in _steps(modules):
        if not (getattr(module, "keeps_input", False) or all(map(_is_known, module.modules()))):
            return True
        if isinstance(module, _FRESH):
            return False
    return False


def keeping_input(module: torch.nn.Module) -> torch.nn.Module:
    """The module, called with a copy if it may write into its input."""
    return torch.nn.Sequential(Copy(), module) if may_write([module]) else module


def _steps(modules: Iterable[torch.nn.Module]) -> Iterator[torch.nn.Module]:
    """The modules, and in place of a chain its parts."""
    for module in modules:
        if type(module) is torch.nn.Sequential and _is_known(module):
            yield from _steps(module)
        else:
            yield module


def _is_known(module: torch.nn.Module) -> bool:
    """Whether its own operations leave its input as it is."""
    changed = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return type(module).__module__.startswith(_KNOWN) and not (
        changed or getattr(module, "inplace", False)
    )

"""Detection of modules that may change their input in place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from skearlyexit._determinism._layers import Normalized, PaddedLinear
from skearlyexit._onnx._graph import Graph
from skearlyexit._onnx._modules import converts, is_changed


class Copy(torch.nn.Module):
    """Returns a copy of a tensor, or of each tensor of a tuple."""

    def forward(self, carry: Any) -> Any:
        if isinstance(carry, tuple):
            return tuple(part.clone() for part in carry)
        return carry.clone()


@converts(Copy)
def _(module: Copy, graph: Graph, tensor: str, example: torch.Tensor) -> str:
    return tensor


#: Modules whose output never shares memory with their input.
_FRESH = (Copy, Normalized, PaddedLinear, torch.nn.Linear, _ConvNd, _NormBase)
#: Packages whose modules change their input in place only if their attribute `inplace` is True.
_KNOWN = ("torch.nn.modules.", "skearlyexit.")


def may_write(modules: Iterable[torch.nn.Module]) -> bool:
    """Whether modules that run one after another may change the input of the first in place.

    This is not tested by running them, since a module may change it in training mode only, for some
    values only, or without torch detecting it. The result is False only if it is certain.
    """
    for module in _steps(modules):
        if not (getattr(module, "keeps_input", False) or all(map(_is_known, module.modules()))):
            return True
        if isinstance(module, _FRESH):
            return False
    return False


def keeping_input(module: torch.nn.Module) -> torch.nn.Module:
    """The module, preceded by a copy if it may change its input in place."""
    return torch.nn.Sequential(Copy(), module) if may_write([module]) else module


def _steps(modules: Iterable[torch.nn.Module]) -> Iterator[torch.nn.Module]:
    """Iterate over modules, with the modules of a chain instead of the chain."""
    for module in modules:
        if type(module) is torch.nn.Sequential and _is_known(module):
            yield from _steps(module)
        else:
            yield module


def _is_known(module: torch.nn.Module) -> bool:
    """Whether the operations of a module itself do not change its input in place."""
    return type(module).__module__.startswith(_KNOWN) and not (
        is_changed(module) or getattr(module, "inplace", False)
    )

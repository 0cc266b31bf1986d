"""State of a module, including tensors that are not in its `state_dict`."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class State:
    """State of a module, including tensors that are not in its ``state_dict``.

    Other attributes, such as numbers or lists of tensors, are not included.

    Attributes
    ----------
    tensors : dict of str to Tensor
        Copies of parameters, of persistent and other buffers, and of tensors that are plain
        attributes of the module or its submodules, by name.
    extra : dict of str to object
        Results of `get_extra_state` of submodules, by name.
    """

    tensors: dict[str, torch.Tensor]
    extra: dict[str, Any]


def state_of(module: torch.nn.Module, device: str | None = None) -> State:
    """Copy of the state of a module, on the given device or on that of each tensor."""
    tensors = {
        name: tensor.detach().to(device or tensor.device, copy=True)
        for name, tensor in _tensors_of(module).items()
    }
    extra = {
        name: copy.deepcopy(part.get_extra_state())
        for name, part in module.named_modules()
        if type(part).get_extra_state is not torch.nn.Module.get_extra_state
    }
    return State(tensors, extra)


@torch.no_grad()
def put_state(module: torch.nn.Module, state: State) -> None:
    """Load a state of the module, or of a module with the same architecture."""
    own = _tensors_of(module)
    for name, tensor in state.tensors.items():
        if name in own and _may_hold(own[name], tensor):
            own[name].copy_(tensor)
        else:  # a tensor that the module itself replaces by a new one
            _set(module, name, tensor.clone())
    for name in own.keys() - state.tensors.keys():
        _set(module, name, None)
    for name, extra in state.extra.items():
        module.get_submodule(name).set_extra_state(copy.deepcopy(extra))


def _set(module: torch.nn.Module, name: str, value: Any) -> None:
    path, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(path), attribute, value)


def _may_hold(own: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether the values of the other tensor can be copied into a tensor."""
    if (own.shape, own.dtype) != (other.shape, other.dtype):
        return False
    is_expanded = own.layout == torch.strided and any(
        stride == 0 and size > 1 for stride, size in zip(own.stride(), own.shape, strict=True)
    )
    return not is_expanded


def _tensors_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = dict(module.named_parameters())
    found |= module.named_buffers()
    for path, part in module.named_modules():
        plain = {name: each for name, each in vars(part).items() if isinstance(each, torch.Tensor)}
        found |= {f"{path}.{name}" if path else name: each for name, each in plain.items()}
    return found

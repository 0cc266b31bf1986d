"""Networks that the user brings as a chain of modules."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch

from skearlyexit.backbones._base import Backbone, Network
from skearlyexit.backbones._measure import run_blocks

_PROBABILITIES = (torch.nn.Softmax, torch.nn.LogSoftmax)


class SequentialBackbone(Backbone):
    """A chain of modules, with the weights that it has.

    An exit may stand after each module. If the chain ends in one output per class, its last module
    with weights, and what follows it, is taken for the network's own classifier; a closing
    ``Softmax`` or ``LogSoftmax`` is left out, since heads answer with logits.

    Parameters
    ----------
    modules : torch.nn.Sequential, torch.nn.Module or sequence of torch.nn.Module
        Copied before use; never trained in place. Any module that is not a chain is one block.
    """

    def __init__(self, modules: torch.nn.Module | Sequence[torch.nn.Module]) -> None:
        self.modules = modules

    def build(self, X: np.ndarray, n_classes: int) -> Network:
        """Copy the modules; see `Backbone.build`."""
        names, blocks = _named_blocks(self.modules)
        if isinstance(blocks[-1], _PROBABILITIES):
            names, blocks = names[:-1], blocks[:-1]
        if not blocks:
            raise ValueError("The backbone has no module but its softmax.")
        sample = torch.tensor(X[:2])
        blocks = [copy.deepcopy(block).to("cpu", sample.dtype) for block in blocks]
        *_, output = run_blocks(blocks, names, sample)
        head = None
        if output.ndim == 2 and output.shape[1] == n_classes:
            start = max((i for i, block in enumerate(blocks) if _has_weights(block)), default=None)
            if start is not None:
                head = torch.nn.Sequential(*blocks[start:])
                names, blocks = names[:start], blocks[:start]
                if not blocks:
                    names, blocks = ["input"], [torch.nn.Flatten()]
        return Network(blocks, names, head, given=True)


def _named_blocks(
    modules: torch.nn.Module | Sequence[torch.nn.Module],
) -> tuple[list[str], list[torch.nn.Module]]:
    if isinstance(modules, torch.nn.Sequential | torch.nn.ModuleList):
        pairs = list(modules.named_children())
    elif isinstance(modules, torch.nn.Module):
        pairs = [(type(modules).__name__, modules)]
    else:
        pairs = [(str(i), module) for i, module in enumerate(modules)]
    for name, module in pairs:
        if not isinstance(module, torch.nn.Module):
            raise TypeError(
                f"Every part of the backbone must be a torch.nn.Module; part {name} is {module!r}."
            )
    if not pairs:
        raise ValueError("The backbone is empty; it needs at least one module.")
    return [name for name, _ in pairs], [module for _, module in pairs]


def _has_weights(module: torch.nn.Module) -> bool:
    return any(True for _ in module.parameters())

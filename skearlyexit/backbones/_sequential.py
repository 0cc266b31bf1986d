"""Networks given by the user as a chain of modules."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch

from skearlyexit.backbones._base import Backbone, Network
from skearlyexit.backbones._chain import Chain
from skearlyexit.backbones._copies import copied, uncompiled
from skearlyexit.backbones._images import notice_of_convolutions
from skearlyexit.backbones._logits import (
    NO_LAYERS,
    PROBABILITIES,
    Log,
    are_probabilities,
    notice_of_outputs,
)
from skearlyexit.backbones._measure import run_network, trial_rows
from skearlyexit.backbones._tracing._tracer import has_hooks


class SequentialBackbone(Backbone):
    """Backbone from a chain of torch modules.

    Training starts with the weights of the modules. An exit can be placed after each module. To
    place exits inside of a module, use `TracedBackbone`.

    If the chain returns one output per class and its last module is a layer with weights, which
    only dropout, flattening or a softmax may follow, that layer is recognized as the network's own
    classifier. Since heads return logits, a final ``Softmax`` or ``LogSoftmax`` is removed. If the
    classifier returns probabilities, their logarithm is used.

    Parameters
    ----------
    modules : torch.nn.Sequential, torch.nn.Module or sequence of torch.nn.Module
        The modules, which are copied and not changed. A module that is not a chain is one block.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from skearlyexit import SequentialBackbone
    >>> layers = nn.Sequential(
    ...     nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
    >>> network = SequentialBackbone(layers).build(np.zeros((4, 8), dtype=np.float32), n_classes=2)
    >>> network.names, network.head
    (['0', '1', '2', '3'], Sequential(
      (0): Linear(in_features=16, out_features=2, bias=True)
    ))
    """

    def __init__(self, modules: torch.nn.Module | Sequence[torch.nn.Module]) -> None:
        self.modules = modules

    def build(self, X: np.ndarray, n_classes: int) -> Network:
        names, blocks = _named_blocks(uncompiled(self.modules))
        if isinstance(blocks[-1], PROBABILITIES):
            names, blocks = names[:-1], blocks[:-1]
        if not blocks:
            raise ValueError("The backbone has no module but its softmax.")
        sample = trial_rows(X)[:2]
        # All in one copy, so that modules which share weights still do.
        blocks = [block.to("cpu", sample.dtype) for block in copied(blocks)]
        output = run_network(Chain(blocks, names=names), sample)
        head = None
        start = _start_of_classifier(blocks)
        if output.ndim == 2 and output.shape[1] == n_classes and start is not None:
            head = torch.nn.Sequential(*blocks[start:])
            if are_probabilities(output):
                head.append(Log())
            names, blocks = names[:start], blocks[:start]
            if not blocks:
                names, blocks = ["input"], [torch.nn.Identity()]
        obstacles = {
            f"{name}.{inner}": f"it is inside of {name!r}, and exits are placed between the "
            "modules of a chain only. Use TracedBackbone to place exits inside of its modules."
            for name, block in zip(names, blocks, strict=True)
            for inner, _ in block.named_modules()
            if inner
        }
        modules = chain.from_iterable(block.modules() for block in blocks)
        notice = notice_of_convolutions(modules, X.shape[1:])
        if head is None and start is not None:
            notice = f"{notice} {notice_of_outputs(output.shape, n_classes)}".strip()
        return Chain(blocks, names=names, head=head, given=True, obstacles=obstacles, notice=notice)


def _is_plain_chain(modules: torch.nn.Module) -> bool:
    """Whether a chain only runs its modules one after another."""
    runs = (torch.nn.Sequential.forward, torch.nn.ModuleList.forward)
    own_train = type(modules).train is not torch.nn.Module.train
    own = has_hooks(modules) or own_train or {"forward", "train"} & vars(modules).keys()
    return not own and type(modules).forward in runs


def _named_blocks(
    modules: torch.nn.Module | Sequence[torch.nn.Module],
) -> tuple[list[str], list[torch.nn.Module]]:
    if isinstance(modules, torch.nn.Sequential | torch.nn.ModuleList):
        if not _is_plain_chain(modules):
            raise ValueError(
                f"The chain given as backbone, a {type(modules).__name__}, has a "
                "forward or hooks of its own, or a train, which would not run with exits between "
                "its modules. Give TracedBackbone(chain), and register hooks on its modules."
            )
        # Not named_children, which skips the second occurrence of a module.
        pairs = list(modules._modules.items())
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


def _start_of_classifier(blocks: list[torch.nn.Module]) -> int | None:
    """Index of the last module with weights; None if another layer follows it, or if none has."""
    for index in range(len(blocks) - 1, -1, -1):
        if any(True for _ in blocks[index].parameters()):
            return index
        if not isinstance(blocks[index], NO_LAYERS):
            return None
    return None

"""Networks that are a chain of modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from skearlyexit.backbones._base import Network
from skearlyexit.backbones._stage import Block, Stage


@dataclass
class Chain(Network):
    """A network whose blocks are modules that run one after another.

    `Network` describes the parameters after `head` in detail.

    Parameters
    ----------
    blocks : list of torch.nn.Module
        The blocks. Each maps a tensor to a tensor, with the samples on the first axis of both. A
        block that passes several tensors to the next one must derive from `Block`.
    names : list of str
        Name of each block, by which the parameter `exits` of the estimators refers to it.
    head : torch.nn.Module or None, default=None
        The network's own classifier. It maps the output of the last block to one logit per class.
    given : bool, default=False
        Whether the weights were given by the user.
    aliases : dict of str to int, default={}
        Alternative names of blocks.
    natural : list of bool or None, default=None
        Whether an automatic placement may place an exit after each block.
    obstacles : dict of str to str, default={}
        Names of modules after which no exit can be placed, with the reason.
    standardize : torch.nn.Module or None, default=None
        Layer of the package that standardizes the input.
    check : callable or None, default=None
        Raises an error if samples are not valid input.
    notice : str, default=""
        Message for the user about how the network interprets the input.
    batch_invariant : bool, default=False
        Whether small batches are padded, so that the prediction for a sample is the same in any.

    Examples
    --------
    >>> import torch
    >>> from skearlyexit.backbones import Chain
    >>> blocks = [torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4)]
    >>> first, second = Chain(blocks, names=["first", "relu", "second"]).cut([1, 2])
    >>> carry, embedding = first(torch.zeros(5, 8))
    >>> tuple(embedding.shape), tuple(second(carry)[1].shape)
    ((5, 16), (5, 4))
    """

    blocks: list[torch.nn.Module]

    def cut(self, ends: Sequence[int]) -> list[Block]:
        starts = [0, *(end + 1 for end in ends[:-1])]
        return [
            Stage(self.blocks[start : end + 1]) for start, end in zip(starts, ends, strict=True)
        ]

    def to(self, dtype: torch.dtype) -> None:
        for module in [*self.blocks, *([] if self.head is None else [self.head])]:
            module.to(dtype)

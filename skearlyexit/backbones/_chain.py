"""Networks that are a chain of modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from skearlyexit.backbones._base import Network
from skearlyexit.backbones._stage import Block, Stage


@dataclass
class Chain(Network):
    """A network that is a chain of modules.

    Attributes
    ----------
    blocks : list of torch.nn.Module
        Run one after another. A block maps a tensor of rows to a tensor of as many rows; one that
        hands on more than that derives from `Block`.
    names : list of str
        One for each block.

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
        """Blocks between two neighboring exits as one; see `Network.cut`."""
        starts = [0, *(end + 1 for end in ends[:-1])]
        return [
            Stage(self.blocks[start : end + 1]) for start, end in zip(starts, ends, strict=True)
        ]

    def to(self, dtype: torch.dtype) -> None:
        """Change the precision of all weights."""
        for module in [*self.blocks, *([] if self.head is None else [self.head])]:
            module.to(dtype)

"""Networks that are a chain of modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from skearlyexit.backbones._base import Block, Network


def run_block(block: torch.nn.Module, carry: Any) -> tuple[Any, torch.Tensor]:
    """Run one block; what an ordinary module returns is both carry and embedding."""
    output = block(carry)
    if not isinstance(block, Block):
        return output, output
    if not isinstance(output, tuple) or len(output) != 2:
        raise TypeError(
            f"{type(block).__name__} is a Block and must return (carry, embedding); it returned "
            f"a {type(output).__name__}."
        )
    return output


def arranged(block: torch.nn.Module, carry: Any) -> Any:
    """What comes into a block or stage, in the arrangement in which it looks at it, if any."""
    own: Any = getattr(block, "arranged", None)
    return carry if own is None else own(carry)


class Stage(Block):
    """Blocks in a row.

    Parameters
    ----------
    blocks : sequence of torch.nn.Module

    Notes
    -----
    **Shape**: carry of n rows to (carry of n rows, embedding of shape (n, ...)).
    """

    def __init__(self, blocks: Sequence[torch.nn.Module]) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(blocks)

    def arranged(self, carry: Any) -> Any:
        """What comes in, in the arrangement in which the first block looks at it."""
        return arranged(self.blocks[0], carry)

    def forward(self, carry: Any) -> tuple[Any, torch.Tensor]:
        """Run all blocks and return the last one's carry and embedding."""
        embedding = carry
        for block in self.blocks:
            carry, embedding = run_block(block, carry)
        return carry, embedding


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
    """

    blocks: list[torch.nn.Module]

    def cut(self, ends: Sequence[int]) -> list[Block]:
        """Blocks between two neighbouring exits as one; see `Network.cut`."""
        starts = [0, *(end + 1 for end in ends[:-1])]
        return [
            Stage(self.blocks[start : end + 1]) for start, end in zip(starts, ends, strict=True)
        ]

    def to(self, dtype: torch.dtype) -> None:
        """Change the precision of all weights."""
        for module in [*self.blocks, *([] if self.head is None else [self.head])]:
            module.to(dtype)

"""Blocks of a network, and several of them in a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from skearlyexit._determinism._in_place import Copy, may_write


class Block(torch.nn.Module):
    """A module whose `forward` returns ``(carry, embedding)``.

    The carry is what the next block is called with, a tensor or a tuple of tensors whose first
    axis is the row; the embedding is the one tensor that a head sees. In a `Chain`, any other
    module stands for a block whose output is both.

    Attributes
    ----------
    keeps_input : bool, default=False
        Whether `forward` never writes into the tensors that it is called with. A stage that begins
        with a block of which this is not known works on a copy of them.

    Examples
    --------
    >>> import torch
    >>> from skearlyexit.backbones import Block
    >>> class Convolution(Block):  # returns a map, of which the head sees the mean
    ...     def __init__(self, n_in, n_out):
    ...         super().__init__()
    ...         self.conv = torch.nn.Conv2d(n_in, n_out, 3, padding=1)
    ...     def forward(self, x):
    ...         x = self.conv(x).relu()
    ...         return x, x.mean(dim=(2, 3))
    >>> carry, embedding = Convolution(1, 8)(torch.zeros(4, 1, 6, 6))
    >>> tuple(carry.shape), tuple(embedding.shape)
    ((4, 8, 6, 6), (4, 8))
    """

    keeps_input: ClassVar[bool] = False


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

    The carry is left as it is: a head may still have to look at it, or it is part of the training
    rows. Blocks that may write into it get a copy.
    """

    keeps_input: ClassVar[bool] = True

    def __init__(self, blocks: Sequence[torch.nn.Module]) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(blocks)
        self.copies_input = may_write(self.blocks)

    def arranged(self, carry: Any) -> Any:
        """What comes in, in the arrangement in which the first block looks at it."""
        return arranged(self.blocks[0], carry)

    def forward(self, carry: Any) -> tuple[Any, torch.Tensor]:
        """Run all blocks and return the last one's carry and embedding."""
        if self.copies_input:
            carry = _COPY(carry)
        embedding = carry
        for block in self.blocks:
            carry, embedding = run_block(block, carry)
        return carry, embedding


_COPY = Copy()

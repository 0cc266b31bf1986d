"""Blocks of a network, and stages, which consist of several of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from skearlyexit._determinism._in_place import Copy, may_write
from skearlyexit._onnx._graph import Graph
from skearlyexit._onnx._modules import UnknownModuleError, add_in_turn, converts


class Block(torch.nn.Module):
    """Base class of blocks whose output for the next block differs from their embedding.

    The method `forward` returns ``(carry, embedding)``. The carry is the input of the next block: a
    tensor, or a tuple of tensors, with the samples on the first axis. The embedding is the tensor
    that the head of an exit after this block gets as its input. In a `Chain`, other modules can be
    blocks, too; their output is both carry and embedding.

    Attributes
    ----------
    keeps_input : bool, default=False
        Whether `forward` never changes its input in place. If False, a stage that begins with this
        block copies its input first.
    n_views : int, default=1
        Number of views of a sample that the block runs on by themselves, each of which a device of
        its own can see. 1 if a sample has no views, or they are merged in the block.
    output_bytes : int, default=0
        Bytes that each of these devices sends to an exit behind the block, where they are merged.

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
    n_views: int = 1
    output_bytes: int = 0


def run_block(block: torch.nn.Module, carry: Any) -> tuple[Any, torch.Tensor]:
    """Run one block, and return its carry and embedding."""
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
    """Input of a block or stage, reshaped as the block itself reshapes it, if it does."""
    own: Any = getattr(block, "arranged", None)
    return carry if own is None else own(carry)


class Stage(Block):
    """Blocks that run one after another.

    Parameters
    ----------
    blocks : sequence of torch.nn.Module

    Notes
    -----
    **Shape**: carry of n samples to (carry of n samples, embedding of shape (n, ...)).

    The input is never changed in place, since it may be the input of a head, too, or part of the
    training samples. Blocks that may change it are called with a copy.
    """

    keeps_input: ClassVar[bool] = True

    def __init__(self, blocks: Sequence[torch.nn.Module]) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(blocks)
        self.copies_input = may_write(self.blocks)

    def arranged(self, carry: Any) -> Any:
        """Input, reshaped as the first block reshapes it."""
        return arranged(self.blocks[0], carry)

    def forward(self, carry: Any) -> tuple[Any, torch.Tensor]:
        """Run all blocks, and return the carry and the embedding of the last one."""
        if self.copies_input:
            carry = _COPY(carry)
        embedding = carry
        for block in self.blocks:
            carry, embedding = run_block(block, carry)
        return carry, embedding


_COPY = Copy()


@converts(Stage)
def _(stage: Stage, graph: Graph, tensor: str, example: torch.Tensor) -> list[str]:
    """Carry and embedding, which are the same unless the last module is a `Block`."""
    if any(isinstance(block, Block) for block in stage.blocks):
        raise UnknownModuleError("a Block with an embedding of its own")
    return [add_in_turn(graph, stage.blocks, tensor, example)] * 2

"""Stages: the blocks between two neighbouring exits, run as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from skearlyexit.backbones._base import Block, Network


def run_block(block: torch.nn.Module, carry: Any) -> tuple[Any, torch.Tensor]:
    """Run one block; what an ordinary module returns is both carry and embedding."""
    output = block(carry)
    return output if isinstance(block, Block) else (output, output)


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

    def forward(self, carry: Any) -> tuple[Any, torch.Tensor]:
        """Run all blocks and return the last one's carry and embedding."""
        embedding = carry
        for block in self.blocks:
            carry, embedding = run_block(block, carry)
        return carry, embedding


def build_stages(network: Network, ends: Sequence[int]) -> list[Stage]:
    """Cut a network after the blocks `ends` (ascending, the last block included)."""
    starts = [0, *(end + 1 for end in ends[:-1])]
    return [Stage(network.blocks[start : end + 1]) for start, end in zip(starts, ends, strict=True)]

"""A trial run of a network on a few rows: what each block costs and returns, or what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from skearlyexit.backbones._base import Block, Network
from skearlyexit.costs import module_macs


@dataclass(frozen=True)
class BlockFacts:
    """What a trial run tells of the blocks of a network.

    Attributes
    ----------
    names : list of str
    macs : ndarray of shape (n_blocks,)
        Multiply-accumulates per row.
    embeddings : list of Tensor
        Embedding of the trial rows after each block.
    row_bytes : int
        Largest memory of one row between two blocks.
    """

    names: list[str]
    macs: np.ndarray
    embeddings: list[torch.Tensor]
    row_bytes: int


def measure_blocks(network: Network, sample: torch.Tensor) -> BlockFacts:
    """Run `sample` through the network, block by block.

    Raises
    ------
    ValueError
        If a block fails on these rows, changes the number of rows or returns something else than
        one tensor (or, for a `Block`, a carry and an embedding).
    """
    macs: list[float] = []
    embeddings = list(run_blocks(network.blocks, network.names, sample, macs))
    sizes = [tensor[0].numel() * tensor.element_size() for tensor in (sample, *embeddings)]
    return BlockFacts(list(network.names), np.asarray(macs), embeddings, max(sizes))


def run_blocks(
    blocks: Sequence[torch.nn.Module],
    names: Sequence[str],
    sample: torch.Tensor,
    macs: list[float] | None = None,
) -> Iterator[torch.Tensor]:
    """Yield the embedding of `sample` after each block; append each block's count to `macs`."""
    carry: Any = sample
    for name, block in zip(names, blocks, strict=True):
        modes = [(module, module.training) for module in block.modules()]
        block.eval()
        try:
            count, output = module_macs(block, carry, len(sample))
        except Exception as error:
            raise ValueError(
                f"Block {name!r} of the backbone fails on rows of shape "
                f"{tuple(sample.shape[1:])}: {error}"
            ) from error
        finally:
            for module, mode in modes:
                module.training = mode
        carry, embedding = _checked(name, block, output, len(sample))
        if macs is not None:
            macs.append(count)
        yield embedding


def _checked(
    name: str, block: torch.nn.Module, output: Any, n_rows: int
) -> tuple[Any, torch.Tensor]:
    """Carry and embedding of a block's output, or what is wrong with it."""
    if isinstance(block, Block):
        if not isinstance(output, tuple) or len(output) != 2:
            raise ValueError(
                f"Block {name!r} of the backbone must return (carry, embedding); got "
                f"{_describe(output)}."
            )
        carry, embedding = output
        parts = carry if isinstance(carry, tuple) else (carry,)
        advice = "Both need one entry per row on their first axis."
    else:
        carry, embedding, parts = output, output, (output,)
        advice = (
            "A block returns one tensor with one entry per row; one that hands on several derives "
            "from skearlyexit.backbones.Block and returns (carry, embedding)."
        )
    for part in (*parts, embedding):
        if not isinstance(part, torch.Tensor):
            raise ValueError(f"Block {name!r} of the backbone returned {_describe(part)}. {advice}")
        if part.ndim < 2 or len(part) != n_rows:
            raise ValueError(
                f"Block {name!r} of the backbone turned {n_rows} rows into a tensor of shape "
                f"{tuple(part.shape)}. {advice}"
            )
    return carry, embedding


def _describe(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"

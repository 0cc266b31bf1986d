"""A trial run of a network on a few samples, which measures its blocks and finds errors."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from skearlyexit._data._streamed import tensor_of
from skearlyexit.backbones._base import Network, stages_of
from skearlyexit.backbones._images import hint_of_channels
from skearlyexit.backbones._stage import Block
from skearlyexit.costs import Cost, CostInput, MACsCost

#: Number of samples among which different ones are sought.
N_LOOKED_AT = 64


@dataclass(frozen=True)
class BlockFacts:
    """Results of a trial run of the blocks of a network.

    Attributes
    ----------
    names : list of str
        Names of the blocks.
    costs : ndarray of shape (n_blocks,)
        Cost per sample of each block alone.
    embeddings : list of Tensor
        Embeddings after each block.
    n_carried : ndarray of shape (n_blocks,), int
        Number of tensors that each block passes on.
    carry_bytes : ndarray of shape (n_blocks,), int
        Size of these tensors for one sample, in bytes.
    row_bytes : int
        Largest memory of one sample between two blocks, in bytes.
    """

    names: list[str]
    costs: np.ndarray
    embeddings: list[torch.Tensor]
    n_carried: np.ndarray
    carry_bytes: np.ndarray
    row_bytes: int


def measure_blocks(
    network: Network, sample: torch.Tensor, cost: Cost | None = None, device: str = "cpu"
) -> BlockFacts:
    """Run a network block by block, check its outputs and measure its costs.

    Parameters
    ----------
    network : Network
    sample : Tensor of shape (n, ...)
        Three samples, or fewer if there are fewer. The results are those of the first two. The
        third serves to check that the output for a sample does not depend on the others.
    cost : Cost, default=None
        Measures the cost of the blocks; None counts multiply-accumulate operations (MACs).
    device : str, default="cpu"
        Device on which the costs are measured.

    Returns
    -------
    facts : BlockFacts

    Raises
    ------
    ValueError
        If a block fails on these samples, mixes them, changes their number, or does not return one
        tensor (or, for a `Block`, a carry and an embedding).
    """
    if not network.names:
        raise ValueError(
            "The backbone has no layer after which an exit could be placed. Give one that has at "
            "least one layer, or None."
        )
    blocks = stages_of(network, range(len(network.names)))
    few = sample[:2]
    with torch.no_grad(), evaluating(blocks):
        carries: list[Any] = [few]
        embeddings = []
        for carry, embedding in run_blocks(blocks, network.names, few):
            carries.append(carry)
            embeddings.append(embedding)
        _check_apart(blocks, network.names, sample, embeddings)
        for _ in run_blocks(blocks, network.names, few[:1]):
            pass  # some networks lose the first axis of a single sample
        parts = [
            CostInput(block.to(device), _moved(carry, device), block)
            for block, carry in zip(blocks, carries[:-1], strict=True)
        ]
        reader = MACsCost() if cost is None else cost
        costs = reader.of_blocks(parts, network.names, network.aliases)
        for block in blocks:
            block.to("cpu")
    carried = [_parts_of(carry) for carry in carries]
    sizes = [sum(map(_row_bytes, parts)) for parts in carried]
    return BlockFacts(
        list(network.names),
        costs,
        embeddings,
        np.array([len(parts) for parts in carried[1:]]),
        np.array(sizes[1:]),
        max(*sizes, *map(_row_bytes, embeddings)),
    )


def run_network(network: Network, sample: torch.Tensor) -> torch.Tensor:
    """Embeddings after the last block of a network, with the checks of `measure_blocks`."""
    blocks = stages_of(network, range(len(network.names)))
    with torch.no_grad(), evaluating(blocks):
        *_, (_, embedding) = run_blocks(blocks, network.names, sample)
    return embedding


def trial_rows(X: Any) -> torch.Tensor:
    """Three samples for a trial run; different ones, unless the first samples are all equal."""
    first, chosen = X[:N_LOOKED_AT], [0]
    for i in range(1, len(first)):
        if len(chosen) < 3 and not any(np.array_equal(first[i], first[j]) for j in chosen):
            chosen.append(i)
    return tensor_of(X[np.resize(chosen, 3)])


def _check_apart(
    blocks: list[Block], names: list[str], sample: torch.Tensor, embeddings: list[torch.Tensor]
) -> None:
    """Raise a ValueError if the output for one of the first two samples depends on the others."""
    error = _mixing(blocks, names, sample, embeddings)
    if error is not None and not _is_rounding(blocks, names, sample):
        raise error


def _mixing(
    blocks: list[Block], names: list[str], sample: torch.Tensor, embeddings: list[torch.Tensor]
) -> ValueError | None:
    before = [embedding.clone() for embedding in embeddings]
    more = sample if len(sample) > 2 else torch.cat([sample, sample[:1]])
    n_rows = len(before[0])

    def changed(rows: torch.Tensor, taken: slice) -> str:
        again = run_blocks(blocks, names, rows)
        for name, first, (_, embedding) in zip(names, before, again, strict=True):
            if not are_close(embedding[taken].flip(0), first):
                return name
        return ""

    whole = slice(None)
    name = changed(more[:n_rows].flip(0), whole)
    mixed = "" if name else changed(more.flip(0), slice(len(more) - n_rows, None))
    for reused, first, now in zip(names, before, embeddings, strict=True):
        if not torch.equal(first.nan_to_num(), now.nan_to_num()):
            return ValueError(
                f"Block {reused!r} of the backbone returns the same memory in every call, which "
                "overwrites its earlier outputs. Let it return a new tensor."
            )
    if mixed:
        return ValueError(
            f"Block {mixed!r} of the backbone mixes samples: its output for a sample depends on "
            "the other samples of the batch, so that samples cannot exit one by one. Modules such "
            "as nn.TransformerEncoderLayer need batch_first=True, and batch normalization "
            "track_running_stats=True."
        )
    # A state kept from call to call may only differ once other samples have been passed.
    name = name or changed(more[:n_rows].flip(0), whole)
    if name:
        return ValueError(
            f"Block {name!r} of the backbone does not return the same for the same samples in "
            "every call. In evaluation mode it must not draw random numbers, keep anything from "
            "call to call, or mix samples."
        )
    return None


def _is_rounding(blocks: list[Block], names: list[str], sample: torch.Tensor) -> bool:
    """Whether outputs do not differ in double precision, if the blocks run in it."""
    if not sample.is_floating_point():
        return False
    copies, rows = [block.double() for block in copy.deepcopy(blocks)], sample.double()
    try:
        embeddings = [embedding for _, embedding in run_blocks(copies, names, rows[:2])]
        return _mixing(copies, names, rows, embeddings) is None
    except ValueError:
        return False


def are_close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors are equal up to rounding errors."""
    if not (b.is_floating_point() or b.is_complex()):
        return torch.equal(a, b)
    scale = max(1.0, float(b.nan_to_num(posinf=0.0, neginf=0.0).abs().max()))
    return a.shape == b.shape and torch.allclose(a, b, 1e-3, 1e-4 * scale, equal_nan=True)


@contextmanager
def evaluating(blocks: list[Block]) -> Iterator[None]:
    """Set evaluation mode, and restore the mode of each module on exit."""
    modes = [(module, module.training) for block in blocks for module in block.modules()]
    for block in blocks:
        block.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def run_blocks(
    blocks: list[Block], names: list[str], sample: torch.Tensor
) -> Iterator[tuple[Any, torch.Tensor]]:
    carry: Any = sample
    for name, block in zip(names, blocks, strict=True):
        try:
            output = block(carry)
        except Exception as error:
            shapes = " and ".join(str(tuple(part.shape[1:])) for part in _parts_of(carry))
            hint = hint_of_channels(tuple(sample.shape[1:]))
            raise ValueError(
                f"Block {name!r} of the backbone fails on samples of shape {shapes}: {error}{hint}"
            ) from error
        carry, embedding = output
        for part in _parts_of(carry):
            _check(name, part, len(sample), n_axes=1)
        _check(name, embedding, len(sample), n_axes=2)
        yield carry, embedding


def _check(name: str, part: Any, n_rows: int, n_axes: int) -> None:
    """Raise a ValueError unless a value is a tensor of `n_rows` samples and enough axes."""
    advice = (
        "A block returns one tensor with one entry per sample on its first axis; one that passes "
        "on several derives from skearlyexit.backbones.Block and returns (carry, embedding)."
    )
    if not isinstance(part, torch.Tensor):
        what = f"a {type(part).__name__}"
        if isinstance(part, tuple | list):
            what += f" of {len(part)}"
        raise ValueError(f"Block {name!r} of the backbone returned {what}. {advice}")
    if n_rows == 1:
        advice += " If there is a single sample, squeeze() removes it; flatten(1) does not."
    if part.ndim < n_axes or len(part) != n_rows:
        raise ValueError(
            f"Block {name!r} of the backbone turned {n_rows} samples into a tensor of shape "
            f"{tuple(part.shape)}. {advice}"
        )


def _parts_of(carry: Any) -> tuple[Any, ...]:
    return carry if isinstance(carry, tuple) else (carry,)


def _moved(carry: Any, device: str) -> Any:
    if isinstance(carry, tuple):
        return tuple(part.to(device) for part in carry)
    return carry.to(device)


def _row_bytes(tensor: torch.Tensor) -> int:
    return tensor[0].numel() * tensor.element_size()

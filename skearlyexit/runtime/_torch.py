"""Execution with torch.

Each batch is padded to a multiple of 16 samples with copies of a sample, in memory allocated by
torch. Together with inner widths that are multiples of 16, this makes the result for a sample
bitwise independent of the other samples. Batches of at most 8 samples are padded less where a test
has shown that the results are the same: for stages whose embeddings have several axes, such as
those of images, and for poolings of these that have no weights. For products of matrices with one
row a sample, whose kernel depends on the number of rows, a few samples could not show that the
results never differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch

from skearlyexit._cascade._cascade import FittedNetwork
from skearlyexit._determinism._layers import GROUP, round_up, to_layers_of_torch
from skearlyexit._determinism._small_batches import (
    N_TESTED,
    SmallBatches,
    padded_size,
    smallest_batch,
    some_rows,
)
from skearlyexit._exit_table import Outputs
from skearlyexit._utils._not_finite import check_finite
from skearlyexit.runtime._executor import Executor, Largest, Store, executor_of

#: Maximum size of the largest embeddings of a slab.
SLAB_BYTES = 2**26
#: The same on the CPU if calls of the heads as such take little time. The embeddings are then in
#: the cache when the samples that go on are copied, and memory is used again.
CACHE_BYTES = 2**22
#: Maximum size of the largest embeddings of a batch on the CPU, which should fit in its cache.
BATCH_BYTES = 2**21

#: What the outputs at an exit are computed from, for one batch: vectors for the head, padded, the
#: number of samples, and the outputs of the gate, if there are gates.
Input = tuple[torch.Tensor, int, Any]


class TorchExecutor(Executor):
    """Executor of a fitted network on its device.

    Parameters
    ----------
    network : FittedNetwork
        Fitted network.
    padded : bool, default=True
        Whether batches are padded so that the result for a sample does not depend on the others.
    """

    def __init__(self, network: FittedNetwork, *, padded: bool = True) -> None:
        self.network, self.padded = network, padded
        self.n_exits, self.n_classes = network.n_exits, network.n_classes
        self.kind = network.kind
        self.combiner = network.combiner
        self.has_gates = bool(network.gates)
        self.small = network.small_batches
        self.batch_rows = _sizes(network.row_bytes, network.device)[1]
        self.on_cpu = torch.device(network.device).type == "cpu"
        self.least_rows = max(self.batch_rows, *(head.rows_per_call for head in network.heads))

    def context(self) -> AbstractContextManager[Any]:
        return torch.inference_mode()

    def slab_rows(self, output_bytes: int, *, large: bool) -> int:
        row_bytes = max(self.network.row_bytes, output_bytes)
        largest = _sizes(row_bytes, self.network.device)[0]
        if large or not self.on_cpu:
            return largest
        return min(largest, _multiple(CACHE_BYTES // row_bytes, self.least_rows, 4096))

    def load(self, X: np.ndarray) -> list[Any]:
        size = self.size(len(X), self.small.stages[0])
        rows = load_rows(X, self.network.device, self.network.dtype, size)
        return _batches(rows, self.batch_rows)

    def batches(self, exit_: int, carry: list[Any], n_rows: int) -> list[tuple[Any, int]]:
        if len(carry) == 1:
            # The smallest batch of this stage may be another than that of the stage before.
            return [(_resized(carry[0], self.size(n_rows, self.small.stages[exit_])), n_rows)]
        n = self.batch_rows
        return [(batch, min(n, n_rows - i * n)) for i, batch in enumerate(carry)]

    def stage_of_batch(self, exit_: int, batch: Any) -> tuple[Any, torch.Tensor]:
        found: tuple[Any, torch.Tensor] = self.network.stages[exit_](batch)
        return found

    def some_of_batch(self, embedding: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        return _gathered(embedding, rows, len(rows))

    def input_of_batch(self, exit_: int, embedding: torch.Tensor, n_rows: int) -> Input:
        network, size = self.network, self.size(n_rows, GROUP)
        few = _resized(embedding, self.size(n_rows, self.small.poolings[exit_]))
        vectors = _padded(network.heads[exit_].pool(few), size)
        if not network.gates:
            return vectors, n_rows, None
        if exit_ == network.n_exits - 1:
            return vectors, n_rows, np.ones(n_rows)
        gates = network.gates[exit_].predict(_padded(embedding, size))[:n_rows]
        return vectors, n_rows, gates

    def output(self, exit_: int, inputs: list[Input], n_rows: int) -> Outputs:
        found = self.network.heads[exit_].outputs(self.vectors(inputs))
        found = np.ascontiguousarray(found[:n_rows])
        if not self.has_gates:
            return Outputs(found)
        return Outputs(found, np.concatenate([gates for *_, gates in inputs]))

    def largest(self, exit_: int, inputs: list[Input], n_rows: int) -> Largest:
        labels, probabilities = self.network.heads[exit_].predict_largest(self.vectors(inputs))
        return Largest(labels[:n_rows], probabilities[:n_rows])

    def output_of_one(self, exit_: int, input_: Input) -> np.ndarray:
        return np.ascontiguousarray(self.network.heads[exit_].outputs_of_one(input_[0]))

    def vectors(self, inputs: list[Input]) -> torch.Tensor:
        """Vectors of all batches, padded after the last one.

        A batch before it has been padded, too, where some of its samples skip the exit.
        """
        if len(inputs) == 1:
            return inputs[0][0]
        parts = [vectors[:n_rows] for vectors, n_rows, _ in inputs]
        n_rows = sum(map(len, parts))
        parts[-1] = inputs[-1][0]
        return _resized(torch.cat(parts), self.size(n_rows, GROUP))

    def take(self, exit_: int, carry: list[Any], rows: np.ndarray) -> list[Any]:
        if len(carry) == 1:
            return [_gathered(carry[0], rows, self.size(len(rows), self.small.stages[exit_]))]
        return super().take(exit_, carry, rows)

    def store(self, exit_: int, n_rows: int) -> _TorchStore:
        return _TorchStore(self, self.small.stages[exit_], n_rows)

    def passed_on(self, exit_: int, carry: list[Any], rows: np.ndarray) -> Any:
        found = _empty(carry[0], len(rows))
        _gather(carry, rows, found)
        return _moved(found, "cpu")

    def joined(self, exit_: int, parts: Sequence[Any]) -> list[Any]:
        if not exit_:
            return self.load(np.concatenate(parts))
        # Copied into memory allocated by torch, as in `load`.
        store = self.store(exit_, sum(map(_n_rows, parts)))
        for part in parts:
            store.add([_moved(part, self.network.device)], np.arange(_n_rows(part)))
        return store.taken()

    def synchronize(self) -> None:
        device = torch.device(self.network.device)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def size(self, n_rows: int, smallest: int) -> int:
        """Size of a batch for so many samples, given the smallest batch."""
        return padded_size(n_rows, smallest) if self.padded else n_rows


class _TorchStore(Store):
    """Carry of samples in memory that is allocated once.

    Parameters
    ----------
    executor : TorchExecutor
        Determines the batches.
    smallest : int
        Smallest batch of the stage.
    n_rows : int
        Maximum number of samples.
    """

    def __init__(self, executor: TorchExecutor, smallest: int, n_rows: int) -> None:
        self.executor, self.smallest, self.n_rows = executor, smallest, n_rows
        self.memory: Any = None
        self.n_held = 0

    def add(self, carry: list[Any], rows: np.ndarray) -> None:
        if self.memory is None:
            self.memory = _empty(carry[0], self.executor.size(self.n_rows, self.smallest))
        stop = self.n_held + len(rows)
        _gather(carry, rows, some_rows(self.memory, slice(self.n_held, stop)))
        self.n_held = stop

    def taken(self) -> list[Any]:
        size = self.executor.size(self.n_held, self.smallest)
        held = _pad(self.memory, self.n_held, size)
        self.n_held = 0
        return _batches(held, self.executor.batch_rows)


executor_of.register(FittedNetwork, TorchExecutor)


def unpadded_executor(network: FittedNetwork) -> TorchExecutor:
    """Executor whose results may depend on the batch; it changes the layers of the network."""
    for module in network.modules():
        to_layers_of_torch(module)
    return TorchExecutor(network, padded=False)


def embed(
    stages: Iterable[torch.nn.Module],
    poolings: dict[int, torch.nn.Module],
    X: np.ndarray,
    *,
    device: str,
    dtype: torch.dtype,
    row_bytes: int,
) -> dict[int, np.ndarray]:
    """Compute the pooled embeddings of some stages.

    Parameters
    ----------
    stages : iterable of Block
        All stages of the network.
    poolings : dict of int to torch.nn.Module
        Pooling of the embeddings of each requested stage, by its index.
    X : ndarray of shape (n_samples, ...)
        Samples.
    device : str
        As in `FittedNetwork`.
    dtype : torch.dtype
        As in `FittedNetwork`.
    row_bytes : int
        As in `FittedNetwork`.

    Returns
    -------
    embeddings : dict of int to ndarray of shape (n_samples, n_features), float64
        Pooled embeddings, by the index of the stage.

    Raises
    ------
    OutputsNotFiniteError
        If an embedding is NaN or infinite.
    """
    parts: dict[int, list[np.ndarray]] = {exit_: [] for exit_ in poolings}
    slab_rows, batch_rows = _sizes(row_bytes, device)
    with torch.inference_mode():
        for start in range(0, len(X), slab_rows):
            slab = X[start : start + slab_rows]
            rows = load_rows(slab, device, dtype, round_up(len(slab)))
            for first in range(0, len(slab), batch_rows):
                carry: Any = rows[first : first + batch_rows]
                for i, stage in enumerate(islice(stages, max(poolings) + 1)):
                    carry, embedding = stage(carry)
                    if i in poolings:
                        vectors = poolings[i](embedding)[: len(slab) - first]
                        parts[i].append(vectors.to("cpu", torch.float64).numpy())
    embeddings = {exit_: np.concatenate(slabs) for exit_, slabs in parts.items()}
    for exit_, vectors in embeddings.items():
        check_finite(vectors, f"The embeddings of exit {exit_} are")
    return embeddings


def with_small_batches(network: FittedNetwork, X: Any) -> FittedNetwork:
    """Find the smallest batches in which results do not depend on the other samples.

    Parameters
    ----------
    network : FittedNetwork
        Fitted network. On a GPU, or if results may depend on the batch, nothing is tested.
    X : ndarray of shape (n_samples, ...)
        Samples, of which some are used.

    Returns
    -------
    network : FittedNetwork
        Network with `tested`, which shares its modules with the given one.
    """
    if torch.device(network.device).type != "cpu" or not network.batch_invariant:
        return network
    # From all parts of the data, which may be sorted.
    chosen = np.linspace(0, len(X) - 1, N_TESTED).astype(int)
    carry: Any = load_rows(np.asarray(X[chosen]), network.device, network.dtype, N_TESTED)
    found = SmallBatches.untested(network.n_exits)
    with torch.inference_mode():
        for i, (stage, head) in enumerate(zip(network.stages, network.heads, strict=True)):
            onward, embedding = stage(carry)
            if embedding.ndim > 2:
                found.stages[i] = smallest_batch(stage, carry)
                if not any(True for _ in head.pooling.parameters()):
                    found.poolings[i] = smallest_batch(head.pool, embedding)
            carry = onward
    return replace(network, tested=found)


def _sizes(row_bytes: int, device: str) -> tuple[int, int]:
    """Number of samples of a slab and of a batch, both multiples of 16."""
    slab = _multiple(SLAB_BYTES // row_bytes, 256, 16384)
    if torch.device(device).type != "cpu":
        return slab, slab
    return slab, min(slab, _multiple(BATCH_BYTES // row_bytes, 64, 1024))


def _multiple(n_rows: int, smallest: int, largest: int) -> int:
    return max(smallest, min(largest, n_rows // GROUP * GROUP))


def load_rows(X: np.ndarray, device: str, dtype: torch.dtype, size: int) -> torch.Tensor:
    """Samples as a padded tensor of a size in memory allocated by torch."""
    # NumPy's memory may be aligned or not, on which the kernels that are used depend.
    tensor = torch.empty((size, *X.shape[1:]), dtype=dtype)
    rows = tensor.numpy()
    rows[: len(X)] = X
    if size > len(X):
        rows[len(X) :] = X[0]
    return tensor if device == "cpu" else tensor.to(device)


def _gathered(carry: Any, rows: np.ndarray, size: int) -> Any:
    """Carry of some samples, padded to a size with copies of the first of them."""
    parts = carry if isinstance(carry, tuple) else (carry,)
    if size > len(rows):
        rows = np.concatenate([rows, np.full(size - len(rows), rows[0])])
    index = torch.from_numpy(rows).to(parts[0].device)
    chosen = tuple(
        torch.index_select(part, 0, index, out=_empty(part, len(rows))) for part in parts
    )
    return chosen if isinstance(carry, tuple) else chosen[0]


def _gather(batches: list[Any], rows: np.ndarray, found: Any) -> None:
    """Copy some samples of the batches, by index in ascending order."""
    if isinstance(found, tuple):
        for column, part in zip(zip(*batches, strict=True), found, strict=True):
            _gather(list(column), rows, part)
        return
    start, offset = 0, 0
    for batch in batches:
        stop = int(rows.searchsorted(offset + len(batch)))
        index = torch.from_numpy(rows[start:stop] - offset).to(batch.device)
        torch.index_select(batch, 0, index, out=found[start:stop])
        start, offset = stop, offset + len(batch)


def _empty(like: Any, n_rows: int) -> Any:
    """Uninitialized carry of so many samples."""
    if isinstance(like, tuple):
        return tuple(_empty(part, n_rows) for part in like)
    # Channels that are last in memory stay there.
    channels_last = like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last)
    return torch.empty(
        (n_rows, *like.shape[1:]),
        dtype=like.dtype,
        device=like.device,
        memory_format=torch.channels_last if channels_last else torch.contiguous_format,
    )


def _pad(carry: Any, n_rows: int, size: int) -> Any:
    """First samples of a carry, of which those from `n_rows` on become copies of the first."""
    if isinstance(carry, tuple):
        return tuple(_pad(part, n_rows, size) for part in carry)
    if size > n_rows:
        carry[n_rows:size] = carry[0]
    return carry[:size]


def _resized(carry: Any, size: int) -> Any:
    """The first samples of a carry or embeddings, padded to a size if they are fewer."""
    n_rows = _n_rows(carry)
    if n_rows == size:
        return carry
    return some_rows(carry, slice(size)) if n_rows > size else _padded(carry, size)


def _padded(carry: Any, size: int) -> Any:
    """Carry or embeddings padded to a size with copies of the first sample, if they are fewer."""
    n_missing = size - _n_rows(carry)
    if n_missing <= 0:
        return carry
    if isinstance(carry, tuple):
        return tuple(_padded(part, size) for part in carry)
    if n_missing == size - 1:
        return _empty(carry, size).copy_(carry)
    copies = carry[:1].expand(n_missing, *carry.shape[1:])
    return torch.cat([carry, copies], out=_empty(carry, size))


def _moved(carry: Any, device: str) -> Any:
    if isinstance(carry, tuple):
        return tuple(part.to(device) for part in carry)
    return carry.to(device)


def _n_rows(carry: Any) -> int:
    # Not by `len`, which torch computes in Python.
    n_rows: int = (carry[0] if isinstance(carry, tuple) else carry).size(0)
    return n_rows


def _batches(carry: Any, batch_rows: int) -> list[Any]:
    if _n_rows(carry) <= batch_rows:
        return [carry]
    if isinstance(carry, tuple):
        return list(zip(*(part.split(batch_rows) for part in carry), strict=True))
    return list(carry.split(batch_rows))

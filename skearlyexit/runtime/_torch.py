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

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch

from skearlyexit._cascade._cascade import FittedNetwork
from skearlyexit._determinism._layers import GROUP, round_up
from skearlyexit._determinism._small_batches import (
    N_TESTED,
    SmallBatches,
    padded_size,
    smallest_batch,
    some_rows,
)
from skearlyexit._exit_table import Outputs
from skearlyexit._utils._not_finite import check_embeddings
from skearlyexit.runtime._executor import Executor

#: Maximum size of the largest embeddings of a slab.
SLAB_BYTES = 2**26
#: Maximum size of the largest embeddings of a batch on the CPU, which should fit in its cache.
BATCH_BYTES = 2**18


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
        self.combiner = network.combiner
        self.has_gates = bool(network.gates)
        self.small = network.small_batches
        self.batch_rows = _sizes(network.row_bytes, network.device)[1]

    def context(self) -> AbstractContextManager[Any]:
        return torch.inference_mode()

    def slab_rows(self, output_bytes: int) -> int:
        return _sizes(max(self.network.row_bytes, output_bytes), self.network.device)[0]

    def load(self, X: np.ndarray) -> Any:
        size = self._size(len(X), self.small.stages[0])
        return _load(X, self.network.device, self.network.dtype, size)

    def stage(self, exit_: int, carry: Any, n_rows: int) -> tuple[Any, Any]:
        size = self._size(n_rows, self.small.stages[exit_])
        return _run_stage(self.network.stages[exit_], _resized(carry, size), size, self.batch_rows)

    def output(self, exit_: int, embedding: Any, n_rows: int) -> Outputs:
        network, size = self.network, self._size(n_rows, GROUP)
        head = network.heads[exit_]
        vectors = head.pool(_resized(embedding, self._size(n_rows, self.small.poolings[exit_])))
        probabilities = head.predict_proba(_padded(vectors, size))
        probabilities = np.ascontiguousarray(probabilities[:n_rows])
        if not network.gates:
            return Outputs(probabilities)
        if exit_ == network.n_exits - 1:
            return Outputs(probabilities, np.ones(n_rows))
        gates = network.gates[exit_].predict(_padded(embedding, size))
        return Outputs(probabilities, gates[:n_rows])

    def take(self, exit_: int, carry: Any, rows: np.ndarray) -> Any:
        return _gather(carry, rows, self._size(len(rows), self.small.stages[exit_ + 1]))

    def _size(self, n_rows: int, smallest: int) -> int:
        """Size of a batch for so many samples, given the smallest batch."""
        return padded_size(n_rows, smallest) if self.padded else n_rows


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
            n_rows = len(slab)
            carry: Any = _load(slab, device, dtype, round_up(n_rows))
            for i, stage in enumerate(islice(stages, max(poolings) + 1)):
                carry, embedding = _run_stage(stage, carry, _n_rows(carry), batch_rows)
                if i in poolings:
                    vectors = poolings[i](embedding)[:n_rows]
                    parts[i].append(vectors.to("cpu", torch.float64).numpy())
    embeddings = {exit_: np.concatenate(slabs) for exit_, slabs in parts.items()}
    for exit_, vectors in embeddings.items():
        check_embeddings(vectors, f"The embeddings of exit {exit_} are")
    return embeddings


def with_small_batches(network: FittedNetwork, X: Any) -> FittedNetwork:
    """Find the smallest batches in which results do not depend on the other samples.

    Parameters
    ----------
    network : FittedNetwork
        Fitted network. On a GPU, nothing is tested.
    X : ndarray of shape (n_samples, ...)
        Samples, of which some are used.

    Returns
    -------
    network : FittedNetwork
        Network with `tested`, which shares its modules with the given one.
    """
    if torch.device(network.device).type != "cpu":
        return network
    # From all parts of the data, which may be sorted.
    chosen = np.linspace(0, len(X) - 1, N_TESTED).astype(int)
    carry: Any = _load(np.asarray(X[chosen]), network.device, network.dtype, N_TESTED)
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
    return slab, min(slab, _multiple(BATCH_BYTES // row_bytes, 64, 512))


def _multiple(n_rows: int, smallest: int, largest: int) -> int:
    return max(smallest, min(largest, n_rows // GROUP * GROUP))


def _load(X: np.ndarray, device: str, dtype: torch.dtype, size: int) -> torch.Tensor:
    """Samples as a padded tensor of a size in memory allocated by torch."""
    # NumPy's memory may be aligned or not, on which the kernels that are used depend.
    tensor = torch.empty((size, *X.shape[1:]), dtype=dtype)
    rows = tensor.numpy()
    rows[: len(X)] = X
    if size > len(X):
        rows[len(X) :] = X[0]
    return tensor if device == "cpu" else tensor.to(device)


def _gather(carry: Any, rows: np.ndarray, size: int) -> Any:
    """Carry of some samples, padded to a size with copies of the first of them."""
    parts = carry if isinstance(carry, tuple) else (carry,)
    if size > len(rows):
        rows = np.concatenate([rows, np.full(size - len(rows), rows[0])])
    index = torch.from_numpy(rows).to(parts[0].device)
    chosen = tuple(part.index_select(0, index) for part in parts)
    return chosen if isinstance(carry, tuple) else chosen[0]


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
    return torch.cat([carry, carry[:1].expand(n_missing, *carry.shape[1:])])


def _n_rows(carry: Any) -> int:
    # Not by `len`, which torch computes in Python.
    n_rows: int = (carry[0] if isinstance(carry, tuple) else carry).size(0)
    return n_rows


def _batches(carry: Any, batch_rows: int) -> Iterator[Any]:
    if isinstance(carry, tuple):
        yield from zip(*(part.split(batch_rows) for part in carry), strict=True)
    else:
        yield from carry.split(batch_rows)


def _run_stage(
    stage: torch.nn.Module, carry: Any, n_rows: int, batch_rows: int
) -> tuple[Any, torch.Tensor]:
    """Carry and embeddings of a padded slab of so many samples, computed in batches."""
    if n_rows <= batch_rows:
        return stage(carry)
    outputs = [stage(batch) for batch in _batches(carry, batch_rows)]
    embedding = torch.cat([embedding for _, embedding in outputs])
    if outputs[0][0] is outputs[0][1]:
        return embedding, embedding
    if isinstance(outputs[0][0], tuple):
        columns = zip(*(part for part, _ in outputs), strict=True)
        return tuple(torch.cat(column) for column in columns), embedding
    return torch.cat([part for part, _ in outputs]), embedding

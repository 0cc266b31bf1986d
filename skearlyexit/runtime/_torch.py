"""Execution of a cascade with torch, stage by stage.

A slab is as many samples as `SLAB_BYTES` allows. A stage is computed for all samples of a slab that
have not exited before, so that later stages, too, are computed on full batches. If samples were
removed within each batch instead, the batches of the later stages would be small.

Each batch is padded to a multiple of 16 samples with copies of a sample, in memory allocated by
torch. Together with inner widths that are multiples of 16, this makes the result for a sample
bitwise independent of the other samples. Batches of at most 8 samples are padded less where a test
has shown that the results are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch

from skearlyexit._cascade._cascade import Cascade, FittedNetwork
from skearlyexit._cascade._exit_rule import NO_STATE, ExitRule
from skearlyexit._determinism._layers import GROUP, round_up
from skearlyexit._determinism._small_batches import (
    N_TESTED,
    SmallBatches,
    padded_size,
    smallest_batch,
    some_rows,
)
from skearlyexit._exit_table import ExitTable, LabelTable, Outputs
from skearlyexit._utils._not_finite import (
    OutputsNotFiniteError,
    check_embeddings,
    check_outputs,
    located,
)
from skearlyexit.calibration._strict_budget import StrictBudget

#: Maximum size of the largest embeddings of a slab.
SLAB_BYTES = 2**26
#: Number of arrays of the size of the probabilities that exist at the same time: logits,
#: probabilities, and temporary arrays of the exit rule.
OUTPUT_COPIES = 4
#: Maximum size of the largest embeddings of a batch on the CPU, which should fit in its cache.
BATCH_BYTES = 2**18


@dataclass(frozen=True)
class Answers:
    """Predictions of a cascade.

    Attributes
    ----------
    labels : ndarray of shape (n_samples,)
        Index of the class predicted at the exit of each sample.
    exits : ndarray of shape (n_samples,)
        Index of the exit of each sample.
    probabilities : ndarray of shape (n_samples, n_classes) or None, default=None
        Predicted probabilities at the exit of each sample. None if they are not requested.
    """

    labels: np.ndarray
    exits: np.ndarray
    probabilities: np.ndarray | None = None


#: Function that is called at each exit whose head is computed, with the index of the exit, the
#: indices of the samples that reach it and their outputs. Returns a mask of the samples that exit.
Visitor = Callable[[int, np.ndarray, Outputs], np.ndarray]


def run(
    cascade: Cascade,
    X: np.ndarray,
    thresholds: np.ndarray,
    *,
    strict_budget: StrictBudget | None = None,
    with_probabilities: bool = False,
    slab_rows: int | None = None,
) -> Answers:
    """Predict for all samples; stages after the exit of a sample are not computed for it.

    Parameters
    ----------
    cascade : Cascade
        Fitted cascade.
    X : ndarray of shape (n_samples, ...)
        Samples.
    thresholds : ndarray of shape (n_exits - 1,)
        Thresholds of all exits but the last. If a threshold is above 1, no sample can exit there,
        and the head is computed only if the exit rule or `strict_budget` requires it.
    strict_budget : StrictBudget or None, default=None
        Strict budget. Where the thresholds would exceed it, the samples with the highest scores
        exit instead. It holds for each slab.
    with_probabilities : bool, default=False
        Whether to return predicted probabilities in addition to labels.
    slab_rows : int or None, default=None
        Number of samples of a slab. None chooses it by memory.

    Returns
    -------
    answers : Answers
        Predictions and exits.
    """
    network, exit_rule = cascade.network, cascade.exit_rule
    labels, exits = np.empty(len(X), dtype=np.intp), np.empty(len(X), dtype=np.intp)
    probabilities = np.empty((len(X), network.n_classes)) if with_probabilities else None
    answers = Answers(labels, exits, probabilities)
    used = _heads_in_use(cascade, thresholds, strict_budget)
    _visit(
        network,
        exit_rule,
        X,
        used,
        lambda n_rows: _ExitVisitor(exit_rule, thresholds, strict_budget, n_rows, answers),
        slab_rows,
    )
    return answers


def outputs(network: FittedNetwork, X: np.ndarray, *, slab_rows: int | None = None) -> Outputs:
    """Outputs of all heads for all samples, of which none exits early."""
    probabilities = np.empty((len(X), network.n_exits, network.n_classes))
    gates = np.empty((len(X), network.n_exits)) if network.gates else None

    def record(exit_: int, rows: np.ndarray, output: Outputs) -> np.ndarray:
        probabilities[rows, exit_] = output.probabilities
        if gates is not None:
            gates[rows, exit_] = output.gates
        return np.zeros(len(rows), dtype=bool)

    used = np.ones(network.n_exits, dtype=bool)
    _visit(network, None, X, used, lambda n_rows: record, slab_rows)
    return Outputs(probabilities, gates)


def tabulate(cascade: Cascade, X: np.ndarray, *, slab_rows: int | None = None) -> ExitTable:
    """Exit table of samples."""
    return cascade.exit_rule.tabulate(outputs(cascade.network, X, slab_rows=slab_rows))


def label_table(
    network: FittedNetwork, exit_rule: ExitRule, X: np.ndarray, *, slab_rows: int | None = None
) -> LabelTable:
    """Labels and scores of all exits for all samples, computed without storing probabilities."""
    shape = len(X), network.n_exits
    labels, scores = np.empty(shape, dtype=np.intp), np.empty(shape)

    def visitor(n_rows: int) -> Visitor:
        state = NO_STATE

        def record(exit_: int, rows: np.ndarray, output: Outputs) -> np.ndarray:
            nonlocal state
            answer, scores[rows, exit_], state = exit_rule.step(state, output, exit_)
            labels[rows, exit_] = answer.argmax(axis=1)
            return np.zeros(len(rows), dtype=bool)

        return record

    _visit(network, exit_rule, X, np.ones(network.n_exits, dtype=bool), visitor, slab_rows)
    return LabelTable(labels, scores)


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
                carry, embedding = _run_stage(stage, carry, batch_rows)
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
        Samples, of which the first ones are used.

    Returns
    -------
    network : FittedNetwork
        Network with `tested`, which shares its modules with the given one.
    """
    if torch.device(network.device).type != "cpu":
        return network
    first = np.asarray(X[:N_TESTED])
    rows = first[np.arange(N_TESTED) % len(first)]
    carry: Any = _load(rows, network.device, network.dtype, N_TESTED)
    stages, heads = [], []
    with torch.inference_mode():
        for stage, head in zip(network.stages, network.heads, strict=True):
            stages.append(smallest_batch(stage, carry))
            carry, embedding = stage(carry)
            heads.append(smallest_batch(head.predict_proba, embedding))
    return replace(network, tested=SmallBatches(stages, heads))


class _ExitVisitor:
    """Visitor of a slab that determines the samples that exit, and stores their predictions.

    Parameters
    ----------
    exit_rule : ExitRule
        Fitted exit rule.
    thresholds : ndarray of shape (n_exits - 1,)
        Thresholds of all exits but the last.
    strict_budget : StrictBudget or None
        Strict budget.
    n_rows : int
        Number of samples of the slab.
    answers : Answers
        Arrays for the predictions of all samples, which are modified in place.
    """

    def __init__(
        self,
        exit_rule: ExitRule,
        thresholds: np.ndarray,
        strict_budget: StrictBudget | None,
        n_rows: int,
        answers: Answers,
    ) -> None:
        self.exit_rule, self.thresholds, self.strict_budget = exit_rule, thresholds, strict_budget
        self.remaining = 0.0 if strict_budget is None else strict_budget.budget * n_rows
        self.answers = answers
        self.state = NO_STATE

    def __call__(self, exit_: int, rows: np.ndarray, output: Outputs) -> np.ndarray:
        if exit_ == len(self.thresholds):
            answer, _ = self.exit_rule.answer(self.state, output, exit_)
            exiting = np.ones(len(rows), dtype=bool)
        else:
            answer, score, self.state = self.exit_rule.step(self.state, output, exit_)
            exiting = score >= self.thresholds[exit_]
            if self.strict_budget is not None:
                n_exiting = self.strict_budget.n_leaving(exit_, len(rows), self.remaining)
                if np.count_nonzero(exiting) < n_exiting:
                    exiting[np.argsort(-score, kind="stable")[:n_exiting]] = True
                self.remaining -= float(np.count_nonzero(exiting) * self.strict_budget.costs[exit_])
            self.state = self.exit_rule.take(self.state, ~exiting)
        chosen = rows[exiting]
        self.answers.labels[chosen] = answer.argmax(axis=1)[exiting]
        self.answers.exits[chosen] = exit_
        if self.answers.probabilities is not None:
            self.answers.probabilities[chosen] = answer[exiting]
        return exiting


def _heads_in_use(
    cascade: Cascade, thresholds: np.ndarray, strict_budget: StrictBudget | None
) -> np.ndarray:
    """Mask of the heads that have to be computed for these thresholds and this strict budget."""
    if cascade.exit_rule.combination.has_memory or cascade.network.combiner is not None:
        return np.ones(cascade.n_exits, dtype=bool)
    used = np.append(thresholds <= 1, True)
    if strict_budget is not None:
        used = strict_budget.heads_needed(used)
    if cascade.exit_rule.policy.has_memory:
        # The score at an exit where samples can exit depends on all heads before it.
        used[:-1] = np.logical_or.accumulate(used[-2::-1])[::-1]
    return used


def _visit(
    network: FittedNetwork,
    exit_rule: ExitRule | None,
    X: np.ndarray,
    used: np.ndarray,
    visitor: Callable[[int], Visitor],
    slab_rows: int | None,
) -> None:
    """Run the network on all samples, slab by slab, with a new visitor for each slab.

    Raises
    ------
    OutputsNotFiniteError
        If any outputs are not finite. It is raised after all slabs and contains all such samples.
    """
    failed: list[OutputsNotFiniteError] = []
    row_bytes = max(network.row_bytes, _output_bytes(network, exit_rule))
    default_slab = _sizes(row_bytes, network.device)[0]
    batch_rows = min(default_slab, _sizes(network.row_bytes, network.device)[1])
    slab_rows = slab_rows or default_slab
    small = network.small_batches
    with torch.inference_mode():
        for start in range(0, len(X), slab_rows):
            rows = np.arange(start, min(start + slab_rows, len(X)))
            size = padded_size(len(rows), small.stages[0])
            carry = _load(X[rows[0] : rows[-1] + 1], network.device, network.dtype, size)
            try:
                _visit_slab(network, small, rows, carry, used, visitor(len(rows)), batch_rows)
            except OutputsNotFiniteError as error:
                failed.append(error)
    if failed:
        positions = np.concatenate([error.positions for error in failed])
        raise OutputsNotFiniteError(failed[0].what, positions)


def _visit_slab(
    network: FittedNetwork,
    small: SmallBatches,
    rows: np.ndarray,
    carry: Any,
    used: np.ndarray,
    visitor: Visitor,
    batch_rows: int,
) -> None:
    combined: np.ndarray | None = None
    for exit_, stage in enumerate(network.stages):
        size = padded_size(len(rows), small.stages[exit_])
        carry = _padded(some_rows(carry, slice(size)) if _n_rows(carry) > size else carry, size)
        carry, embedding = _run_stage(stage, carry, batch_rows)
        if not used[exit_]:
            continue
        output = _output(network, small, exit_, embedding, len(rows))
        if network.combiner is not None:
            answer, combined = network.combiner.combine(combined, output, exit_)
            output = replace(output, probabilities=np.ascontiguousarray(answer))
        with located(rows):
            check_outputs(output.probabilities, f"The outputs of exit {exit_} are")
            if output.gates is not None:
                check_outputs(output.gates, f"The gates of exit {exit_} are")
            exiting = visitor(exit_, rows, output)
        stay = np.flatnonzero(~exiting)
        if not len(stay):
            return
        if len(stay) < len(rows):
            rows = rows[stay]
            carry = _gather(carry, stay, padded_size(len(stay), small.stages[exit_ + 1]))
            combined = None if combined is None else combined[stay]


def _output(
    network: FittedNetwork, small: SmallBatches, exit_: int, embedding: torch.Tensor, n_rows: int
) -> Outputs:
    """Outputs of the head and the gate at an exit."""
    size = padded_size(n_rows, small.heads[exit_])
    probabilities = network.heads[exit_].predict_proba(_padded(embedding, size))
    probabilities = np.ascontiguousarray(probabilities[:n_rows])
    if not network.gates:
        return Outputs(probabilities)
    if exit_ == network.n_exits - 1:
        return Outputs(probabilities, np.ones(n_rows))
    # A sigmoid of a single value for each sample is computed differently for the last few.
    gates = network.gates[exit_].predict(_padded(embedding, round_up(n_rows)))
    return Outputs(probabilities, gates[:n_rows])


def _output_bytes(network: FittedNetwork, exit_rule: ExitRule | None) -> int:
    """Memory of the outputs of the heads for one sample, including those in a state."""
    remembers = exit_rule is not None and exit_rule.combination.has_memory
    n_remembered = network.n_exits if remembers else 0
    return (OUTPUT_COPIES + n_remembered) * network.n_classes * np.dtype(np.float64).itemsize


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
    tensor.numpy()[: len(X)] = X
    if size > len(X):
        tensor[len(X) :] = tensor[0]
    return tensor.to(device)


def _gather(carry: Any, rows: np.ndarray, size: int) -> Any:
    """Carry of some samples, padded to a size with copies of the first of them."""
    parts = carry if isinstance(carry, tuple) else (carry,)
    if size > len(rows):
        rows = np.concatenate([rows, np.full(size - len(rows), rows[0])])
    index = torch.from_numpy(rows).to(parts[0].device)
    chosen = tuple(part.index_select(0, index) for part in parts)
    return chosen if isinstance(carry, tuple) else chosen[0]


def _padded(carry: Any, size: int) -> Any:
    """Carry or embeddings padded to a size with copies of the first sample, if they are fewer."""
    n_missing = size - _n_rows(carry)
    if n_missing <= 0:
        return carry
    if isinstance(carry, tuple):
        return tuple(_padded(part, size) for part in carry)
    return torch.cat([carry, carry[:1].expand(n_missing, *carry.shape[1:])])


def _n_rows(carry: Any) -> int:
    return len(carry[0]) if isinstance(carry, tuple) else len(carry)


def _batches(carry: Any, batch_rows: int) -> Iterator[Any]:
    if isinstance(carry, tuple):
        yield from zip(*(part.split(batch_rows) for part in carry), strict=True)
    else:
        yield from carry.split(batch_rows)


def _run_stage(stage: torch.nn.Module, carry: Any, batch_rows: int) -> tuple[Any, torch.Tensor]:
    """Carry and embeddings of a padded slab, computed in batches."""
    if _n_rows(carry) <= batch_rows:
        return stage(carry)
    outputs = [stage(batch) for batch in _batches(carry, batch_rows)]
    embedding = torch.cat([embedding for _, embedding in outputs])
    if outputs[0][0] is outputs[0][1]:
        return embedding, embedding
    if isinstance(outputs[0][0], tuple):
        columns = zip(*(part for part, _ in outputs), strict=True)
        return tuple(torch.cat(column) for column in columns), embedding
    return torch.cat([part for part, _ in outputs]), embedding

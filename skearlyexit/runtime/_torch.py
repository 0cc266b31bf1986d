"""Stage by stage on torch: all rows of a slab through a stage, then only those that go on.

Dropping rows inside each small batch would starve the later stages; here each of them works on
full batches of survivors, and memory is bounded by the slab.

Every pass is filled up to a multiple of 16 rows by repeating a real one, and works on memory that
torch allocated. Together with inner widths that are multiples of 16 this makes the result for a
row, to the last bit, the same whatever other rows are computed with it.
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
from skearlyexit._determinism._layers import GROUP
from skearlyexit._exit_table import ExitTable, LabelTable, Outputs
from skearlyexit._utils._not_finite import (
    OutputsNotFiniteError,
    check_embeddings,
    check_outputs,
    located,
)
from skearlyexit.calibration._strict_budget import StrictBudget

#: Bytes of the widest embedding of a slab, and of a batch within it on the CPU, which a core's
#: cache should hold.
SLAB_BYTES = 2**26
#: Arrays of probabilities alive at once: logits, probabilities, and what a policy makes of them.
OUTPUT_COPIES = 4
BATCH_BYTES = 2**18


@dataclass(frozen=True)
class Answers:
    """What a run gives.

    Attributes
    ----------
    labels : ndarray of shape (n_samples,)
        Index of the most probable class at the exit at which each row left.
    exits : ndarray of shape (n_samples,)
    probabilities : ndarray of shape (n_samples, n_classes) or None
        Of the exit at which each row left, if they were asked for.
    """

    labels: np.ndarray
    exits: np.ndarray
    probabilities: np.ndarray | None = None


#: Called at every exit whose head runs, with the exit, the samples that reach it and the outputs
#: for them; returns a mask of those that exit.
Visitor = Callable[[int, np.ndarray, Outputs], np.ndarray]


def run(
    cascade: Cascade,
    X: np.ndarray,
    thresholds: np.ndarray,
    *,
    quota: StrictBudget | None = None,
    with_probabilities: bool = False,
    slab_rows: int | None = None,
) -> Answers:
    """Answer every row, computing for none what lies behind its exit.

    Parameters
    ----------
    cascade : Cascade
    X : ndarray of shape (n_samples, ...)
    thresholds : ndarray of shape (n_exits - 1,)
        Heads of exits that no sample can take (above 1) are skipped unless the decision or the
        quota needs them.
    quota : StrictBudget or None, default=None
        Lets the samples of the highest scores exit, whatever the thresholds are, where the budget
        would otherwise be exceeded; it is kept on every slab.
    with_probabilities : bool, default=False
        Whether to keep the probabilities, and not only the labels, of all rows.
    slab_rows : int or None, default=None
        Rows taken through the network together; None bounds them by memory.
    """
    network, exit_rule = cascade.network, cascade.exit_rule
    labels, exits = np.empty(len(X), dtype=np.intp), np.empty(len(X), dtype=np.intp)
    probabilities = np.empty((len(X), network.n_classes)) if with_probabilities else None
    answers = Answers(labels, exits, probabilities)
    used = _heads_in_use(cascade, thresholds, quota)
    _visit(
        network,
        exit_rule,
        X,
        used,
        lambda n_rows: _Leaving(exit_rule, thresholds, quota, n_rows, answers),
        slab_rows,
    )
    return answers


def outputs(network: FittedNetwork, X: np.ndarray, *, slab_rows: int | None = None) -> Outputs:
    """Outputs of every head for every sample: a run in which no sample exits early."""
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
    """Answers and scores of every exit for every row."""
    return cascade.exit_rule.tabulate(outputs(cascade.network, X, slab_rows=slab_rows))


def label_table(
    network: FittedNetwork, exit_rule: ExitRule, X: np.ndarray, *, slab_rows: int | None = None
) -> LabelTable:
    """Labels and scores of every exit for every sample; probabilities are kept for no slab."""
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
    """Pooled embeddings of some stages, computed in one pass.

    Parameters
    ----------
    stages : iterable of Stage
    poolings : dict of int to torch.nn.Module
        For each stage asked for, the module that makes vectors of its embeddings.
    X : ndarray of shape (n_samples, ...)
    device, dtype, row_bytes : as in `FittedNetwork`

    Returns
    -------
    embeddings : dict of int to ndarray of shape (n_samples, n_features), float64

    Raises
    ------
    OutputsNotFiniteError
        If any of them is NaN or infinite.
    """
    parts: dict[int, list[np.ndarray]] = {exit_: [] for exit_ in poolings}
    slab_rows, batch_rows = _sizes(row_bytes, device)
    with torch.inference_mode():
        for start in range(0, len(X), slab_rows):
            slab = X[start : start + slab_rows]
            carry: Any = _load(slab, device, dtype)
            n_rows = len(slab)
            for i, stage in enumerate(islice(stages, max(poolings) + 1)):
                carry, embedding = _run_stage(stage, carry, batch_rows)
                if i in poolings:
                    vectors = poolings[i](embedding)[:n_rows]
                    parts[i].append(vectors.to("cpu", torch.float64).numpy())
    embeddings = {exit_: np.concatenate(slabs) for exit_, slabs in parts.items()}
    for exit_, vectors in embeddings.items():
        check_embeddings(vectors, f"The embeddings of exit {exit_} are")
    return embeddings


class _Leaving:
    """Which rows of a slab leave, and with which answers.

    Parameters
    ----------
    exit_rule : ExitRule
    thresholds : ndarray of shape (n_exits - 1,)
    quota : StrictBudget or None
    n_rows : int
        Rows of the slab.
    answers : Answers
        Where the answers go.
    """

    def __init__(
        self,
        exit_rule: ExitRule,
        thresholds: np.ndarray,
        quota: StrictBudget | None,
        n_rows: int,
        answers: Answers,
    ) -> None:
        self.exit_rule, self.thresholds, self.quota = exit_rule, thresholds, quota
        self.left = 0.0 if quota is None else quota.budget * n_rows
        self.answers = answers
        self.state = NO_STATE

    def __call__(self, exit_: int, rows: np.ndarray, output: Outputs) -> np.ndarray:
        if exit_ == len(self.thresholds):
            answer, _ = self.exit_rule.answer(self.state, output, exit_)
            leaves = np.ones(len(rows), dtype=bool)
        else:
            answer, score, self.state = self.exit_rule.step(self.state, output, exit_)
            leaves = score >= self.thresholds[exit_]
            if self.quota is not None:
                n_leaving = self.quota.n_leaving(exit_, len(rows), self.left)
                if np.count_nonzero(leaves) < n_leaving:
                    leaves[np.argsort(-score, kind="stable")[:n_leaving]] = True
                self.left -= float(np.count_nonzero(leaves) * self.quota.costs[exit_])
            self.state = self.exit_rule.take(self.state, ~leaves)
        left = rows[leaves]
        self.answers.labels[left] = answer.argmax(axis=1)[leaves]
        self.answers.exits[left] = exit_
        if self.answers.probabilities is not None:
            self.answers.probabilities[left] = answer[leaves]
        return leaves


def _heads_in_use(
    cascade: Cascade, thresholds: np.ndarray, quota: StrictBudget | None
) -> np.ndarray:
    """Mask of the heads that have to run under these thresholds and this quota."""
    if cascade.exit_rule.combination.has_memory or cascade.network.combiner is not None:
        return np.ones(cascade.n_exits, dtype=bool)
    used = np.append(thresholds <= 1, True)
    if quota is not None:
        used = quota.heads_needed(used)
    if cascade.exit_rule.policy.has_memory:
        # Whoever may leave at an exit is judged by the exits before it, too.
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
    """Take all rows through the network, a slab of them with a visitor of its own at a time.

    Raises
    ------
    OutputsNotFiniteError
        If any head that runs gives no answer; all slabs are looked at before.
    """
    failed: list[OutputsNotFiniteError] = []
    row_bytes = max(network.row_bytes, _output_bytes(network, exit_rule))
    default_slab = _sizes(row_bytes, network.device)[0]
    batch_rows = min(default_slab, _sizes(network.row_bytes, network.device)[1])
    slab_rows = slab_rows or default_slab
    with torch.inference_mode():
        for start in range(0, len(X), slab_rows):
            rows = np.arange(start, min(start + slab_rows, len(X)))
            carry = _load(X[rows[0] : rows[-1] + 1], network.device, network.dtype)
            try:
                _visit_slab(network, rows, carry, used, visitor(len(rows)), batch_rows)
            except OutputsNotFiniteError as error:
                failed.append(error)
    if failed:
        positions = np.concatenate([error.positions for error in failed])
        raise OutputsNotFiniteError(failed[0].what, positions)


def _visit_slab(
    network: FittedNetwork,
    rows: np.ndarray,
    carry: Any,
    used: np.ndarray,
    visitor: Visitor,
    batch_rows: int,
) -> None:
    combined: np.ndarray | None = None
    for exit_, stage in enumerate(network.stages):
        carry, embedding = _run_stage(stage, carry, batch_rows)
        if not used[exit_]:
            continue
        output = _output(network, exit_, embedding)[: len(rows)]
        if network.combiner is not None:
            answer, combined = network.combiner.combine(combined, output, exit_)
            output = replace(output, probabilities=answer)
        with located(rows):
            check_outputs(output.probabilities, f"The outputs of exit {exit_} are")
            if output.gates is not None:
                check_outputs(output.gates, f"The gates of exit {exit_} are")
            leaves = visitor(exit_, rows, output)
        stay = np.flatnonzero(~leaves)
        if not len(stay):
            return
        if len(stay) < len(rows):
            rows = rows[stay]
            carry = _gather(carry, stay)
            combined = None if combined is None else combined[stay]


def _output(network: FittedNetwork, exit_: int, embedding: torch.Tensor) -> Outputs:
    """Outputs of head and gate for embeddings."""
    probabilities = np.ascontiguousarray(network.heads[exit_].predict_proba(embedding))
    if not network.gates:
        return Outputs(probabilities)
    if exit_ == network.n_exits - 1:
        return Outputs(probabilities, np.ones(len(probabilities)))
    return Outputs(probabilities, network.gates[exit_].predict(embedding))


def _output_bytes(network: FittedNetwork, exit_rule: ExitRule | None) -> int:
    """Memory of what a head, and those remembered by the combination, make of one sample."""
    remembers = exit_rule is not None and exit_rule.combination.has_memory
    n_remembered = network.n_exits if remembers else 0
    return (OUTPUT_COPIES + n_remembered) * network.n_classes * np.dtype(np.float64).itemsize


def _sizes(row_bytes: int, device: str) -> tuple[int, int]:
    """Rows of a slab and of a batch, both multiples of 16."""
    slab = _multiple(SLAB_BYTES // row_bytes, 256, 16384)
    if torch.device(device).type != "cpu":
        return slab, slab
    return slab, min(slab, _multiple(BATCH_BYTES // row_bytes, 64, 512))


def _multiple(n_rows: int, smallest: int, largest: int) -> int:
    return max(smallest, min(largest, n_rows // GROUP * GROUP))


def _padded(rows: np.ndarray) -> np.ndarray:
    """Fill up to a multiple of 16 with the first one."""
    n_missing = -len(rows) % GROUP
    return np.concatenate([rows, np.full(n_missing, rows[0])]) if n_missing else rows


def _load(X: np.ndarray, device: str, dtype: torch.dtype) -> torch.Tensor:
    """Rows as a padded tensor in torch's own memory."""
    n_rows = len(X) + -len(X) % GROUP
    # Where numpy's memory starts is left to chance, and kernels treat aligned memory differently.
    tensor = torch.empty((n_rows, *X.shape[1:]), dtype=dtype)
    tensor.numpy()[: len(X)] = X
    tensor[len(X) :] = tensor[0]
    return tensor.to(device)


def _gather(carry: Any, rows: np.ndarray) -> Any:
    """Some rows of a carry, padded."""
    parts = carry if isinstance(carry, tuple) else (carry,)
    index = torch.from_numpy(_padded(rows)).to(parts[0].device)
    chosen = tuple(part.index_select(0, index) for part in parts)
    return chosen if isinstance(carry, tuple) else chosen[0]


def _batches(carry: Any, batch_rows: int) -> Iterator[Any]:
    if isinstance(carry, tuple):
        yield from zip(*(part.split(batch_rows) for part in carry), strict=True)
    else:
        yield from carry.split(batch_rows)


def _run_stage(stage: torch.nn.Module, carry: Any, batch_rows: int) -> tuple[Any, torch.Tensor]:
    """Carry and embedding of a padded slab, computed batch by batch."""
    n_rows = len(carry[0]) if isinstance(carry, tuple) else len(carry)
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

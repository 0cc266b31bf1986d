"""Execution of estimators in a row."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from skearlyexit._cascade._chain import ROWS_PER_CALL, FittedChain, State
from skearlyexit._data._given import GivenRows
from skearlyexit._exit_table import Outputs
from skearlyexit.runtime._executor import Executor, Store, executor_of

#: Maximum size of the outputs of an exit for a slab, and limits of the number of its samples.
SLAB_BYTES = 2**26
SMALLEST_SLAB, LARGEST_SLAB = 1024, 65536

#: Samples, and the state of the link before.
Batch = tuple[GivenRows, State | None]


class EstimatorExecutor(Executor):
    """Executor of estimators in a row. A slab is a single batch, usually of one call.

    Parameters
    ----------
    chain : FittedChain
        Fitted estimators.
    """

    combiner = None
    has_gates = False

    def __init__(self, chain: FittedChain) -> None:
        self.chain = chain
        self.n_exits, self.n_classes, self.kind = chain.n_exits, chain.n_classes, chain.kind
        self.advice = (
            f"Check these samples, and what {chain.kind.method} of the estimator returns for them."
        )

    def context(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def slab_rows(self, output_bytes: int, *, large: bool) -> int:
        largest = LARGEST_SLAB if large else ROWS_PER_CALL
        return min(largest, max(SMALLEST_SLAB, SLAB_BYTES // output_bytes))

    def load(self, X: Any) -> list[Batch]:
        return [(X, None)]

    def batches(self, exit_: int, carry: list[Batch], n_rows: int) -> list[tuple[Batch, int]]:
        return [(carry[0], n_rows)]

    def stage_of_batch(self, exit_: int, batch: Batch) -> tuple[Batch, Batch]:
        rows, state = batch
        advanced = rows, self.chain.links[exit_].advance(rows, state)
        return advanced, advanced

    def some_of_batch(self, embedding: Batch, rows: np.ndarray) -> Batch:
        given, state = embedding
        return given[rows], None if state is None else state.take(rows)

    def input_of_batch(self, exit_: int, embedding: Batch, n_rows: int) -> Batch:
        return embedding

    def output(self, exit_: int, inputs: list[Batch], n_rows: int) -> Outputs:
        return Outputs(self.chain.links[exit_].predict_proba(*inputs[0]))

    def passed_on(
        self, exit_: int, carry: list[Batch], rows: np.ndarray
    ) -> tuple[Any, State | None]:
        given, state = carry[0]
        return given[rows].content, None if state is None else state.take(rows)

    def joined(self, exit_: int, parts: Sequence[Any]) -> list[Batch]:
        if not exit_:
            return self.load(GivenRows.stacked(parts))
        contents, states = zip(*parts, strict=True)
        state = None if states[0] is None else State.joined(states)
        return [(GivenRows.stacked(contents), state)]

    def store(self, exit_: int, n_rows: int) -> _EstimatorStore:
        return _EstimatorStore()


class _EstimatorStore(Store):
    """Positions of samples, and their states."""

    def __init__(self) -> None:
        self.rows: list[GivenRows] = []
        self.states: list[State] = []

    def add(self, carry: list[Batch], rows: np.ndarray) -> None:
        given, state = carry[0]
        self.rows.append(given[rows])
        if state is not None:
            self.states.append(state.take(rows))

    def taken(self) -> list[Batch]:
        batch = GivenRows.joined(self.rows), State.joined(self.states) if self.states else None
        self.rows, self.states = [], []
        return [batch]


executor_of.register(FittedChain, EstimatorExecutor)

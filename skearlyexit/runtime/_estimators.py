"""Execution of estimators in a row."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from skearlyexit._cascade._chain import FittedChain
from skearlyexit._data._given import GivenRows
from skearlyexit._exit_table import Outputs
from skearlyexit.runtime._executor import Executor, Store, executor_of

#: Maximum size of the outputs of an exit for a slab, and limits of the number of its samples.
SLAB_BYTES = 2**26
SMALLEST_SLAB, LARGEST_SLAB = 1024, 65536
#: Number of samples for which the time of a call as such is small.
ROWS_PER_CALL = 1024


class EstimatorExecutor(Executor):
    """Executor of estimators in a row. A slab is a single batch, the samples themselves.

    Parameters
    ----------
    chain : FittedChain
        Fitted estimators.
    """

    combiner = None
    has_gates = False

    def __init__(self, chain: FittedChain) -> None:
        self.chain = chain
        self.n_exits, self.n_classes = chain.n_exits, chain.n_classes

    def context(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def slab_rows(self, output_bytes: int, *, large: bool) -> int:
        largest = LARGEST_SLAB if large else ROWS_PER_CALL
        return min(largest, max(SMALLEST_SLAB, SLAB_BYTES // output_bytes))

    def load(self, X: Any) -> list[GivenRows]:
        return [X]

    def batches(
        self, exit_: int, carry: list[GivenRows], n_rows: int
    ) -> list[tuple[GivenRows, int]]:
        return [(carry[0], n_rows)]

    def stage_of_batch(self, exit_: int, batch: GivenRows) -> tuple[GivenRows, GivenRows]:
        return batch, batch

    def input_of_batch(self, exit_: int, embedding: GivenRows, n_rows: int) -> GivenRows:
        return embedding

    def output(self, exit_: int, inputs: list[GivenRows], n_rows: int) -> Outputs:
        return Outputs(self.chain.estimators[exit_].predict_proba(inputs[0]))

    def store(self, exit_: int, n_rows: int) -> _EstimatorStore:
        return _EstimatorStore()


class _EstimatorStore(Store):
    """Positions of samples."""

    def __init__(self) -> None:
        self.rows: list[GivenRows] = []

    def add(self, carry: list[GivenRows], rows: np.ndarray) -> None:
        self.rows.append(carry[0][rows])

    def taken(self) -> list[GivenRows]:
        rows, self.rows = self.rows, []
        return [GivenRows.joined(rows)]


executor_of.register(FittedChain, EstimatorExecutor)

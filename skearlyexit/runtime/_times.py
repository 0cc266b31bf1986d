"""Times of the parts of a cascade, measured while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from time import perf_counter
from typing import Any

import numpy as np

from skearlyexit._cascade._cascade import FittedExits
from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._exit_table import Outputs
from skearlyexit.calibration._base import no_early_exits
from skearlyexit.runtime._driver import Answers, ExitVisitor, visit
from skearlyexit.runtime._executor import Executor, Largest, Store, executor_of
from skearlyexit.runtime._onnx_graphs import UNREACHED
from skearlyexit.runtime._onnx_session import Session
from skearlyexit.runtime._routes import Routes

STAGE, HEAD, DECISION = range(3)


def part_times(network: FittedExits, exit_rule: ExitRule, X: np.ndarray) -> np.ndarray:
    """Time each part in a run of the driver in which no sample exits early.

    Parameters
    ----------
    network : FittedExits
        Fitted network or estimators.
    exit_rule : ExitRule
        Fitted exit rule.
    X : ndarray of shape (n_samples, ...)
        Samples.

    Returns
    -------
    times : ndarray of shape (n_exits, 3)
        Seconds that the stage, the head with its gate, and the decision of each exit take for all
        samples.
    """
    labels = network.kind.empty((len(X),), network.n_classes)
    exits = np.empty(len(X), dtype=np.intp)
    thresholds, last = no_early_exits(network.n_exits), network.n_exits - 1
    # Any score reaches 0: what each sample skips is computed, and all exits are asked.
    routes = None if exit_rule.router is None else Routes(np.zeros(network.n_exits), len(X))
    executor = _TimedExecutor(executor_of(network))
    visit(
        executor,
        exit_rule,
        X,
        np.ones(network.n_exits, dtype=bool),
        lambda n_rows: ExitVisitor(
            exit_rule, thresholds, None, n_rows, Answers(labels, exits), routes
        ),
        None,
        only_largest=exit_rule.needs_only_largest,
        routes=routes,
    )
    times = executor.finished()
    decided = exit_rule.cost_input(network.n_classes, last, last=True)
    if executor.combiner is None and decided is None:
        # Nothing is decided: what remains, such as storing the labels, the plain network does too.
        times[last, HEAD] += times[last, DECISION]
        times[last, DECISION] = 0.0
    return times


def exit_times(
    session: Session, plain: Session, X: np.ndarray, n_exits: int
) -> tuple[np.ndarray, np.ndarray]:
    """Time runs of ONNX Runtime in which all samples exit at the same exit.

    Parameters
    ----------
    session : Session
        Session of a cascade.
    plain : Session
        Session whose heads are computed only where samples can exit: the same, unless the exit rule
        depends on the heads before an exit.
    X : ndarray of shape (n_samples, ...)
        Samples.
    n_exits : int
        Number of exits, including the last one.

    Returns
    -------
    with_heads, alone : ndarray of shape (n_exits,)
        Seconds for all samples to exit at each exit if the heads before it are computed, and if
        they are not. The last time without them is that of the plain network.
    """
    times = np.empty((2, n_exits))
    for row, each, before in zip(times, (session, plain), (UNREACHED, np.inf), strict=True):
        for exit_ in range(n_exits):
            thresholds = no_early_exits(n_exits)
            thresholds[:exit_] = before
            thresholds[exit_ : exit_ + 1] = 0.0
            start = perf_counter()
            each.run(X, thresholds)
            row[exit_] = perf_counter() - start
    return times[0], times[1]


class _TimedExecutor(Executor):
    """Executor that takes the time between the calls of another one.

    Parameters
    ----------
    executor : Executor
        Executor that computes the results.
    """

    def __init__(self, executor: Executor) -> None:
        self.times = np.zeros((executor.n_exits, 3))
        self.started = False
        self.mark = perf_counter()
        self.executor = executor
        self.n_exits, self.n_classes = executor.n_exits, executor.n_classes
        self.kind = executor.kind
        self.combiner, self.has_gates = executor.combiner, executor.has_gates
        self.advice = executor.advice

    def finished(self) -> np.ndarray:
        """Seconds since the start, by exit and part."""
        self._lap(-1, DECISION)
        return self.times

    def context(self) -> AbstractContextManager[Any]:
        return self.executor.context()

    def slab_rows(self, output_bytes: int, *, large: bool) -> int:
        return self.executor.slab_rows(output_bytes, large=large)

    def load(self, X: np.ndarray) -> list[Any]:
        if self.started:  # the slab before has ended
            self._lap(-1, DECISION)
        self.started = True
        return self.executor.load(X)

    def batches(self, exit_: int, carry: list[Any], n_rows: int) -> list[tuple[Any, int]]:
        if exit_:
            self._lap(exit_ - 1, DECISION)
        return self.executor.batches(exit_, carry, n_rows)

    def stage_of_batch(self, exit_: int, batch: Any) -> tuple[Any, Any]:
        found = self.executor.stage_of_batch(exit_, batch)
        self._lap(exit_, STAGE)
        return found

    def some_of_batch(self, embedding: Any, rows: np.ndarray) -> Any:
        return self.executor.some_of_batch(embedding, rows)

    def input_of_batch(self, exit_: int, embedding: Any, n_rows: int) -> Any:
        found = self.executor.input_of_batch(exit_, embedding, n_rows)
        self._lap(exit_, HEAD)
        return found

    def output(self, exit_: int, inputs: list[Any], n_rows: int) -> Outputs:
        found = self.executor.output(exit_, inputs, n_rows)
        self._lap(exit_, HEAD)
        return found

    def largest(self, exit_: int, inputs: list[Any], n_rows: int) -> Largest:
        found = self.executor.largest(exit_, inputs, n_rows)
        self._lap(exit_, HEAD)
        return found

    def store(self, exit_: int, n_rows: int) -> Store:
        return self.executor.store(exit_, n_rows)

    def take(self, exit_: int, carry: list[Any], rows: np.ndarray) -> list[Any]:
        return self.executor.take(exit_, carry, rows)

    def passed_on(self, exit_: int, carry: list[Any], rows: np.ndarray) -> Any:
        return self.executor.passed_on(exit_, carry, rows)

    def joined(self, exit_: int, parts: Sequence[Any]) -> list[Any]:
        return self.executor.joined(exit_, parts)

    def _lap(self, exit_: int, part: int) -> None:
        """Add the time since the last call to a part."""
        self.executor.synchronize()
        now = perf_counter()
        self.times[exit_, part] += now - self.mark
        self.mark = now

"""Flow of the samples through the stages of a cascade.

A slab is a group of samples that are at the same stage. Of the slab, those that do not exit wait at
the next stage until they are as many as a slab, so that later stages, too, are computed on full
batches. If samples were removed within each batch instead, the batches of the later stages would be
small. No more than a slab waits at each stage, so that memory does not grow with the number of
samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skearlyexit._cascade._exit_rule import State as RuleState
from skearlyexit._exit_table import Outputs
from skearlyexit._utils._not_finite import OutputsNotFiniteError, check_outputs, relocated
from skearlyexit.runtime._executor import Executor, Largest, Store
from skearlyexit.runtime._routes import Routes

#: Arrays that accompany the samples, with the samples along their first axis: the states of the
#: combination that was learned with the network, and of the combination and the policy of the exit
#: rule.
State = tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]
START: State = (None, None, None)

#: Function that is called at each exit whose head is computed, with the index of the exit, the
#: indices of the samples that reach it, their outputs, and the state of the exit rule. Returns a
#: mask of the samples that exit, and the state at this exit, of all of them.
Visitor = Callable[[int, np.ndarray, Outputs | Largest, RuleState], tuple[np.ndarray, RuleState]]


@dataclass(frozen=True, eq=False)
class Left:
    """Samples of a slab that have not exited by the last exit of a flow.

    Attributes
    ----------
    rows : ndarray of shape (n_left,)
        Indices of the samples.
    carry : list of objects
        Carry of the executor, of all samples of the slab.
    stay : ndarray of shape (n_left,)
        Positions of the samples in this carry, in ascending order.
    state : State
        State of the samples that are left.
    """

    rows: np.ndarray
    carry: list[Any]
    stay: np.ndarray
    state: State


class Flow:
    """Samples on their way through the stages.

    Parameters
    ----------
    executor : Executor
        Computes stages and heads.
    used : ndarray of shape (n_exits,), bool
        Heads that are computed.
    visitor : Visitor
        Determines the samples that exit.
    slab_rows : int
        Number of samples of a slab.
    only_largest : bool
        Whether the visitor gets the largest probability only. There must not be a combination that
        was learned with the network.
    failed : list of OutputsNotFiniteError
        Errors are added to it. A slab whose outputs are not finite is not run on.
    routes : Routes or None, default=None
        Exits that samples skip. There must not be states then.
    stop : int or None, default=None
        Exit before whose stage the flow ends. None runs all exits.
    """

    def __init__(
        self,
        executor: Executor,
        used: np.ndarray,
        visitor: Visitor,
        slab_rows: int,
        only_largest: bool,
        failed: list[OutputsNotFiniteError],
        routes: Routes | None = None,
        stop: int | None = None,
    ) -> None:
        self.executor, self.used, self.visitor, self.routes = executor, used, visitor, routes
        self.stop = stop
        self.slab_rows, self.only_largest, self.failed = slab_rows, only_largest, failed
        self.waiting: dict[int, _Waiting] = {}

    def enter(self, rows: np.ndarray, X: np.ndarray, *, last: bool) -> None:
        """Let a slab of samples in.

        Parameters
        ----------
        rows : ndarray of shape (n_samples,)
            Indices of the samples.
        X : ndarray of shape (n_samples, ...)
            The samples, at most `slab_rows`.
        last : bool
            Whether no other slab follows. All samples then run to their exits.
        """
        self._run(0, rows, self.executor.load(X), START, last=last)
        if not (last and self.waiting):
            return
        for exit_ in range(1, self.executor.n_exits):
            if self._is_waited_at(exit_):
                self._run(exit_, *self.waiting[exit_].taken(), last=True)

    def resume(self, exit_: int, rows: np.ndarray, carry: Any, state: State) -> Left | None:
        """Let in a slab that has passed the exits before one; no other follows.

        Parameters
        ----------
        exit_ : int
            Index of the next exit.
        rows : ndarray of shape (n_samples,)
            Indices of the samples, at most `slab_rows`.
        carry : list of objects
            Carry to the stage before this exit.
        state : State
            State at the exit before.

        Returns
        -------
        left : Left or None
            Samples that do not exit before `stop`. None if there are none.
        """
        return self._run(exit_, rows, carry, state, last=True)

    def _run(
        self, exit_: int, rows: np.ndarray, carry: Any, state: State, *, last: bool
    ) -> Left | None:
        """Run a slab from the stage before an exit on, until all samples exit, wait or are left."""
        while True:
            asked = self._asked(exit_, rows)
            carry, inputs = self.executor.stage(exit_, carry, len(rows), asked=asked)
            if not inputs:
                stay = np.arange(len(rows))
            else:
                there = rows if asked is None else rows[asked]
                try:
                    exiting, state = self._visited(exit_, there, inputs, state)
                except OutputsNotFiniteError as error:
                    self.failed.append(relocated(error, there, self.executor.advice))
                    return None
                if asked is not None:
                    exiting = _among(exiting, asked, len(rows))
                (stay,) = (~exiting).nonzero()
            exit_ += 1
            if not len(stay) or exit_ == self.executor.n_exits:
                return None
            if exit_ == self.stop:
                return Left(rows[stay], carry, stay, _some(state, stay))
            is_full = len(stay) == self.slab_rows
            if self._is_waited_at(exit_) or not (is_full or last):
                self._wait(exit_, rows, carry, state, stay)
                return None
            if len(stay) < len(rows):
                carry = self.executor.take(exit_, carry, stay)
                rows, state = rows[stay], _some(state, stay)

    def _visited(
        self, exit_: int, rows: np.ndarray, inputs: list[Any], state: State
    ) -> tuple[np.ndarray, State]:
        """Mask of the samples that exit, and the state at an exit."""
        learned, combined, judged = state
        output: Outputs | Largest
        if self.only_largest:
            output = self.executor.largest(exit_, inputs, len(rows))
        else:
            output = self.executor.output(exit_, inputs, len(rows))
            if self.executor.combiner is not None:
                answer, learned = self.executor.combiner.combine(learned, output, exit_)
                output = replace(output, probabilities=np.ascontiguousarray(answer))
            if output.gates is not None:
                check_outputs(output.gates, f"The gates of exit {exit_} are")
        self.executor.kind.check(output.probabilities, f"The outputs of exit {exit_} are")
        exiting, (combined, judged) = self.visitor(exit_, rows, output, (combined, judged))
        return exiting, (learned, combined, judged)

    def _asked(self, exit_: int, rows: np.ndarray) -> np.ndarray | None:
        """Positions of the samples for which the head is computed, or None if it is for all."""
        if not self.used[exit_]:
            return np.arange(0)
        return None if self.routes is None else self.routes.asked(exit_, rows)

    def _is_waited_at(self, exit_: int) -> bool:
        return exit_ in self.waiting and self.waiting[exit_].room < self.slab_rows

    def _wait(
        self, exit_: int, rows: np.ndarray, carry: Any, state: State, stay: np.ndarray
    ) -> None:
        """Let some samples of a slab wait, and run those that wait when they fill a slab."""
        if exit_ not in self.waiting:
            self.waiting[exit_] = _Waiting(
                self.executor.store(exit_, self.slab_rows), self.slab_rows
            )
        waiting = self.waiting[exit_]
        start = 0
        while start < len(stay):
            chosen = stay[start : start + waiting.room]
            waiting.add(rows, carry, state, chosen)
            start += len(chosen)
            if not waiting.room:
                self._run(exit_, *waiting.taken(), last=False)


class _Waiting:
    """Samples that wait before a stage.

    Parameters
    ----------
    store : Store
        Holds their carry. It is used for one slab after the other.
    slab_rows : int
        Number of samples of a slab.

    Attributes
    ----------
    room : int
        Number of samples that are missing to a slab.
    """

    def __init__(self, store: Store, slab_rows: int) -> None:
        self.store, self.slab_rows, self.room = store, slab_rows, slab_rows
        self.parts: list[tuple[np.ndarray, State]] = []

    def add(self, rows: np.ndarray, carry: Any, state: State, chosen: np.ndarray) -> None:
        """Add some samples of a slab, by index in ascending order."""
        self.store.add(carry, chosen)
        self.parts.append((rows[chosen], _some(state, chosen)))
        self.room -= len(chosen)

    def taken(self) -> tuple[np.ndarray, Any, State]:
        """Take all samples: their indices, their carry, valid until others are added, and state."""
        rows, states = zip(*self.parts, strict=True)
        self.parts, self.room = [], self.slab_rows
        return np.concatenate(rows), self.store.taken(), joined_states(states)


def _among(exiting: np.ndarray, asked: np.ndarray, n_rows: int) -> np.ndarray:
    """Mask of the samples that exit, of all samples of a slab."""
    mask = np.zeros(n_rows, dtype=bool)
    mask[asked] = exiting
    return mask


def joined_states(states: Sequence[State]) -> State:
    """State of all samples of several parts."""
    first, second, third = map(_joined, zip(*states, strict=True))
    return first, second, third


def _some(state: State, rows: np.ndarray) -> State:
    first, second, third = (None if each is None else each[rows] for each in state)
    return first, second, third


def _joined(parts: tuple[np.ndarray | None, ...]) -> np.ndarray | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if known else None

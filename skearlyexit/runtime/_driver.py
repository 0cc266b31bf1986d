"""Execution of a cascade: what is computed for the samples, and what is stored of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skearlyexit._cascade._cascade import Cascade, FittedExits
from skearlyexit._cascade._exit_rule import NO_STATE, ExitRule, State
from skearlyexit._exit_table import ExitTable, LabelTable, Outputs, PredictionTable
from skearlyexit._output_kind import OutputKind
from skearlyexit._utils._not_finite import OutputsNotFiniteError
from skearlyexit.calibration._strict_budget import StrictBudget
from skearlyexit.runtime._executor import Executor, Largest, executor_of
from skearlyexit.runtime._flow import Flow, Visitor
from skearlyexit.runtime._routes import Routes

#: Number of arrays of the size of the probabilities that exist at the same time: logits,
#: probabilities, and temporary arrays of the exit rule.
OUTPUT_COPIES = 4


@dataclass(frozen=True)
class Answers:
    """Predictions of a cascade.

    Attributes
    ----------
    labels : ndarray of shape (n_samples,) or (n_samples, n_targets)
        Index of the class predicted at the exit of each sample, or in regression the values of the
        targets, in the units in which they are standardized.
    exits : ndarray of shape (n_samples,)
        Index of the exit of each sample.
    probabilities : ndarray of shape (n_samples, n_classes) or None, default=None
        Predicted probabilities at the exit of each sample. None if they are not requested.
    """

    labels: np.ndarray
    exits: np.ndarray
    probabilities: np.ndarray | None = None


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
        exit instead. It holds for each slab, which then runs to its end before the next one.
    with_probabilities : bool, default=False
        Whether to return predicted probabilities in addition to labels.
    slab_rows : int or None, default=None
        Number of samples of a slab. None chooses it by memory.

    Returns
    -------
    answers : Answers
        Predictions and exits.
    """
    prepared = _prepared(cascade, thresholds, strict_budget)
    return prepared(X, with_probabilities=with_probabilities, slab_rows=slab_rows)


def _prepared(cascade: Cascade, thresholds: np.ndarray, strict_budget: StrictBudget | None) -> Run:
    """Run of a cascade with these thresholds: that of the last call, if it had the same."""
    last: Run | None = cascade.compiled.get("own")
    if (
        last is None
        or last.strict_budget is not strict_budget
        or not np.array_equal(last.thresholds, thresholds)
    ):
        executor, thresholds = executor_of(cascade.network), thresholds.copy()
        last = Run.prepared(executor, cascade.exit_rule, thresholds, strict_budget)
        cascade.compiled["own"] = last
    return last


@dataclass(frozen=True)
class Run:
    """A run of a cascade with thresholds, for any samples.

    Attributes
    ----------
    executor : Executor
        What executes stages and heads.
    exit_rule : ExitRule
        Fitted exit rule.
    thresholds : ndarray of shape (n_exits - 1,)
        As in `run`.
    strict_budget : StrictBudget or None
        As in `run`.
    used : ndarray of shape (n_exits,), bool
        Mask of the heads that are computed.
    least : ndarray of shape (n_exits,) or None
        Least score at the first exit with which each exit is asked. None without a router.
    of_one : RunOfOne or None
        The same for a single sample. None with a strict budget, a router, gates or a combination
        that was learned with the network.
    """

    executor: Executor
    exit_rule: ExitRule
    thresholds: np.ndarray
    strict_budget: StrictBudget | None
    used: np.ndarray
    least: np.ndarray | None
    of_one: RunOfOne | None

    @classmethod
    def prepared(
        cls,
        executor: Executor,
        exit_rule: ExitRule,
        thresholds: np.ndarray,
        strict_budget: StrictBudget | None,
        answering: Sequence[int] = (),
    ) -> Run:
        """Run of the heads that are needed, those of the exits `answering` among them."""
        used = _heads_in_use(executor, exit_rule, thresholds, strict_budget, answering)
        least = None
        if exit_rule.router is not None:
            least = exit_rule.router.least_scores(thresholds)
            used &= least < np.inf
            # Which samples skip an exit depends on their scores at the first one.
            used[0] |= (used & (least > -np.inf)).any()
        of_one = None
        if strict_budget is None and least is None and heads_decide(executor):
            of_one = RunOfOne(executor, exit_rule, thresholds, used)
        return cls(executor, exit_rule, thresholds, strict_budget, used, least, of_one)

    def __call__(
        self, X: np.ndarray, *, with_probabilities: bool = False, slab_rows: int | None = None
    ) -> Answers:
        """Predict for all samples; see `run`."""
        answers = self.empty_answers(len(X), with_probabilities=with_probabilities)
        if self.of_one is not None and len(X) == 1 and self.of_one(X, answers):
            return answers
        rule, thresholds, strict = self.exit_rule, self.thresholds, self.strict_budget
        routes = None if self.least is None else Routes(self.least, len(X))
        visit(
            self.executor,
            rule,
            X,
            self.used,
            lambda n_rows: ExitVisitor(rule, thresholds, strict, n_rows, answers, routes),
            slab_rows,
            by_slab=strict is not None,
            only_largest=rule.needs_only_largest and not with_probabilities,
            routes=routes,
        )
        return answers

    def empty_answers(self, n_samples: int, *, with_probabilities: bool) -> Answers:
        """Arrays for the predictions of so many samples, which are not initialized."""
        labels = self.executor.kind.empty((n_samples,), self.executor.n_classes)
        exits = np.empty(n_samples, dtype=np.intp)
        shape = n_samples, self.executor.n_classes
        return Answers(labels, exits, np.empty(shape) if with_probabilities else None)


class RunOfOne:
    """A run of a cascade for a single sample, without what many samples need.

    There must be no strict budget, router, gates or combination that was learned with the network.
    If batches are padded, answers are those of `Run` to the last bit.

    Parameters
    ----------
    executor : Executor
        What executes stages and heads.
    exit_rule : ExitRule
        Fitted exit rule.
    thresholds : ndarray of shape (n_exits - 1,)
        As in `run`.
    used : ndarray of shape (n_exits,), bool
        Mask of the heads that are computed.
    """

    def __init__(
        self, executor: Executor, exit_rule: ExitRule, thresholds: np.ndarray, used: np.ndarray
    ) -> None:
        self.executor, self.exit_rule = executor, exit_rule
        self.thresholds, self.used = thresholds, used.tolist()

    def __call__(self, X: Any, answers: Answers) -> bool:
        """Store the answers for the sample. False if an output is not valid."""
        try:
            answer, exit_ = self._answered(X)
        except OutputsNotFiniteError:
            return False
        answers.labels[:] = self.exit_rule.kind.predicted(answer)
        answers.exits[:] = exit_
        if answers.probabilities is not None:
            answers.probabilities[:] = answer
        return True

    def _answered(self, X: Any) -> tuple[np.ndarray, int]:
        """Outputs for the sample where it exits, and the index of this exit."""
        rule, state, last = self.exit_rule, NO_STATE, len(self.thresholds)
        only_largest, check = rule.needs_only_largest, rule.kind.check
        with self.executor.context():
            for exit_, found in enumerate(self.executor.outputs_of_one(X, self.used)):
                if found is None:
                    continue
                check(found, "")  # `Run` raises the error that says more
                if only_largest:
                    answer, score = found, np.maximum.reduce(found, axis=None)
                elif exit_ == last:
                    answer, _ = rule.answer(state, Outputs(found), exit_)
                else:
                    answer, (score,), state = rule.step(state, Outputs(found), exit_)
                if exit_ == last or score >= self.thresholds[exit_]:
                    break
        return answer, exit_


def outputs(network: FittedExits, X: np.ndarray, *, slab_rows: int | None = None) -> Outputs:
    """Outputs of all heads for all samples, of which none exits early."""
    executor = executor_of(network)
    probabilities = np.empty((len(X), network.n_exits, network.n_classes))
    gates = np.empty((len(X), network.n_exits)) if executor.has_gates else None

    def record(exit_: int, rows: np.ndarray, output: Any, state: State) -> tuple[np.ndarray, State]:
        probabilities[rows, exit_] = output.probabilities
        if gates is not None:
            gates[rows, exit_] = output.gates
        return np.zeros(len(rows), dtype=bool), state

    used = np.ones(network.n_exits, dtype=bool)
    visit(executor, None, X, used, lambda n_rows: record, slab_rows)
    return Outputs(probabilities, gates)


def tabulate(
    cascade: Cascade, X: np.ndarray, *, slab_rows: int | None = None
) -> ExitTable | PredictionTable:
    """Exit table of samples."""
    return cascade.exit_rule.tabulate(outputs(cascade.network, X, slab_rows=slab_rows))


def label_table(
    network: FittedExits, exit_rule: ExitRule, X: np.ndarray, *, slab_rows: int | None = None
) -> LabelTable | PredictionTable:
    """Predictions and scores of all exits for all samples, without storing probabilities."""
    shape, kind = (len(X), network.n_exits), network.kind
    labels, scores = kind.empty(shape, network.n_classes), np.empty(shape)

    def record(
        exit_: int, rows: np.ndarray, output: Outputs | Largest, state: State
    ) -> tuple[np.ndarray, State]:
        answer, scores[rows, exit_], state = _judged(exit_rule, exit_, output, state)
        labels[rows, exit_] = _predicted(kind, output, answer)
        return np.zeros(len(rows), dtype=bool), state

    used = np.ones(network.n_exits, dtype=bool)
    visit(
        executor_of(network),
        exit_rule,
        X,
        used,
        lambda n_rows: record,
        slab_rows,
        only_largest=exit_rule.needs_only_largest,
    )
    table: LabelTable | PredictionTable = exit_rule.routed(kind.small_table(labels, scores))
    return table


class ExitVisitor:
    """Visitor that determines the samples that exit, and stores their predictions.

    Parameters
    ----------
    exit_rule : ExitRule
        Fitted exit rule.
    thresholds : ndarray of shape (n_exits - 1,)
        Thresholds of all exits but the last.
    strict_budget : StrictBudget or None
        Strict budget.
    n_rows : int
        Number of samples that the strict budget is for.
    answers : Answers
        Arrays for the predictions of all samples, which are modified in place.
    routes : Routes or None, default=None
        Exits that samples skip, by their scores at the first exit, which are stored.
    for_all : int or None, default=None
        Exit whose predictions are also stored for samples that do not exit there.
    """

    def __init__(
        self,
        exit_rule: ExitRule,
        thresholds: np.ndarray,
        strict_budget: StrictBudget | None,
        n_rows: int,
        answers: Answers,
        routes: Routes | None = None,
        for_all: int | None = None,
    ) -> None:
        self.for_all = for_all
        self.exit_rule, self.thresholds, self.strict_budget = exit_rule, thresholds, strict_budget
        self.remaining = 0.0 if strict_budget is None else strict_budget.budget * n_rows
        self.answers, self.routes = answers, routes

    def __call__(
        self, exit_: int, rows: np.ndarray, output: Outputs | Largest, state: State
    ) -> tuple[np.ndarray, State]:
        if exit_ == len(self.thresholds):
            if isinstance(output, Largest):
                answer = output.labels
            else:
                answer, _ = self.exit_rule.answer(state, output, exit_)
            self._store(exit_, rows, output, answer)
            return np.ones(len(rows), dtype=bool), state
        answer, score, state = _judged(self.exit_rule, exit_, output, state)
        if self.routes is not None:
            self.routes.note(exit_, rows, score)
        exiting: np.ndarray = score >= self.thresholds[exit_]
        if self.strict_budget is not None:
            n_exiting = self.strict_budget.n_leaving(exit_, len(rows), self.remaining)
            if np.count_nonzero(exiting) < n_exiting:
                exiting[np.argsort(-score, kind="stable")[:n_exiting]] = True
            self.remaining -= float(np.count_nonzero(exiting) * self.strict_budget.costs[exit_])
        n_exiting = int(np.count_nonzero(exiting))
        if n_exiting == len(rows) or exit_ == self.for_all:
            self._store(exit_, rows, output, answer)
        elif n_exiting:
            self._store(exit_, rows[exiting], output, answer[exiting])
        return exiting, state

    def _store(
        self, exit_: int, rows: np.ndarray, output: Outputs | Largest, answer: np.ndarray
    ) -> None:
        """Store the predictions of samples that exit."""
        self.answers.labels[rows] = _predicted(self.exit_rule.kind, output, answer)
        self.answers.exits[rows] = exit_
        if self.answers.probabilities is not None:
            self.answers.probabilities[rows] = answer


def _judged(
    exit_rule: ExitRule, exit_: int, output: Outputs | Largest, state: State
) -> tuple[np.ndarray, np.ndarray, State]:
    """Predicted probabilities or labels, scores, and states at an exit."""
    if isinstance(output, Largest):
        return output.labels, output.probabilities, state
    return exit_rule.step(state, output, exit_)


def _predicted(kind: OutputKind, output: Outputs | Largest, answer: np.ndarray) -> np.ndarray:
    """Predictions for the outputs at an exit, of which some executors return the labels only."""
    return answer if isinstance(output, Largest) else kind.predicted(answer)


def _heads_in_use(
    executor: Executor,
    exit_rule: ExitRule,
    thresholds: np.ndarray,
    strict_budget: StrictBudget | None,
    answering: Sequence[int],
) -> np.ndarray:
    """Mask of the heads that have to be computed for thresholds, a strict budget and answers."""
    if exit_rule.combination.has_memory or executor.combiner is not None:
        return np.ones(executor.n_exits, dtype=bool)
    used = np.ones(executor.n_exits, dtype=bool)
    used[:-1] = thresholds <= 1
    if strict_budget is not None:
        used = strict_budget.heads_needed(used)
    used[list(answering)] = True
    if exit_rule.policy.has_memory:
        # The score at an exit where samples can exit depends on all heads before it.
        used[:-1] = np.logical_or.accumulate(used[-2::-1])[::-1]
    return used


def visit(
    executor: Executor,
    exit_rule: ExitRule | None,
    X: np.ndarray,
    used: np.ndarray,
    new_visitor: Callable[[int], Visitor],
    slab_rows: int | None,
    *,
    by_slab: bool = False,
    only_largest: bool = False,
    routes: Routes | None = None,
) -> None:
    """Run the network on all samples.

    Parameters
    ----------
    executor : Executor
        Computes stages and heads.
    exit_rule : ExitRule or None
        Exit rule whose states are kept in memory.
    X : ndarray of shape (n_samples, ...)
        Samples.
    used : ndarray of shape (n_exits,), bool
        Heads that are computed.
    new_visitor : callable
        Returns a visitor for a number of samples.
    slab_rows : int or None
        Number of samples of a slab. None chooses it by memory.
    by_slab : bool, default=False
        Whether each slab has a visitor of its own, and runs to its end before the next one.
    only_largest : bool, default=False
        Whether the visitor needs only the largest probability of each head.
    routes : Routes or None, default=None
        Exits that samples skip.

    Raises
    ------
    OutputsNotFiniteError
        If any outputs are not finite. It is raised after all slabs and contains all such samples.
    """
    output_bytes = _output_bytes(executor, exit_rule)
    slab_rows = slab_rows or executor.slab_rows(output_bytes, large=by_slab)
    failed: list[OutputsNotFiniteError] = []
    only_largest = only_largest and heads_decide(executor)
    flow: Flow | None = None
    with executor.context():
        for start in range(0, len(X), slab_rows):
            rows = np.arange(start, min(start + slab_rows, len(X)))
            if flow is None or by_slab:
                visitor = new_visitor(len(rows))
                flow = Flow(executor, used, visitor, slab_rows, only_largest, failed, routes)
            last = by_slab or start + slab_rows >= len(X)
            flow.enter(rows, X[start : start + slab_rows], last=last)
    if failed:
        positions = np.sort(np.concatenate([error.positions for error in failed]))
        raise OutputsNotFiniteError(failed[0].what, positions, failed[0].advice)


def heads_decide(executor: Executor) -> bool:
    """Whether the outputs at an exit are those of its head alone."""
    return executor.combiner is None and not executor.has_gates


def _output_bytes(executor: Executor, exit_rule: ExitRule | None) -> int:
    """Memory of the outputs of the heads for one sample, including those in a state."""
    remembers = exit_rule is not None and exit_rule.combination.has_memory
    n_remembered = executor.n_exits if remembers else 0
    return (OUTPUT_COPIES + n_remembered) * executor.n_classes * np.dtype(np.float64).itemsize

"""Some exits of a cascade that run by themselves, such as on a machine of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, singledispatch
from typing import Any

import numpy as np
import torch

from skearlyexit._cascade._cascade import Cascade, FittedNetwork
from skearlyexit._cascade._chain import FittedChain
from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._utils._not_finite import OutputsNotFiniteError
from skearlyexit.runtime._driver import Answers, ExitVisitor, Run, heads_decide
from skearlyexit.runtime._executor import Executor, executor_of
from skearlyexit.runtime._flow import START, Flow, Left, State, joined_states
from skearlyexit.runtime._routes import Routes


@dataclass(frozen=True, eq=False)
class OnTheWay:
    """Samples before the stage of an exit. It can be pickled.

    Attributes
    ----------
    n_samples : int
        Number of samples.
    carry : object
        The samples themselves before the first exit, and otherwise what the executor of the exits
        before has passed on.
    state : State
        State at the exit before.
    """

    n_samples: int
    carry: Any
    state: State = START


@dataclass(frozen=True, eq=False)
class PartAnswers:
    """What the exits of a part answer.

    Attributes
    ----------
    answers : Answers
        Predictions for all samples: at their exits, and at the last exit of the part for those that
        go on.
    staying : ndarray of shape (n_staying,)
        Positions of the samples that go on, in ascending order.
    onward : OnTheWay or None
        These samples before the next part. None if there are none.
    """

    answers: Answers
    staying: np.ndarray
    onward: OnTheWay | None


@dataclass(frozen=True, eq=False)
class CascadePart:
    """Some exits of a cascade, in a row.

    Attributes
    ----------
    network : FittedNetwork or FittedChain
        Fitted exits, of which those of other parts are not called.
    exit_rule : ExitRule
        Fitted exit rule.
    exits : range
        Exits of this part.
    last_exits : tuple of int
        Last exit of each part, whose head is computed whatever the thresholds are.
    """

    network: Any
    exit_rule: ExitRule
    exits: range
    last_exits: tuple[int, ...]

    @cached_property
    def executor(self) -> Executor:
        """What executes the exits."""
        return executor_of(self.network)

    def __call__(
        self,
        given: Sequence[OnTheWay],
        thresholds: np.ndarray,
        *,
        with_probabilities: bool = False,
    ) -> list[PartAnswers]:
        """Run the exits for groups of samples, all of which are computed together.

        Parameters
        ----------
        given : sequence of OnTheWay
            Groups of samples, at least one sample each.
        thresholds : ndarray of shape (n_exits - 1,)
            Thresholds of all exits of the cascade but the last.
        with_probabilities : bool, default=False
            Whether to return predicted probabilities in addition to labels.

        Returns
        -------
        found : list of PartAnswers
            Answers of each group.

        Raises
        ------
        OutputsNotFiniteError
            If outputs are NaN or infinite.
        """
        executor, rule = self.executor, self.exit_rule
        run = Run.prepared(executor, rule, thresholds, None, self.last_exits)
        sizes = [each.n_samples for each in given]
        n_samples, first = sum(sizes), self.exits[0]
        answers = run.empty_answers(n_samples, with_probabilities=with_probabilities)
        routes = None if run.least is None else Routes(run.least, n_samples)
        visitor = ExitVisitor(rule, thresholds, None, n_samples, answers, routes, self.exits[-1])
        only_largest = rule.needs_only_largest and not with_probabilities and heads_decide(executor)
        failed: list[OutputsNotFiniteError] = []
        flow = Flow(
            executor, run.used, visitor, n_samples, only_largest, failed, routes, self.exits.stop
        )
        state = joined_states([each.state for each in given])
        with executor.context():
            carry = executor.joined(first, [each.carry for each in given])
            left = flow.resume(first, np.arange(n_samples), carry, state)
            if failed:
                raise failed[0]
            starts = np.cumsum([0, *sizes[:-1]])
            return [
                self._of_group(answers, left, start, start + size)
                for start, size in zip(starts.tolist(), sizes, strict=True)
            ]

    def _of_group(self, answers: Answers, left: Left | None, start: int, stop: int) -> PartAnswers:
        """Answers of the samples from one index to another."""
        found = Answers(
            answers.labels[start:stop],
            answers.exits[start:stop],
            None if answers.probabilities is None else answers.probabilities[start:stop],
        )
        begin, end = (0, 0) if left is None else np.searchsorted(left.rows, [start, stop]).tolist()
        if left is None or begin == end:
            return PartAnswers(found, np.arange(0), None)
        carry = self.executor.passed_on(self.exits.stop, left.carry, left.stay[begin:end])
        first, second, third = (None if part is None else part[begin:end] for part in left.state)
        staying = left.rows[begin:end] - start
        return PartAnswers(found, staying, OnTheWay(end - begin, carry, (first, second, third)))


def parts_of(cascade: Cascade, divided: Sequence[range]) -> list[CascadePart]:
    """Divide a cascade.

    Parameters
    ----------
    cascade : Cascade
        Fitted cascade.
    divided : sequence of range
        Exits of each part, which together are all exits in order.

    Returns
    -------
    parts : list of CascadePart
        Parts, each of which holds the models of its own exits only.

    Raises
    ------
    ValueError
        If there are several parts and samples may skip exits.
    """
    router = cascade.exit_rule.router
    if router is not None and len(divided) > 1:
        raise ValueError(
            "With a router, the exits that a sample skips may be in several parts, which is not "
            f"supported. Got an estimator with router={router!r}; fit it with router=None, or "
            "keep all exits together."
        )
    last_exits = tuple(exits[-1] for exits in divided)
    return [
        CascadePart(_only(cascade.network, exits), cascade.exit_rule, exits, last_exits)
        for exits in divided
    ]


@singledispatch
def _only(network: Any, exits: range) -> Any:
    """Fitted exits in which those outside of a range are replaced by what takes no memory."""
    raise TypeError(f"{type(network).__name__} cannot be divided.")


@_only.register
def _(network: FittedNetwork, exits: range) -> FittedNetwork:
    inside = [exit_ in exits for exit_ in range(network.n_exits)]
    some_head = network.heads[exits[0]]
    stages = [
        stage if kept else torch.nn.Identity()
        for stage, kept in zip(network.stages, inside, strict=True)
    ]
    heads = [head if kept else some_head for head, kept in zip(network.heads, inside, strict=True)]
    # The last exit has no gate.
    gates = [
        gate if kept else network.gates[min(exits[0], len(network.gates) - 1)]
        for gate, kept in zip(network.gates, inside, strict=False)
    ]
    return replace(network, stages=stages, heads=heads, gates=gates)


@_only.register
def _(chain: FittedChain, exits: range) -> FittedChain:
    links = [
        link if exit_ in exits else chain.links[exits[0]] for exit_, link in enumerate(chain.links)
    ]
    return replace(chain, links=links)

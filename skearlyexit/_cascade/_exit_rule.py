"""What is made of the heads' outputs: which answer is given, and how sure it is.

A head's output goes through its temperature, the combination makes an answer of it and of those
before, and the policy judges that answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.base import clone

from skearlyexit._data._splits import hold_out
from skearlyexit._exit_table import ExitTable
from skearlyexit._utils._not_finite import check_outputs
from skearlyexit.combination import Combination, OwnCombination, TemperatureScaling
from skearlyexit.costs import CostInput, UncountedError
from skearlyexit.policies import ConfidencePolicy, Policy

#: What combination and policy remember of the rows.
State = tuple[np.ndarray | None, np.ndarray | None]
NO_STATE: State = (None, None)


@dataclass(frozen=True)
class ExitRule:
    """Temperature, combination and policy of a cascade.

    Attributes
    ----------
    scaling : TemperatureScaling or None
    combination : Combination
    policy : Policy
    gated : bool, default=False
        Whether outputs have one column more than there are classes, the gate.
    """

    scaling: TemperatureScaling | None
    combination: Combination
    policy: Policy
    gated: bool = False

    @property
    def needs_probabilities(self) -> bool:
        """Whether heads that give labels only have to be calibrated for it."""
        return self.policy.needs_probabilities or self.combination.needs_probabilities

    @property
    def has_memory(self) -> bool:
        """Whether anything at an exit depends on the exits before it."""
        return self.policy.has_memory or self.combination.has_memory

    @property
    def learned_parts(self) -> list[str]:
        """Names of what of it learns from held-out rows, each from rows of its own."""
        parts = [] if self.scaling is None else [self.scaling]
        learning = [part for part in (self.combination, self.policy) if part.is_learned]
        return [type(part).__name__ for part in (*parts, *learning)]

    @property
    def n_learned(self) -> int:
        """How many of its parts learn."""
        return len(self.learned_parts)

    @property
    def needs_costs(self) -> bool:
        """Whether anything of it is fitted, for which the costs of the exits have to be known."""
        return self.n_learned > 0 or self.combination.uses_costs

    def copy(self) -> ExitRule:
        """The same without what it has learned."""
        return ExitRule(
            None if self.scaling is None else clone(self.scaling),
            clone(self.combination),
            clone(self.policy),
            self.gated,
        )

    def answer(
        self, state: State, output: np.ndarray, exit_: int
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Answer at an exit, and what the combination remembers.

        Parameters
        ----------
        state : State
        output : ndarray of shape (n_samples, n_classes)
            What the head says; one column more, the gate, if there are gates.
        exit_ : int

        Raises
        ------
        OutputsNotFiniteError
            If temperature or combination make no probabilities of it.
        """
        # Kernels for strided memory may add up in another order.
        output = np.ascontiguousarray(self._of_classes(output))
        if self.scaling is not None:
            output = self.scaling.step(output, exit_)
        answer, combined = self.combination.step(state[0], output, exit_)
        if answer is not output or self.scaling is not None:
            check_outputs(answer, f"The probabilities of {type(self.combination).__name__} are")
        return answer, combined

    def step(
        self, state: State, output: np.ndarray, exit_: int
    ) -> tuple[np.ndarray, np.ndarray, State]:
        """Answer at an exit, its score, and what is remembered; raises as `answer` does."""
        answer, combined = self.answer(state, output, exit_)
        seen = np.hstack([answer, output[:, -1:]]) if self.policy.reads_gate else answer
        score, judged = self.policy.step(state[1], np.ascontiguousarray(seen), exit_)
        check_outputs(score, f"The scores of {type(self.policy).__name__} are")
        return answer, score, (combined, judged)

    def tabulate(self, outputs: np.ndarray, exits: Sequence[int] | None = None) -> ExitTable:
        """Exit table of outputs.

        Parameters
        ----------
        outputs : ndarray of shape (n_samples, n_exits, n_classes)
            With one column more, the gate, if there are gates.
        exits : sequence of int or None, default=None
            Numbers of the exits; None are all.
        """
        scores = np.empty(outputs.shape[:2])
        own = self.scaling is None and isinstance(self.combination, OwnCombination)
        answers = self._of_classes(outputs)
        answers = answers if own else np.empty(answers.shape)
        state = NO_STATE
        for i, exit_ in enumerate(range(outputs.shape[1]) if exits is None else exits):
            answer, scores[:, i], state = self.step(state, outputs[:, i], exit_)
            if not own:
                answers[:, i] = answer
        return ExitTable(answers, scores, outputs[:, :, -1] if self.gated else None)

    def _of_classes(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs without the gate."""
        return outputs[..., :-1] if self.gated else outputs

    def part(self, n_classes: int, exit_: int, *, last: bool) -> CostInput | None:
        """Input of the measurement of its cost at an exit; None where nothing is done.

        Parameters
        ----------
        n_classes : int
        exit_ : int
        last : bool
            Whether this is the last exit, where there is nothing to decide.
        """
        macs = self.combination.macs(n_classes, exit_)
        macs += 0.0 if self.scaling is None else self.scaling.macs(n_classes)
        if last and not macs:
            return None
        model = None if last else self.policy.model(exit_)
        answers = np.full((2, n_classes + self.gated), 1 / n_classes)

        def run(rows: np.ndarray) -> None:
            if last:
                self.answer(NO_STATE, rows, exit_)
            else:
                self.step(NO_STATE, rows, exit_)

        if model is None:
            macs += 0.0 if last else self.policy.macs(n_classes, exit_)
            return CostInput(run, answers, None, macs)
        try:
            return CostInput(run, answers, model, macs + self.policy.macs(n_classes, exit_))
        except UncountedError:
            return CostInput(run, answers, model)

    def fitted(
        self,
        outputs: np.ndarray,
        y: np.ndarray,
        *,
        costs: np.ndarray,
        weight: np.ndarray | None,
        training_weight: np.ndarray | None,
        groups: np.ndarray | None,
        rng: np.random.RandomState,
    ) -> ExitRule:
        """The same, having learned from held-out rows, each part from rows of its own.

        Parameters
        ----------
        outputs : ndarray of shape (n_samples, n_exits, n_classes)
        y : ndarray of shape (n_samples,)
        costs : ndarray of shape (n_exits,)
            Cumulative, decisions not counted.
        weight : ndarray of shape (n_samples,) or None
            Weights for the policy, which judges.
        training_weight : ndarray of shape (n_samples,) or None
            Weights for temperatures and combinations, which are part of the answer.
        groups : ndarray of shape (n_samples,) or None
            Rows of a group are not divided.
        rng : RandomState

        Raises
        ------
        ValueError
            If there are too few rows.
        """
        exit_rule = self.copy()
        outputs = self._of_classes(outputs)
        parts = iter(_divide(y, weight, groups, self.n_learned, rng))
        judging = np.ones(len(y)) if weight is None else weight
        training = np.ones(len(y)) if training_weight is None else training_weight
        scaling, combination, policy = exit_rule.scaling, exit_rule.combination, exit_rule.policy
        if scaling is not None:
            rows = next(parts)
            scaling.fit(outputs[rows], y[rows], training[rows])
            outputs = np.stack(
                [
                    scaling.step(np.ascontiguousarray(outputs[:, i]), i)
                    for i in range(outputs.shape[1])
                ],
                axis=1,
            )
        rows = next(parts) if combination.is_learned else np.arange(0)
        combination.fit(outputs[rows], y[rows], costs=costs, sample_weight=training[rows])
        if policy.is_learned:
            rows = next(parts)
            policy.fit(
                combination.answers(outputs[rows]),
                y[rows],
                costs=costs,
                sample_weight=judging[rows],
                seed=int(rng.randint(np.iinfo(np.int32).max)),
            )
        return exit_rule

    @staticmethod
    def take(state: State, rows: np.ndarray) -> State:
        """What is remembered of some of the rows, by a mask or by index."""
        combined, judged = state
        return (
            None if combined is None else combined[rows],
            None if judged is None else judged[rows],
        )


#: The decision of a network with one exit, where there is none.
PLAIN = ExitRule(None, OwnCombination(), ConfidencePolicy())


def _divide(
    y: np.ndarray,
    weight: np.ndarray | None,
    groups: np.ndarray | None,
    n_parts: int,
    rng: np.random.RandomState,
) -> list[np.ndarray]:
    """Rows in equal parts, by class or group; rows of weight 0 are in none."""
    rest = np.arange(len(y)) if weight is None else np.flatnonzero(weight > 0)
    parts = []
    for n_left in range(n_parts, 1, -1):
        kept, taken = hold_out(y[rest], 1 / n_left, None if groups is None else groups[rest], rng)
        parts.append(rest[taken])
        rest = rest[kept]
    parts.append(rest)
    if n_parts and any(len(part) < 2 for part in parts):
        raise ValueError(
            "Temperatures, learned combinations and learned policies need held-out rows of their "
            f"own, at least 2 each and as many for the thresholds. Got {len(y)} rows for "
            f"{n_parts} of them; give more rows, or none that learn."
        )
    return parts

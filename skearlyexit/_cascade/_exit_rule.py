"""What is made of the heads' outputs: which answer is given, and how sure it is.

A head's output goes through its temperature, the combination makes an answer of it and of those
before, and the policy judges that answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.base import clone

from skearlyexit._data._samples import Samples
from skearlyexit._data._splits import hold_out
from skearlyexit._exit_table import ExitTable, Outputs
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
    """

    scaling: TemperatureScaling | None
    combination: Combination
    policy: Policy

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
        )

    def answer(
        self, state: State, output: Outputs, exit_: int
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Answer at an exit, and what the combination remembers.

        Parameters
        ----------
        state : State
        output : Outputs
            Of the head at this exit.
        exit_ : int

        Raises
        ------
        OutputsNotFiniteError
            If temperature or combination make no probabilities of it.
        """
        if self.scaling is not None:
            scaled = self.scaling.step(output.probabilities, exit_)
            output = replace(output, probabilities=scaled)
        answer, combined = self.combination.combine(state[0], output, exit_)
        if answer is not output.probabilities or self.scaling is not None:
            check_outputs(answer, f"The probabilities of {type(self.combination).__name__} are")
        return answer, combined

    def step(
        self, state: State, output: Outputs, exit_: int
    ) -> tuple[np.ndarray, np.ndarray, State]:
        """Answer at an exit, its score, and what is remembered; raises as `answer` does."""
        answer, combined = self.answer(state, output, exit_)
        seen = replace(output, probabilities=np.ascontiguousarray(answer))
        score, judged = self.policy.judge(state[1], seen, exit_)
        check_outputs(score, f"The scores of {type(self.policy).__name__} are")
        return answer, score, (combined, judged)

    def tabulate(self, outputs: Outputs, exits: Sequence[int] | None = None) -> ExitTable:
        """Exit table of the outputs of every exit.

        Parameters
        ----------
        outputs : Outputs
        exits : sequence of int or None, default=None
            Numbers of the exits; None are all.
        """
        scores = np.empty(outputs.probabilities.shape[:2])
        answers = outputs.probabilities
        state = NO_STATE
        for i, exit_ in enumerate(range(outputs.n_exits) if exits is None else exits):
            output = outputs.at(i)
            answer, scores[:, i], state = self.step(state, output, exit_)
            if answer is output.probabilities:
                continue  # the table of many classes is large, and copied only if it changes
            if answers is outputs.probabilities:
                answers = answers.copy()
            answers[:, i] = answer
        return ExitTable(answers, scores, outputs.gates)

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
        answers = np.full((2, n_classes), 1 / n_classes)

        def run(rows: np.ndarray) -> None:
            output = Outputs(rows, np.ones(len(rows)))
            if last:
                self.answer(NO_STATE, output, exit_)
            else:
                self.step(NO_STATE, output, exit_)

        if model is None:
            macs += 0.0 if last else self.policy.macs(n_classes, exit_)
            return CostInput(run, answers, None, macs)
        try:
            return CostInput(run, answers, model, macs + self.policy.macs(n_classes, exit_))
        except UncountedError:
            return CostInput(run, answers, model)

    def fitted(self, held_out: Samples, costs: np.ndarray, rng: np.random.RandomState) -> ExitRule:
        """The same, having learned from held-out samples, each part from samples of its own.

        Parameters
        ----------
        held_out : Samples
            With the outputs of every exit. The policy learns with the weights in calibration,
            temperatures and combinations, which are part of the prediction, with those in training.
        costs : ndarray of shape (n_exits,)
            Cumulative, decisions not counted.
        rng : RandomState

        Raises
        ------
        ValueError
            If there are too few samples.
        """
        exit_rule = self.copy()
        outputs, y = held_out.X, held_out.y
        probabilities, gates = outputs.probabilities, outputs.gates
        parts = iter(_divide(held_out, self.n_learned, rng))
        judging, training = (
            np.ones(len(y)) if weight is None else weight
            for weight in (held_out.calibration_weight, held_out.weight)
        )
        scaling, combination, policy = exit_rule.scaling, exit_rule.combination, exit_rule.policy
        if scaling is not None:
            rows = next(parts)
            scaling.fit(probabilities[rows], y[rows], training[rows])
            probabilities = np.stack(
                [
                    scaling.step(np.ascontiguousarray(probabilities[:, i]), i)
                    for i in range(outputs.n_exits)
                ],
                axis=1,
            )
        rows = next(parts) if combination.is_learned else np.arange(0)
        combination.fit(probabilities[rows], y[rows], costs=costs, sample_weight=training[rows])
        if policy.is_learned:
            rows = next(parts)
            policy.fit(
                combination.answers(
                    probabilities[rows], gates[rows] if gates is not None else None
                ),
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


def _divide(samples: Samples, n_parts: int, rng: np.random.RandomState) -> list[np.ndarray]:
    """Samples in equal parts, by class or group; those of weight 0 in calibration are in none."""
    y, weight, groups = samples.y, samples.calibration_weight, samples.groups
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

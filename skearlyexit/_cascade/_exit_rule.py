"""Exit rule: from the outputs of the heads to predicted probabilities and scores.

The output of a head is scaled by its temperature, combined with those of the previous heads, and
scored by the policy. With a router, a sample may skip exits, by its score at the first one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import clone

from skearlyexit._data._samples import Samples
from skearlyexit._data._splits import hold_out
from skearlyexit._exit_table import Outputs, Routing
from skearlyexit._output_kind import PROBABILITIES, OutputKind
from skearlyexit._utils._not_finite import check_outputs
from skearlyexit.combination import Combination, OwnCombination, TemperatureScaling
from skearlyexit.costs import CostInput, CostTable, UncountedError
from skearlyexit.costs._compose import RoutedCosts
from skearlyexit.policies import Policy
from skearlyexit.routing import ExitRouter

#: States of combination and policy.
State = tuple[np.ndarray | None, np.ndarray | None]
NO_STATE: State = (None, None)
MAX_SEED = np.iinfo(np.int32).max


@dataclass(frozen=True)
class ExitRule:
    """Temperature scaling, combination, policy and router of a cascade.

    Attributes
    ----------
    scaling : TemperatureScaling or None
        Temperature scaling of the heads. None if the outputs are not scaled.
    combination : Combination
        Combination of the heads.
    policy : Policy
        Policy that computes the scores.
    kind : OutputKind, default=PROBABILITIES
        What the outputs of the heads are.
    router : ExitRouter or None, default=None
        Router that determines the exits that samples skip. None if all are asked.
    savings : ndarray of shape (n_exits,) or None, default=None
        Cost that a sample saves which skips the exit, as a share of that of the plain network. None
        as long as it is not known.
    """

    scaling: TemperatureScaling | None
    combination: Combination
    policy: Policy
    kind: OutputKind = PROBABILITIES
    router: ExitRouter | None = None
    savings: np.ndarray | None = None

    @property
    def needs_probabilities(self) -> bool:
        """Whether heads without predicted probabilities have to be calibrated."""
        return self.policy.needs_probabilities or self.combination.needs_probabilities

    @property
    def needs_only_largest(self) -> bool:
        """Whether label and score are those of the largest probability of the head."""
        unchanged = self.scaling is None and not self.combination.changes_outputs
        return unchanged and self.policy.needs_only_largest

    @property
    def has_memory(self) -> bool:
        """Whether predictions or scores at an exit depend on the previous exits."""
        return self.policy.has_memory or self.combination.has_memory

    @property
    def gated_parts(self) -> list[str]:
        """Names of the parts that require the outputs of the gates."""
        parts = (self.combination, self.policy)
        return [type(part).__name__ for part in parts if part.needs_gates]

    @property
    def learned_parts(self) -> list[str]:
        """Names of the parts that are fitted to held-out samples, each to separate ones."""
        learning = [part for part in (self.combination, self.policy) if part.is_learned]
        parts = (self.scaling, *learning, self.router)
        return [type(part).__name__ for part in parts if part is not None]

    @property
    def n_learned(self) -> int:
        """Number of parts that are fitted to held-out samples."""
        return len(self.learned_parts)

    @property
    def needs_fit(self) -> bool:
        """Whether a part is fitted, which requires the costs of the exits."""
        return self.n_learned > 0 or self.combination.uses_costs

    @classmethod
    def plain(cls, policy: Policy, kind: OutputKind = PROBABILITIES) -> ExitRule:
        """Exit rule of a single exit, by a policy whose scores have no meaning."""
        return cls(None, OwnCombination(), policy, kind)

    def copy(self) -> ExitRule:
        """Copy with clones of the parts, which are not fitted."""
        return ExitRule(
            None if self.scaling is None else clone(self.scaling),
            clone(self.combination),
            clone(self.policy),
            self.kind,
            None if self.router is None else clone(self.router),
        )

    def check_router(self) -> None:
        """Raise a ValueError if there is a router and another part depends on skipped exits."""
        if self.router is None:
            return
        self.router._validate_params()
        remembering = [each for each in (self.policy, self.combination) if each.has_memory]
        if remembering:
            raise ValueError(
                f"{type(remembering[0]).__name__} depends on the outputs of all exits before, and "
                f"{type(self.router).__name__} skips some of them. Give router=None, or a policy "
                "and a combination that depend on one exit only."
            )

    def priced(self, table: CostTable) -> ExitRule:
        """Exit rule with what a sample saves by skipping an exit, which depends on the costs."""
        return self if self.router is None else replace(self, savings=table.savings)

    def routed(self, table: Any) -> Any:
        """Table with the exits that samples skip, if there is a router."""
        if self.router is None:
            return table
        savings = self.router.savings_ if self.savings is None else self.savings
        return replace(table, routing=Routing.of(self.router, len(table), savings))

    def answer(
        self, state: State, output: Outputs, exit_: int
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Compute the predicted probabilities at an exit.

        Parameters
        ----------
        state : State
            State returned by `step` at the previous exit.
        output : Outputs
            Outputs of the head at this exit, and of the gate if there are gates.
        exit_ : int
            Index of the exit.

        Returns
        -------
        answer : ndarray of shape (n_samples, n_classes)
            Predicted probabilities.
        combined : ndarray of shape (n_samples, ...) or None
            State of the combination.

        Raises
        ------
        OutputsNotFiniteError
            If the scaled and combined probabilities are NaN or negative.
        """
        if self.scaling is not None:
            scaled = self.scaling.step(output.probabilities, exit_)
            output = replace(output, probabilities=scaled)
        answer, combined = self.combination.combine(state[0], output, exit_)
        if answer is not output.probabilities or self.scaling is not None:
            kind = self.kind
            kind.check(answer, f"The {kind.noun} of {type(self.combination).__name__} are")
        return answer, combined

    def step(
        self, state: State, output: Outputs, exit_: int
    ) -> tuple[np.ndarray, np.ndarray, State]:
        """Predicted probabilities, scores and states at an exit; see `answer`."""
        answer, combined = self.answer(state, output, exit_)
        seen = output
        if answer is not output.probabilities:
            seen = replace(output, probabilities=np.ascontiguousarray(answer))
        score, judged = self.policy.judge(state[1], seen, exit_)
        check_outputs(score, f"The scores of {type(self.policy).__name__} are")
        return answer, score, (combined, judged)

    def tabulate(self, outputs: Outputs, exits: Sequence[int] | None = None) -> Any:
        """Compute an exit table.

        Parameters
        ----------
        outputs : Outputs
            Outputs of the heads of all these exits.
        exits : sequence of int or None, default=None
            Indices of the exits. None means all exits.

        Returns
        -------
        table : ExitTable or PredictionTable
            Outputs and scores of these exits.
        """
        scores = np.empty(outputs.probabilities.shape[:2])
        answers = outputs.probabilities
        state = NO_STATE
        for i, exit_ in enumerate(range(outputs.n_exits) if exits is None else exits):
            output = outputs.at(i)
            answer, scores[:, i], state = self.step(state, output, exit_)
            if answer is output.probabilities:
                continue  # a table with many classes is large, and is copied only if it changes
            if answers is outputs.probabilities:
                answers = answers.copy()
            answers[:, i] = answer
        return self.routed(self.kind.table(answers, scores, outputs.gates))

    def cost_input(self, n_classes: int, exit_: int, *, last: bool) -> CostInput | None:
        """Input of the measurement of the cost of the exit rule at an exit.

        Parameters
        ----------
        n_classes : int
            Number of classes, or of targets in regression.
        exit_ : int
            Index of the exit.
        last : bool
            Whether it is the last exit, at which no score is computed.

        Returns
        -------
        part : CostInput or None
            Input of the measurement. None if nothing is computed.
        """
        macs = self.combination.macs(n_classes, exit_)
        macs += 0.0 if self.scaling is None else self.scaling.macs(n_classes)
        macs += self.router.macs() if self.router is not None and exit_ == 0 else 0.0
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

    def fitted(self, held_out: Samples, costs: RoutedCosts, rng: np.random.RandomState) -> ExitRule:
        """Fit a copy of the exit rule, each part to separate held-out samples.

        Parameters
        ----------
        held_out : Samples
            Samples with the outputs of all exits. Policy and router are fitted with the sample
            weights of the calibration. Temperatures and combination, which change the predictions,
            are fitted with those of the training.
        costs : RoutedCosts
            Costs of the exits, without the cost of the exit rule.
        rng : RandomState
            Generator of random numbers.

        Returns
        -------
        exit_rule : ExitRule
            Fitted exit rule.

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
        known = costs.cumulative
        combination.fit(probabilities[rows], y[rows], costs=known, sample_weight=training[rows])
        if policy.is_learned:
            rows = next(parts)
            policy.fit(
                combination.answers(
                    probabilities[rows], gates[rows] if gates is not None else None
                ),
                y[rows],
                costs=known,
                sample_weight=judging[rows],
                seed=int(rng.randint(MAX_SEED)),
            )
        if exit_rule.router is not None:
            rows = next(parts)
            exit_rule.router.fit(
                replace(exit_rule, router=None).tabulate(outputs[rows]).scores,
                costs=known,
                savings=costs.savings,
                sample_weight=judging[rows],
                seed=int(rng.randint(MAX_SEED)),
            )
        return exit_rule


def _divide(samples: Samples, n_parts: int, rng: np.random.RandomState) -> list[np.ndarray]:
    """Indices of equal parts, by class or group, without samples of calibration weight 0."""
    y, weight, groups = samples.strata, samples.calibration_weight, samples.groups
    rest = np.arange(len(y)) if weight is None else np.flatnonzero(weight > 0)
    parts = []
    for n_left in range(n_parts, 1, -1):
        kept, taken = hold_out(y[rest], 1 / n_left, None if groups is None else groups[rest], rng)
        parts.append(rest[taken])
        rest = rest[kept]
    parts.append(rest)
    if n_parts and any(len(part) < 2 for part in parts):
        raise ValueError(
            "Temperature scaling, learned combinations, learned policies and routers are fitted to "
            f"separate held-out samples, at least 2 each. Got {len(y)} held-out samples for "
            f"{n_parts} of them. Give more samples, or fewer of these methods."
        )
    return parts

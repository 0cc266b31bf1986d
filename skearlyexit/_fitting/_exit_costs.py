"""Costs of the exits of a network, before and after it is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from skearlyexit._cascade._cascade import Cascade, FittedNetwork
from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._data._streamed import tensor_of
from skearlyexit._determinism._random import isolated_random_state
from skearlyexit._fitting._exit_times import ExitTimer
from skearlyexit._fitting._measured_network import Exits
from skearlyexit._task._base import Task
from skearlyexit.combination import Combination
from skearlyexit.costs import Cost, CostInput, CostMeasurement, CostTable
from skearlyexit.costs._compose import RoutedCosts
from skearlyexit.costs._macs import counted_or_free
from skearlyexit.heads._gate import FittedGate, build_gate


@dataclass(frozen=True)
class ExitCosts:
    """Measures the costs of the exits.

    Attributes
    ----------
    cost : Cost
        Cost of a part.
    exits : Exits
        Exits of the network.
    task : Task
        What is predicted.
    runtime : {"torch", "onnx"}
        What executes predictions.
    """

    cost: Cost
    exits: Exits
    task: Task
    runtime: str

    def least(self, combination: Combination | None, *, gated: bool) -> CostTable | None:
        """Lower bounds of the costs, as far as they are known before training.

        Parameters
        ----------
        combination : Combination or None
            Combination that is learned with the network, not fitted.
        gated : bool
            Whether gates are computed.

        Returns
        -------
        table : CostTable or None
            Costs of stages and heads, of which those of estimators are 0, and of the decision at
            the first exit. None if nothing is known.
        """
        last = self.exits.heads[-1]
        if not last.is_neural or last.is_own or not self.cost.is_exact:
            return None  # the cost of the plain network is not known yet
        parts = []
        with isolated_random_state(0):
            for head, embedding in zip(self.exits.heads, self.exits.plan.embeddings, strict=True):
                if head.is_neural:
                    module = head.build(embedding, self.task.n_outputs).to(embedding.dtype).eval()
                    fitted = self.task.fit_head(
                        head,
                        module=module,
                        embeddings=None,
                        y=np.empty(0),
                        sample_weight=None,
                        needs_probabilities=True,
                        seed=0,
                    )
                    parts.append(fitted.cost_input(embedding))
                else:
                    parts.append(CostInput(head, embedding, None, macs=0.0))
        decisions: list[list[CostInput]] = [[] for _ in parts]
        if gated:
            embedding = self.exits.plan.embeddings[0]
            with isolated_random_state(0):
                gate = build_gate(embedding).to(embedding.dtype).eval()
            decisions[0].append(FittedGate.of(gate).cost_input(embedding))
        if combination is not None:
            decisions[0].append(combination.cost_input(self.task.n_outputs, 0))
        return self._table([], parts, decisions)

    def cascade(self, network: FittedNetwork, exit_rule: ExitRule, X: np.ndarray) -> Cascade:
        """Complete a cascade by its costs, measured on a few samples.

        Parameters
        ----------
        network : FittedNetwork
            Fitted network.
        exit_rule : ExitRule
            Fitted exit rule.
        X : ndarray of shape (n_samples, ...)
            Samples, of which the first ones are used.

        Returns
        -------
        cascade : Cascade
            Network and exit rule with their costs, and with what was compiled to measure these.
        """
        timer = ExitTimer(self.runtime, network, exit_rule, X, self.task.plain_policy())
        measured = self.cost.while_running(timer)
        if measured is None:
            table = self._table(*self._parts(network, X, exit_rule))
        else:
            table = self._of_measurements(*measured)
        return Cascade(network, exit_rule.priced(table), table, timer.compiled)

    def untimed(self, network: FittedNetwork, X: np.ndarray) -> RoutedCosts:
        """Costs from which exit rules are fitted, which are the same for fits with the same seed.

        If the cost of stages is measured by time, operations are counted instead, at least one for
        each stage. Heads and decisions that are measured by time or cannot be counted have cost 0.

        Parameters
        ----------
        network : FittedNetwork
            Fitted network.
        X : ndarray of shape (n_samples, ...)
            Samples, of which the first ones are used.

        Returns
        -------
        costs : RoutedCosts
            Costs of the exits, in units of the cost of the plain network, without the cost of the
            exit rule.
        """
        stages, heads, decisions = self._parts(network, X, None)
        if self.cost.is_exact:
            return self._table(stages, heads, decisions).untimed
        return RoutedCosts.of(
            np.array([max(1.0, counted_or_free(part)) for part in stages]),
            np.array([counted_or_free(part) for part in heads]),
            np.array([float(sum(map(counted_or_free, parts))) for parts in decisions]),
        )

    def _parts(
        self, network: FittedNetwork, X: np.ndarray, exit_rule: ExitRule | None
    ) -> tuple[list[CostInput], list[CostInput], list[list[CostInput]]]:
        """Inputs of the measurement of stages, heads and decisions."""
        # Several different samples, since the cost of a head may depend on its input.
        carry: Any = tensor_of(X[:32]).to(network.device)
        stages: list[CostInput] = []
        heads: list[CostInput] = []
        decisions: list[list[CostInput]] = []
        last = network.n_exits - 1
        with torch.inference_mode():
            for i, (stage, head) in enumerate(zip(network.stages, network.heads, strict=True)):
                stages.append(CostInput(stage, carry, stage))
                carry, embedding = stage(carry)
                heads.append(head.cost_input(embedding))
                parts = []
                if network.combiner is not None:
                    parts.append(network.combiner.cost_input(self.task.n_outputs, i))
                if network.gates and i < last:
                    parts.append(network.gates[i].cost_input(embedding))
                if exit_rule is not None:
                    decided = exit_rule.cost_input(self.task.n_outputs, i, last=i == last)
                    parts += [] if decided is None else [decided]
                decisions.append(parts)
        return stages, heads, decisions

    def _table(
        self,
        stages: Sequence[CostInput],
        heads: Sequence[CostInput],
        decisions: Sequence[Sequence[CostInput]],
    ) -> CostTable:
        read = [part for parts in decisions for part in parts]
        staged, headed, found = self.cost.of_cascade(
            stages, heads, read, self.exits.plan.block_costs
        )
        values = iter(found)
        decided = [CostMeasurement.total([next(values) for _ in parts]) for parts in decisions]
        return self._of_measurements(staged, headed, decided)

    def _of_measurements(
        self,
        stages: list[CostMeasurement],
        heads: list[CostMeasurement],
        decisions: list[CostMeasurement],
    ) -> CostTable:
        plan = self.exits.plan
        return CostTable(self.cost.unit_name, plan.names, stages, heads, plan.links, decisions)

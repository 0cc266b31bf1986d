"""Costs of estimators in a row, before and after they are fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import check_array

from skearlyexit._cascade._cascade import Cascade
from skearlyexit._cascade._chain import FittedChain
from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._data._given import GivenRows
from skearlyexit._fitting._exit_times import N_DIFFERENT, ExitTimer, times_of_parts
from skearlyexit._task._base import Task
from skearlyexit._utils._resolve import resolve
from skearlyexit.costs import (
    Cost,
    CostInput,
    CostMeasurement,
    CostTable,
    GivenCost,
    UncountedError,
)
from skearlyexit.costs._compose import RoutedCosts
from skearlyexit.costs._estimators import CALL
from skearlyexit.costs._macs import counted_or_free, counts
from skearlyexit.costs._parts import PartMeasurements
from skearlyexit.costs._registry import COSTS
from skearlyexit.runtime._onnx_chain import as_network

#: Operations per second when a call of a member of an ensemble takes the time of `CALL` of them.
RATE = CALL * 256 / 1e-4


def resolve_chain_cost(value: Any, names: Sequence[str], columns: np.ndarray) -> Cost:
    """Cost of the estimators: by name, an object, or the cost of each estimator.

    Parameters
    ----------
    value : str, Cost or array-like
        Cost, as in `CascadeClassifier`.
    names : sequence of str
        Names of the estimators.
    columns : ndarray of shape (2, n_exits)
        Result of `column_costs`.

    Raises
    ------
    ValueError
        If the cost refers to machines, is not known for all estimators, or is given and 0 for the
        last one.
    """
    given = not isinstance(value, str | Cost)
    cost: Cost = resolve(GivenCost(value) if given else value, COSTS, "seconds")
    cost.check(len(names))
    if len(cost.links):
        raise ValueError(
            f"The 'links' of {type(cost).__name__} are between blocks of a network. Got "
            f"{list(cost.links)} for estimators in a row; give a cost without links."
        )
    if not all(cost.priced_blocks(names, {})):
        raise ValueError(
            f"{type(cost).__name__} must name all estimators, {list(names)}. Got "
            f"{cost.get_params()} instead."
        )
    known = cost.of_blocks([], names, {})
    if len(known) and known[-1] + columns[0].sum() == 0:
        raise ValueError(
            f"The cost of the last estimator, {names[-1]!r}, must be larger than 0, since costs "
            f"are relative to it. Got the costs {known.tolist()}."
        )
    return cost


@dataclass(frozen=True)
class ChainCosts:
    """Measures the costs of estimators in a row.

    Attributes
    ----------
    cost : Cost
        Cost of a part. What it calls a block is an estimator.
    names : list of str
        Names of the estimators.
    task : Task
        What is predicted.
    in_last : ndarray of shape (n_exits,), bool
        Whether the last estimator includes what each of them computes, as a network does what a
        stage computes. If not, the cost is that of a head, which the last one alone does without.
    columns : ndarray of shape (2, n_exits)
        Cost of getting the columns that each estimator is the first to need: those that the last
        estimator needs, too, and others.
    runtime : {"sklearn", "onnx"}
        What executes predictions.
    """

    cost: Cost
    names: list[str]
    task: Task
    in_last: np.ndarray
    columns: np.ndarray
    runtime: str

    def least(self) -> float:
        """Lower bound of the cost of exiting at the first exit, known before training."""
        # Without parts, only a cost that is given has values for the estimators.
        known = self.cost.of_blocks([], self.names, {})
        return float(self._untimed(known, self.columns).cumulative[0]) if len(known) else 0.0

    def cascade(
        self, chain: FittedChain, exit_rule: ExitRule, X: GivenRows
    ) -> Cascade[FittedChain]:
        """Complete a cascade by its costs, measured on a few samples.

        Parameters
        ----------
        chain : FittedChain
            Fitted estimators.
        exit_rule : ExitRule
            Fitted exit rule.
        X : GivenRows
            Samples, of which the first ones are used.

        Returns
        -------
        cascade : Cascade
            Estimators and exit rule with their costs, and with what was compiled to measure these.
        """
        if self.runtime == "onnx":
            in_session = self._in_session(chain, exit_rule, X)
            if in_session is not None:
                return in_session

        def time(n_samples: int, n_repeats: int) -> PartMeasurements:
            rows = X[np.arange(n_samples) % min(len(X), N_DIFFERENT)]
            return times_of_parts(chain, exit_rule, rows, n_repeats)

        measured = self.cost.while_running(time)
        table = self._of_parts(*(measured or self._measured_alone(chain, exit_rule, X)))
        return Cascade(chain, exit_rule.priced(table), table)

    def _in_session(
        self, chain: FittedChain, exit_rule: ExitRule, X: GivenRows
    ) -> Cascade[FittedChain] | None:
        """Cascade with times of ONNX Runtime. None if its cost is not measured by time."""
        rows = check_array(X[:N_DIFFERENT].content, dtype=np.float32)
        network = as_network(chain, self.names, rows.shape[1])
        timer = ExitTimer("onnx", network, exit_rule, rows, self.task.plain_policy())
        measured = self.cost.while_running(timer)
        if measured is None:
            return None
        # To call the session, and to copy the samples in it, takes time for any estimator alone.
        table = self._table(*measured)
        return Cascade(chain, exit_rule.priced(table), table, timer.compiled)

    def untimed(self, chain: FittedChain, X: GivenRows, *, routed: bool) -> RoutedCosts:
        """Costs from which exit rules are fitted, which are the same for fits with the same seed.

        If the cost is measured by time, operations are counted instead, at least one for each
        estimator. The costs of columns are then converted to operations by a fixed rate.

        Parameters
        ----------
        chain : FittedChain
            Fitted estimators.
        X : GivenRows
            Samples, of which the first ones are used.
        routed : bool
            Whether there is a router, which compares the estimators by these costs.

        Returns
        -------
        costs : RoutedCosts
            Costs of the exits, without the cost of the exit rule.

        Raises
        ------
        ValueError
            If an estimator cannot be counted for a router.
        """
        parts = _parts(chain, X)
        if self.cost.is_exact:
            return self._untimed(self._of_estimators(parts), self.columns)
        unknown = [name for name, part in zip(self.names, parts, strict=True) if not counts(part)]
        if routed and unknown:
            raise ValueError(
                "A router compares the costs of the estimators by counted operations, so that the "
                f"same seed gives the same model, and the operations of {unknown} cannot be "
                "counted. Give the cost of each estimator, such as "
                f"cost={[10**i for i in range(len(parts))]}, or router=None."
            )
        values = np.array([max(1.0, counted_or_free(part)) for part in parts])
        return self._untimed(values, RATE * self.columns)

    def _untimed(self, values: np.ndarray, columns: np.ndarray) -> RoutedCosts:
        """Costs of the exits from those of the estimators and of the columns."""
        stages, heads = np.where(self.in_last, values, 0), np.where(self.in_last, 0, values)
        return RoutedCosts.of(stages + columns[0], heads + columns[1], np.zeros(len(values)))

    def _measured_alone(
        self, chain: FittedChain, exit_rule: ExitRule, X: GivenRows
    ) -> PartMeasurements:
        """Costs of parts that are counted, given, or measured one by one."""
        parts, last = _parts(chain, X), chain.n_exits - 1
        # An estimator is both stage and head, and is measured once.
        nothing = CostInput(len, np.zeros((2, 1)), None, macs=0.0)
        decided = [
            exit_rule.cost_input(self.task.n_outputs, i, last=i == last) for i in range(last + 1)
        ]
        stages, heads, found = self.cost.of_cascade(
            parts,
            [nothing] * len(parts),
            [part for part in decided if part is not None],
            self._of_estimators(parts),
        )
        values = iter(found)
        none = CostMeasurement.total([])
        return stages, heads, [none if part is None else next(values) for part in decided]

    def _of_estimators(self, parts: list[CostInput]) -> np.ndarray:
        try:
            return self.cost.of_blocks(parts, self.names, {})
        except UncountedError as error:
            raise ValueError(
                f"{error} Give cost='seconds', or the cost of each estimator."
            ) from error

    def _of_parts(
        self,
        stages: list[CostMeasurement],
        heads: list[CostMeasurement],
        decisions: list[CostMeasurement],
    ) -> CostTable:
        """Table in which each estimator is a stage or a head, and the last one alone the unit."""
        whole = [CostMeasurement.total(both) for both in zip(stages, heads, strict=True)]
        free = [CostMeasurement.exactly(0.0, each.how) for each in whole]
        n_exits = len(whole)
        return self._table(
            [(whole if self.in_last[i] else free)[i] for i in range(n_exits)],
            [(free if self.in_last[i] else whole)[i] for i in range(n_exits)],
            decisions,
        )

    def _table(
        self,
        stages: list[CostMeasurement],
        heads: list[CostMeasurement],
        decisions: list[CostMeasurement],
    ) -> CostTable:
        return CostTable(
            self.cost.unit_name,
            self.names,
            stages,
            heads,
            np.zeros(len(stages)),
            decisions,
            plain_name="last estimator" if self.in_last.all() else "last estimator alone",
            columns=self.columns,
        )


def _parts(chain: FittedChain, X: GivenRows) -> list[CostInput]:
    """Inputs of the measurement of each estimator."""
    # Several different samples, since the cost of an estimator may depend on its input.
    rows, state, parts = X[:32], None, []
    for link in chain.links:
        parts.append(link.cost_input(rows, state))
        state = link.advance(rows, state)
    return parts

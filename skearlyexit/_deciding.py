"""Which held-out rows a decision learns from, and which its thresholds are chosen on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from skearlyexit._decision import Decision
from skearlyexit._splits import hold_out
from skearlyexit._table import ExitTable

#: Share of the held-out rows that a decision learns from, where they are held out once.
LEARNING_SHARE = 0.5


@dataclass(frozen=True)
class HeldOutRows:
    """What the heads say of rows that they were not fitted on.

    Attributes
    ----------
    outputs : ndarray of shape (n_samples, n_exits, n_classes)
    y : ndarray of shape (n_samples,)
    weight : ndarray of shape (n_samples,) or None
        Weights in judging.
    training_weight : ndarray of shape (n_samples,) or None
        Weights in training, those of the classes among them.
    groups : ndarray of shape (n_samples,) or None
    """

    outputs: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None
    training_weight: np.ndarray | None
    groups: np.ndarray | None

    def take(self, rows: np.ndarray) -> HeldOutRows:
        """Some of the rows."""
        return HeldOutRows(
            self.outputs[rows],
            self.y[rows],
            None if self.weight is None else self.weight[rows],
            None if self.training_weight is None else self.training_weight[rows],
            None if self.groups is None else self.groups[rows],
        )

    def fit(self, decision: Decision, costs: np.ndarray, rng: np.random.RandomState) -> Decision:
        """The decision as learned from these rows."""
        return decision.fitted(
            self.outputs,
            self.y,
            costs=costs,
            weight=self.weight,
            training_weight=self.training_weight,
            groups=self.groups,
            rng=rng,
        )


def n_judged(decision: Decision, folds: Sequence[int]) -> int:
    """How many of the rows held out, by folds, are left for the thresholds, about."""
    once = len(folds) == 1 and decision.n_learned > 0
    return int(sum(folds) * (1 - LEARNING_SHARE * once))


def decide(
    decision: Decision,
    rows: HeldOutRows,
    folds: Sequence[int],
    costs: Callable[[], np.ndarray],
    rng: np.random.RandomState,
) -> tuple[Decision, ExitTable, HeldOutRows]:
    """Fit a decision, and tabulate rows that it has not seen for the thresholds.

    Rows held out once are divided: one half is learned from, the thresholds see the other. With
    rows held out by folds, the rows of each are judged by a decision that has learned from the
    other folds, and the final one learns from all.

    Parameters
    ----------
    decision : Decision
        Not fitted.
    rows : HeldOutRows
    folds : sequence of int
        Number of rows of each fold, in order.
    costs : callable
        Gives the cumulative costs of the exits, decisions not counted, if they are needed.
    rng : RandomState

    Returns
    -------
    decision : Decision
        Fitted.
    table : ExitTable
    rows : HeldOutRows
        Those in the table.
    """
    if not decision.n_learned:
        decision = unlearned(decision, costs, rows.outputs.shape[2])
        return decision, decision.tabulate(rows.outputs), rows
    known = costs()
    if len(folds) == 1:
        judged, learned = hold_out(rows.y, LEARNING_SHARE, rows.groups, rng)
        fitted = rows.take(learned).fit(decision, known, rng)
        rows = rows.take(judged)
        return fitted, fitted.tabulate(rows.outputs), rows
    fold = np.repeat(np.arange(len(folds)), folds)
    tables = []
    for i in range(len(folds)):
        fitted = rows.take(np.flatnonzero(fold != i)).fit(decision, known, rng)
        tables.append(fitted.tabulate(rows.outputs[fold == i]))
    return rows.fit(decision, known, rng), ExitTable.concatenate(tables), rows


def unlearned(decision: Decision, costs: Callable[[], np.ndarray], n_classes: int) -> Decision:
    """A decision that learns nothing, with the costs that it may want."""
    if not decision.needs_costs:
        return decision.copy()
    known = costs()
    nothing = HeldOutRows(
        np.empty((0, len(known), n_classes)), np.empty(0, dtype=np.intp), None, None, None
    )
    return nothing.fit(decision, known, np.random.RandomState(0))

"""Which held-out rows a decision learns from, and which its thresholds are chosen on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._data._splits import Split, cross_fitting_splits
from skearlyexit._exit_table import ExitTable

#: Folds of rows that were held out once, for a decision that learns.
N_FOLDS = 5


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

    def fit(self, exit_rule: ExitRule, costs: np.ndarray, rng: np.random.RandomState) -> ExitRule:
        """The decision as learned from these rows."""
        return exit_rule.fitted(
            self.outputs,
            self.y,
            costs=costs,
            weight=self.weight,
            training_weight=self.training_weight,
            groups=self.groups,
            rng=rng,
        )


def decide(
    exit_rule: ExitRule,
    rows: HeldOutRows,
    folds: Sequence[int],
    costs: Callable[[], np.ndarray],
    rng: np.random.RandomState,
) -> tuple[ExitRule, ExitTable, HeldOutRows]:
    """Fit a decision, and tabulate rows that it has not seen for the thresholds.

    A decision that learns is cross-fitted: the rows of each fold are judged by one that has learned
    from the other folds, and the final one learns from all. Rows that were held out once are
    divided into folds for that. Scores stay as the decisions of the folds gave them: the scores
    that the final one gives to the samples it has learned from say nothing about new samples.

    Parameters
    ----------
    exit_rule : ExitRule
        Not fitted.
    rows : HeldOutRows
    folds : sequence of int
        Number of rows of each fold, in order.
    costs : callable
        Gives the cumulative costs of the exits, decisions not counted, if they are needed.
    rng : RandomState

    Returns
    -------
    exit_rule : ExitRule
        Fitted.
    table : ExitTable
    rows : HeldOutRows
        Those in the table.
    """
    if not exit_rule.n_learned:
        exit_rule = unlearned(exit_rule, costs, rows.outputs.shape[2])
        return exit_rule, exit_rule.tabulate(rows.outputs), rows
    known = costs()
    splits = _splits(rows, folds, rng)
    order = np.concatenate([held for _, held in splits])
    tables = []
    for learned, held in splits:
        fitted = rows.take(learned).fit(exit_rule, known, rng)
        tables.append(fitted.tabulate(rows.outputs[held]))
    return rows.fit(exit_rule, known, rng), ExitTable.concatenate(tables), rows.take(order)


def _splits(rows: HeldOutRows, folds: Sequence[int], rng: np.random.RandomState) -> list[Split]:
    """Which rows to learn from and which to judge, for every fold."""
    if len(folds) > 1:
        fold = np.repeat(np.arange(len(folds)), folds)
        return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(len(folds))]
    splits = list(cross_fitting_splits(N_FOLDS, rows.y, rows.groups, rng))
    if not splits:
        raise ValueError(
            "Temperatures, learned combinations and learned policies are cross-fitted on the "
            f"held-out rows, which takes at least {N_FOLDS} of them, or two groups. Got "
            f"{len(rows.y)} rows; hold out more, or take none that learn."
        )
    return splits


def unlearned(exit_rule: ExitRule, costs: Callable[[], np.ndarray], n_classes: int) -> ExitRule:
    """A decision that learns nothing, with the costs that it may want."""
    if not exit_rule.needs_costs:
        return exit_rule.copy()
    known = costs()
    nothing = HeldOutRows(
        np.empty((0, len(known), n_classes)), np.empty(0, dtype=np.intp), None, None, None
    )
    return nothing.fit(exit_rule, known, np.random.RandomState(0))

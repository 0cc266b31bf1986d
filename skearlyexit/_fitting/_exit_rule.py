"""Which held-out samples an exit rule learns from, and which its thresholds are chosen on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._data._samples import Samples
from skearlyexit._data._splits import Split, cross_fitting_splits
from skearlyexit._exit_table import ExitTable, Outputs

#: Folds of samples that were held out once, for an exit rule that learns.
N_FOLDS = 5


def cross_fit(
    exit_rule: ExitRule,
    held_out: Samples,
    folds: Sequence[int],
    costs: Callable[[], np.ndarray],
    rng: np.random.RandomState,
) -> tuple[ExitRule, Samples]:
    """Fit an exit rule, and tabulate samples that it has not seen for the thresholds.

    An exit rule that learns is cross-fitted: the samples of each fold are judged by one that has
    learned from the other folds, and the final one learns from all. Samples that were held out once
    are divided into folds for that. Scores stay as the exit rules of the folds gave them: the
    scores that the final one gives to the samples it has learned from say nothing about new
    samples.

    Parameters
    ----------
    exit_rule : ExitRule
        Not fitted.
    held_out : Samples
        With the outputs of every exit.
    folds : sequence of int
        Number of samples of each fold, in order.
    costs : callable
        Gives the cumulative costs of the exits, decisions not counted, if they are needed.
    rng : RandomState

    Returns
    -------
    exit_rule : ExitRule
        Fitted.
    judged : Samples
        With their exit table.
    """
    outputs = held_out.X
    if not exit_rule.n_learned:
        exit_rule = unlearned(exit_rule, costs, outputs.probabilities.shape[2])
        everything = np.arange(len(held_out))
        return exit_rule, held_out.take(everything, exit_rule.tabulate(outputs))
    known = costs()
    splits = _splits(held_out, folds, rng)
    tables = []
    for learned, held in splits:
        fitted = exit_rule.fitted(held_out.take(learned), known, rng)
        tables.append(fitted.tabulate(outputs[held]))
    order = np.concatenate([held for _, held in splits])
    judged = held_out.take(order, ExitTable.concatenate(tables))
    return exit_rule.fitted(held_out, known, rng), judged


def _splits(held_out: Samples, folds: Sequence[int], rng: np.random.RandomState) -> list[Split]:
    """Which samples to learn from and which to judge, for every fold."""
    if len(folds) > 1:
        fold = np.repeat(np.arange(len(folds)), folds)
        return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(len(folds))]
    splits = list(cross_fitting_splits(N_FOLDS, held_out.y, held_out.groups, rng))
    if not splits:
        raise ValueError(
            "Temperatures, learned combinations and learned policies are cross-fitted on the "
            f"held-out rows, which takes at least {N_FOLDS} of them, or two groups. Got "
            f"{len(held_out)} rows; hold out more, or take none that learn."
        )
    return splits


def unlearned(exit_rule: ExitRule, costs: Callable[[], np.ndarray], n_classes: int) -> ExitRule:
    """An exit rule that learns nothing, with the costs that it may want."""
    if not exit_rule.needs_costs:
        return exit_rule.copy()
    known = costs()
    empty = Outputs(np.empty((0, len(known), n_classes)), np.empty((0, len(known))))
    nothing = Samples(empty, np.empty(0, dtype=np.intp))
    return exit_rule.fitted(nothing, known, np.random.RandomState(0))

"""Fit of an exit rule to held-out samples, and exit table for its thresholds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._data._samples import Samples
from skearlyexit._data._splits import Split, cross_fitting_splits
from skearlyexit._exit_table import Outputs
from skearlyexit.costs._compose import RoutedCosts

#: Number of folds for an exit rule that learns, if the samples were held out once.
N_FOLDS = 5


def cross_fit(
    exit_rule: ExitRule,
    held_out: Samples,
    folds: Sequence[int],
    costs: Callable[[], RoutedCosts],
    rng: np.random.RandomState,
) -> tuple[ExitRule, Samples]:
    """Fit an exit rule, and compute the exit table from which its thresholds are chosen.

    An exit rule that learns is cross-fitted: the exit table of each fold is computed by an exit
    rule that was fitted to the other folds, and the final exit rule is fitted to all samples.
    Samples that were held out once are divided into folds for this. The exit table of the final
    exit rule is not used, since its scores for the samples it was fitted to are not representative
    of new samples.

    Parameters
    ----------
    exit_rule : ExitRule
        Exit rule, not fitted.
    held_out : Samples
        Samples with the outputs of all exits.
    folds : sequence of int
        Number of samples of each fold, in order.
    costs : callable
        Function without arguments that returns the costs of the exits, without the cost of the exit
        rule. It is called only if they are required.
    rng : RandomState
        Generator of random numbers.

    Returns
    -------
    exit_rule : ExitRule
        Fitted exit rule.
    judged : Samples
        Samples with their exit table.

    Raises
    ------
    ValueError
        If there are too few samples for an exit rule that learns.
    """
    outputs = held_out.X
    if not exit_rule.n_learned:
        exit_rule = fit_to_costs(exit_rule, costs, outputs.probabilities.shape[2])
        everything = np.arange(len(held_out))
        return exit_rule, held_out.take(everything, exit_rule.tabulate(outputs))
    known = costs()
    splits = _splits(held_out, folds, rng)
    tables = []
    for learned, held in splits:
        fitted = exit_rule.fitted(held_out.take(learned), known, rng)
        tables.append(fitted.tabulate(outputs[held]))
    order = np.concatenate([held for _, held in splits])
    judged = held_out.take(order, type(tables[0]).concatenate(tables))
    return exit_rule.fitted(held_out, known, rng), judged


def _splits(held_out: Samples, folds: Sequence[int], rng: np.random.RandomState) -> list[Split]:
    """Samples to which the exit rule is fitted, and samples of the exit table, for each fold."""
    if len(folds) > 1:
        fold = np.repeat(np.arange(len(folds)), folds)
        return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(len(folds))]
    splits = list(cross_fitting_splits(N_FOLDS, held_out.strata, held_out.groups, rng))
    if not splits:
        raise ValueError(
            "Temperature scaling, learned combinations, learned policies and routers are "
            f"cross-fitted on held-out samples and need at least {N_FOLDS} of them, or two groups. "
            f"Got {len(held_out)} held-out samples. Hold out more, or use none of these methods."
        )
    return splits


def fit_to_costs(exit_rule: ExitRule, costs: Callable[[], RoutedCosts], n_classes: int) -> ExitRule:
    """Copy of an exit rule that does not learn, fitted to the costs if it uses them."""
    if not exit_rule.needs_fit:
        return exit_rule.copy()
    known = costs()
    n_exits = len(known.cumulative)
    empty = Outputs(np.empty((0, n_exits, n_classes)), np.empty((0, n_exits)))
    nothing = Samples(empty, np.empty(0, dtype=np.intp))
    return exit_rule.fitted(nothing, known, np.random.RandomState(0))

"""Exit table of heads at many candidates, for placements that are chosen by data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.utils import check_random_state

from skearlyexit._data._samples import Samples
from skearlyexit._data._splits import Split, hold_out
from skearlyexit._fitting._cascade_fitter import CascadeFitter
from skearlyexit._fitting._cross_fit import fit_to_costs
from skearlyexit._utils._not_finite import ADVICE_IN_FIT, among_held_out, located
from skearlyexit.costs._compose import RoutedCosts
from skearlyexit.placement import Probed
from skearlyexit.runtime._driver import outputs

#: Share of the samples on which candidates are evaluated.
PROBE_SHARE = 0.2
#: Share of these to which an exit rule is fitted, if it learns.
LEARNING_SHARE = 0.5


@dataclass(frozen=True)
class ExitProbe:
    """Trains heads at candidates, and computes their outputs for held-out samples.

    Attributes
    ----------
    make_fitter : callable
        Function from ascending indices of blocks to a `CascadeFitter` with exits after these
        blocks.
    rows : Samples
        All samples.
    validation : Samples or None
        Validation samples for early stopping. If None, a share of the training samples is used.
    train, held : ndarray of int
        Indices of the samples for training and for evaluation.
    seed : int
        Seed of random numbers.
    """

    make_fitter: Callable[[Sequence[int]], CascadeFitter]
    rows: Samples
    validation: Samples | None
    train: np.ndarray
    held: np.ndarray
    seed: int

    def __call__(self, places: Sequence[int]) -> Probed:
        """Exit table and costs of exits after these blocks, which include the last block."""
        fitter = self.make_fitter(places)
        train, held = self.rows.take(self.train), self.rows.take(self.held)
        network = fitter.fit(train, self.validation, self.seed).network
        with located(held.positions, ADVICE_IN_FIT):
            found = outputs(network, held.X)
        rows = replace(held, X=found)

        def known() -> RoutedCosts:
            return fitter.costs.untimed(network, train.X)

        # Exits are chosen as if all were asked: a router is for all exits that there are.
        exit_rule = replace(fitter.exit_rule, router=None)
        if exit_rule.n_learned:
            # The same exit rule is used for many subsets of the candidates and cannot be
            # cross-fitted. It is fitted to samples that are not used for the evaluation.
            rng = check_random_state(self.seed)
            judged, learned = hold_out(rows.strata, LEARNING_SHARE, rows.groups, rng)
            exit_rule = exit_rule.fitted(rows.take(learned), known(), rng)
            rows = rows.take(judged)
        else:
            exit_rule = fit_to_costs(exit_rule, known, fitter.heads.task.n_outputs)
        with among_held_out():
            table = exit_rule.tabulate(rows.X)
        costs = fitter.costs.cascade(network, exit_rule, train.X).cost_table
        if rows.calibration_weight is None:
            rows = replace(rows, calibration_weight=np.ones(len(rows)))
        return Probed(
            np.asarray(places),
            rows,
            table,
            costs.stage_costs,
            costs.head_costs,
            costs.decision_costs,
            exit_rule,
        )


def probing_split(
    rows: Samples, splits: list[Split], rng: np.random.RandomState
) -> tuple[Split, list[Split]]:
    """Samples to train and to evaluate candidates, and splits for the calibration.

    Thresholds are calibrated on samples that were not used to choose the exits. If calibration
    samples are held out once, the exits are chosen without them. With several folds, candidates are
    evaluated on a part of the first one, so that the user's splitter or groups are respected, and
    this part is removed from the calibration samples.

    Parameters
    ----------
    rows : Samples
        All samples.
    splits : list of (train, held)
        Splits for the calibration.
    rng : RandomState
        Generator of random numbers.

    Returns
    -------
    split : (train, held)
        Ascending indices of the samples for training and for evaluation.
    splits : list of (train, held)
        Splits for the calibration without the samples for evaluation.

    Raises
    ------
    ValueError
        If there are too few samples or groups.
    """
    cross_fitted = len(splits) > 1
    pool = splits[0][1] if cross_fitted else splits[0][0] if splits else np.arange(len(rows))
    share = PROBE_SHARE
    if cross_fitted:
        share = min(0.8, PROBE_SHARE * len(rows) / len(pool))
    groups = None if rows.groups is None else rows.groups[pool]
    if groups is not None and len(np.unique(groups)) < 2:
        raise ValueError(
            "A placement that is chosen by data needs at least two groups in every fold, one to "
            "evaluate candidates and one to calibrate. Got 1. Give exits by number or name."
        )
    train, held = hold_out(rows.strata[pool], share, groups, rng)
    if not len(held):
        raise ValueError(
            f"A placement that is chosen by data needs more samples than {len(rows)}: none could "
            "be held out. Give more samples, or exits by number or name."
        )
    judged = pool[held]
    if not cross_fitted:
        return (pool[train], judged), splits
    kept = [(fit, np.setdiff1d(calibrate, judged)) for fit, calibrate in splits]
    return (splits[0][0], judged), [(fit, held) for fit, held in kept if len(held)]

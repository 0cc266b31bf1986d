"""Heads at many places of a frozen network, for placements that ask what they would answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.utils import check_random_state

from skearlyexit._data._samples import Samples
from skearlyexit._data._splits import Split, hold_out
from skearlyexit._fitting._cascade_fitter import CascadeFitter
from skearlyexit._fitting._exit_rule import unlearned
from skearlyexit._utils._not_finite import ADVICE_IN_FIT, among_held_out, located
from skearlyexit.placement import Probed
from skearlyexit.runtime._torch import outputs

#: Share of the rows on which places are judged.
PROBE_SHARE = 0.2
#: Share of these that a decision learns from, if it learns.
LEARNING_SHARE = 0.5


@dataclass(frozen=True)
class ExitProbe:
    """Trains the backbone alone and a head at each place, and asks them on other rows.

    Attributes
    ----------
    make_fitter : callable
        From ascending indices of blocks to what fits a cascade with exits there.
    rows : Samples
    validation : Samples or None
        Samples for early stopping, instead of a share of those that it fits on.
    train, held : ndarray of int
        Samples that it fits on, and rows that it is judged on.
    seed : int
    """

    make_fitter: Callable[[Sequence[int]], CascadeFitter]
    rows: Samples
    validation: Samples | None
    train: np.ndarray
    held: np.ndarray
    seed: int

    def __call__(self, places: Sequence[int]) -> Probed:
        """Answers of exits after these blocks, the last block among them."""
        fitter = self.make_fitter(places)
        train, held = self.rows.take(self.train), self.rows.take(self.held)
        network = fitter.fit(train, self.validation, self.seed).network
        with located(held.positions, ADVICE_IN_FIT):
            found = outputs(network, held.X)
        rows = replace(held, X=found)

        def known() -> np.ndarray:
            return fitter.costs.untimed(network, train.X)

        if fitter.exit_rule.n_learned:
            # One decision is asked about many subsets of the places, so that it cannot be
            # cross-fitted: it learns from rows that judge nothing.
            rng = check_random_state(self.seed)
            judged, learned = hold_out(rows.y, LEARNING_SHARE, rows.groups, rng)
            exit_rule = fitter.exit_rule.fitted(rows.take(learned), known(), rng)
            rows = rows.take(judged)
        else:
            exit_rule = unlearned(fitter.exit_rule, known, len(fitter.heads.classes))
        with among_held_out():
            table = exit_rule.tabulate(rows.X)
        costs = fitter.costs.table(network, exit_rule, train.X)
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
    rows: Samples, splits: list[Split], refit: bool, rng: np.random.RandomState
) -> tuple[Split, list[Split]]:
    """Samples to train and to judge exits on, and splits for calibration without the latter.

    Thresholds are to be calibrated on rows that the places of the exits were not chosen by, so
    that the rows which judge them leave the calibration. Where rows for calibration are held out
    once, the places are chosen without them. Where they are cross-fitted, the rows to judge are
    some of those that the first fold holds out, so that what the user's splitter or groups keep
    apart stays so.

    Returns
    -------
    split : (train, held)
        Ascending indices.
    splits : list of (train, held)
    """
    cross_fitted = refit and len(splits) > 0
    pool = splits[0][1] if cross_fitted else splits[0][0] if splits else np.arange(len(rows))
    share = PROBE_SHARE
    if cross_fitted:
        share = min(0.8, PROBE_SHARE * len(rows) / len(pool))
    groups = None if rows.groups is None else rows.groups[pool]
    if groups is not None and len(np.unique(groups)) < 2:
        raise ValueError(
            "A placement that is chosen by data needs at least two groups of rows in every fold, "
            "to choose by and to calibrate on; got 1. Give exits by number or name."
        )
    train, held = hold_out(rows.y[pool], share, groups, rng)
    if not len(held):
        raise ValueError(
            f"A placement that is chosen by data needs more rows than {len(rows)}: none could be "
            "held out. Give more rows, or exits by number or name."
        )
    judged = pool[held]
    if not cross_fitted:
        return (pool[train], judged), splits
    kept = [(fit, np.setdiff1d(calibrate, judged)) for fit, calibrate in splits]
    return (splits[0][0], judged), [(fit, held) for fit, held in kept if len(held)]

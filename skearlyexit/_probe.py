"""Heads at many places of a frozen network, for placements that ask what they would answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from skearlyexit._builder import CascadeBuilder, Rows
from skearlyexit._splits import Split, hold_out
from skearlyexit.placement import Probed
from skearlyexit.runtime import tabulate

#: Share of the rows on which places are judged.
PROBE_SHARE = 0.2


@dataclass(frozen=True)
class ExitProbe:
    """Trains the backbone alone and a head at each place, and asks them on other rows.

    Attributes
    ----------
    make_builder : callable
        From ascending indices of blocks to what fits a cascade with exits there.
    rows : Rows
    train, held : ndarray of int
        Rows that it fits on, and rows that it is judged on.
    seed : int
    """

    make_builder: Callable[[Sequence[int]], CascadeBuilder]
    rows: Rows
    train: np.ndarray
    held: np.ndarray
    seed: int

    def __call__(self, places: Sequence[int]) -> Probed:
        """Answers of exits after these blocks, the last block among them."""
        builder = self.make_builder(places)
        train, held = self.rows.take(self.train), self.rows.take(self.held)
        cascade, _ = builder.fit(train, None, self.seed)
        costs = builder.cost_table(cascade, train.X)
        return Probed(
            np.asarray(places),
            tabulate(cascade, held.X),
            held.y,
            np.ones(len(held)) if held.weight is None else held.weight,
            costs.stage_costs,
            costs.head_costs,
            costs.decision.value,
            cascade.policy,
        )


def probing_split(
    rows: Rows, splits: list[Split], refit: bool, rng: np.random.RandomState
) -> tuple[Split, list[Split]]:
    """Rows to train and to judge exits on, and splits for calibration without the latter.

    Thresholds are to be calibrated on rows that the places of the exits were not chosen by. Those
    rows therefore leave the calibration, and serve to fit on instead; where rows for calibration
    are held out once, the places are chosen without them.

    Returns
    -------
    split : (train, held)
        Ascending indices.
    splits : list of (train, held)
    """
    pool = np.arange(len(rows)) if refit else splits[0][0]
    groups = None if rows.groups is None else rows.groups[pool]
    train, held = hold_out(rows.y[pool], PROBE_SHARE, groups, rng)
    if not len(held):
        raise ValueError(
            f"A placement that is chosen by data needs more rows than {len(pool)}: none could be "
            "held out. Give more rows, or exits by number or name."
        )
    judged = pool[held]
    if refit:
        splits = [
            (np.union1d(fit, np.intersect1d(calibrate, judged)), np.setdiff1d(calibrate, judged))
            for fit, calibrate in splits
        ]
        splits = [(fit, calibrate) for fit, calibrate in splits if len(calibrate)]
    return (pool[train], judged), splits

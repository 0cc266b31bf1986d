"""Thresholds for given exit rates."""

from __future__ import annotations

import numpy as np


def thresholds_for_shares(scores: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Thresholds under which at least the given shares of the samples have exited by each exit.

    At each exit the samples with the highest scores exit, and samples of equal score exit together.
    Samples may exit earlier than the shares require but not later, so the mean cost is at most that
    of the shares.

    Parameters
    ----------
    scores : ndarray of shape (n_samples, n_exits)
    shares : ndarray of shape (n_exits,)
        Exit rates.

    Returns
    -------
    thresholds : ndarray of shape (n_exits - 1,)
        Infinite where no sample has to exit, 0 where all samples have to exit.
    """
    n_samples, n_exits = scores.shape
    due = np.ceil(np.cumsum(shares) * n_samples - 1e-9 * n_samples).astype(int)
    thresholds = np.full(n_exits - 1, np.inf)
    rows = np.arange(n_samples)
    for exit_ in range(n_exits - 1):
        n_leaving = due[exit_] - (n_samples - len(rows))
        if n_leaving <= 0:
            continue
        here = scores[rows, exit_]
        thresholds[exit_] = 0.0 if n_leaving >= len(rows) else np.sort(here)[-n_leaving]
        rows = rows[here < thresholds[exit_]]
        if not len(rows):
            thresholds[exit_:] = 0.0
            break
    return thresholds

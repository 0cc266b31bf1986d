"""Exit rates that decrease or increase by a constant factor from exit to exit."""

from __future__ import annotations

import numpy as np

from skearlyexit.calibration._calibration_data import CalibrationData
from skearlyexit.calibration._frontier import ROUNDING


def geometric_thresholds(data: CalibrationData, ratio: float) -> np.ndarray:
    """Thresholds under which the exit rate of exit k is proportional to ratio**k.

    At each exit the samples with the highest scores exit, as many as the exit rate allows. Samples
    whose score equals the lowest of these exit too, which can only reduce the cost.

    Parameters
    ----------
    data : CalibrationData
    ratio : float
        Positive; with small values most samples exit early.

    Returns
    -------
    thresholds : ndarray of shape (n_exits - 1,)

    References
    ----------
    Huang et al., "Multi-scale dense networks for resource efficient image classification",
    ICLR 2018.
    """
    n_exits = data.n_exits
    log_shares = np.arange(n_exits) * np.log(ratio)
    shares = np.exp(log_shares - log_shares.max())
    shares /= shares.sum()
    total = data.weight.sum()
    thresholds = np.full(n_exits - 1, np.inf)
    stays = np.ones(len(data.scores), dtype=bool)
    for exit_ in range(n_exits - 1):
        order = data.order[exit_]
        rows = order[stays[order]]
        left = np.cumsum(data.weight[rows])
        n_leaving = int(np.searchsorted(left, shares[exit_] * total * (1 + 1e-12), side="right"))
        if n_leaving:
            scores = data.scores[:, exit_]
            thresholds[exit_] = scores[rows[n_leaving - 1]]
            stays &= scores < thresholds[exit_]
    return thresholds


def geometric_budget(data: CalibrationData, budget: float) -> np.ndarray:
    """Thresholds of the geometric family whose mean cost is closest to a budget from below.

    Parameters
    ----------
    data : CalibrationData
    budget : float
        Maximum mean cost on these samples, at least that of the first exit.
    """
    low, high = -60.0, 60.0
    best = np.zeros(data.n_exits - 1)  # all samples exit at the first exit
    best_cost = -np.inf
    while high - low > 1e-9:
        middle = (low + high) / 2
        thresholds = geometric_thresholds(data, float(np.exp(middle)))
        cost, _ = data.evaluate(thresholds)
        if cost <= budget * ROUNDING:
            low = middle
            if cost > best_cost:
                best, best_cost = thresholds, cost
        else:
            high = middle
    return best

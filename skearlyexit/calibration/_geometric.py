"""Exit rates that decrease or increase by a constant factor from exit to exit."""

from __future__ import annotations

import numpy as np

from skearlyexit.calibration._calibration_data import CalibrationData
from skearlyexit.calibration._frontier import ROUNDING

#: Maximum number of values in a temporary array, unless there are more samples.
MAX_VALUES = 10**6


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
    return geometric_family(data, np.array([ratio]))[0]


def geometric_family(data: CalibrationData, ratios: np.ndarray) -> np.ndarray:
    """`geometric_thresholds` of several ratios, shape (n_ratios, n_exits - 1)."""
    log_shares = np.log(ratios)[:, None] * np.arange(data.n_exits)
    shares = np.exp(log_shares - log_shares.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    n_at_once = max(1, MAX_VALUES // len(data.scores))
    parts = [shares[i : i + n_at_once] for i in range(0, len(shares), n_at_once)]
    return np.concatenate([_with_shares(data, part) for part in parts])


def _with_shares(data: CalibrationData, shares: np.ndarray) -> np.ndarray:
    """Thresholds for exit rates of shape (n_ratios, n_exits), as in `geometric_thresholds`."""
    most = shares * data.weight.sum() * (1 + 1e-12)
    thresholds = np.full((len(shares), data.n_exits - 1), np.inf)
    stays = np.ones((len(shares), len(data.scores)), dtype=bool)
    for exit_, order in enumerate(data.order):
        in_order = stays[:, order]
        exit_weight = np.cumsum(in_order * data.weight[order], axis=1)
        leaves = in_order & (exit_weight <= most[:, exit_, None])
        some = leaves.any(axis=1)
        last = len(order) - 1 - leaves[some, ::-1].argmax(axis=1)
        thresholds[some, exit_] = data.scores[order[last], exit_]
        stays &= data.scores[:, exit_] < thresholds[:, exit_, None]
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

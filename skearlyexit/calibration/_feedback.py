"""A common threshold that is adjusted until the accuracy reaches a target."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from skearlyexit.calibration._calibration_data import CalibrationData
from skearlyexit.calibration._metric import value_at

#: Number of steps, and change of the threshold per difference in accuracy in the first step.
N_STEPS, GAIN = 200, 2.0


def feedback_threshold(
    data: CalibrationData, target: float, metric: str | Callable[..., float]
) -> np.ndarray:
    """Common threshold, changed in proportion to the difference between accuracy and target.

    The gain decreases with the steps. The lowest of all values tried that reaches the target is
    returned.

    Parameters
    ----------
    data : CalibrationData
    target : float
    metric : str or callable
        As in `metric_value`.

    Returns
    -------
    thresholds : ndarray of shape (n_exits - 1,)
        Infinite if the target is never reached.
    """
    threshold, best = 0.5, np.inf
    for step in range(N_STEPS):
        exits = data.exits(np.full(data.n_exits - 1, threshold))
        missing = target - value_at(data, exits, metric)
        if missing <= 1e-12:
            best = min(best, threshold)
        move = GAIN / np.sqrt(1 + step) * missing
        # Where the target is met exactly, lower thresholds, which may be cheaper, are tried.
        threshold = float(np.clip(threshold + (move or -1e-3), 0.0, 1.0))
    return np.full(data.n_exits - 1, best)

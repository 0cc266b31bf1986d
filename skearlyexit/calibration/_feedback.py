"""One threshold, moved until the accuracy is what is wanted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from skearlyexit.calibration._evidence import CalibrationData
from skearlyexit.calibration._metric import value_at

#: Steps, and how much of the difference in accuracy the first of them moves the threshold by.
N_STEPS, GAIN = 200, 2.0


def feedback_threshold(
    evidence: CalibrationData, target: float, metric: str | Callable[..., float]
) -> np.ndarray:
    """Thresholds of one value, moved in proportion to the difference between accuracy and target.

    The gain falls with the steps, so that it settles. Of the values that it comes by, the least is
    taken that reaches the target.

    Parameters
    ----------
    evidence : CalibrationData
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
        exits = evidence.leave(np.full(evidence.n_exits - 1, threshold))
        missing = target - value_at(evidence, exits, metric)
        if missing <= 1e-12:
            best = min(best, threshold)
        move = GAIN / np.sqrt(1 + step) * missing
        # One that is right to the last row would rest where it is, and never try to be cheaper.
        threshold = float(np.clip(threshold + (move or -1e-3), 0.0, 1.0))
    return np.full(evidence.n_exits - 1, best)

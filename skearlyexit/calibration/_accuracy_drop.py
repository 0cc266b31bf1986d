"""The cheapest answers that lose no more than allowed on the calibration rows."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval

from skearlyexit.calibration._base import OperatingPoint
from skearlyexit.calibration._evidence import Evidence
from skearlyexit.calibration._frontier import Frontier


class AccuracyDrop(OperatingPoint):
    """Largest loss of accuracy against the last exit, as seen on the calibration rows.

    The cheapest of many points is chosen by what it loses on the same rows, so that new rows lose
    more, by about a point on a few hundred rows. `RiskControl` bounds what new rows lose.

    Parameters
    ----------
    value : float, default=0.0
        Allowed drop as a share of the rows: 0.01 is one point of accuracy.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "value": [Interval(Real, 0, 1, closed="both")]
    }

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def thresholds(self, evidence: Evidence, frontier: Frontier) -> np.ndarray:
        """Choose thresholds; see `OperatingPoint.thresholds`."""
        at_the_end = float(np.average(evidence.correct[:, -1], weights=evidence.weight))
        return frontier.thresholds[frontier.at_accuracy(at_the_end - self.value)]

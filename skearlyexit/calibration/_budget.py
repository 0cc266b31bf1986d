"""The best answers for a given cost."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit.calibration._base import OperatingPoint
from skearlyexit.calibration._evidence import Evidence
from skearlyexit.calibration._frontier import Frontier
from skearlyexit.calibration._geometric import geometric_budget
from skearlyexit.calibration._search import lowest_equivalent


class Budget(OperatingPoint):
    """Largest mean cost per row.

    Parameters
    ----------
    value : float
        In units of the plain backbone: 0.4 asks for at most 40 % of its cost on average.
    method : {"search", "geometric"}, default="search"
        ``"geometric"``: the share of rows that leaves shrinks or grows by a constant factor from
        exit to exit, chosen so that the mean cost is the budget. ``"search"``: the most accurate
        thresholds found, never worse than the geometric ones on the calibration rows.

    References
    ----------
    Huang et al., "Multi-scale dense networks for resource efficient image classification",
    ICLR 2018, for ``"geometric"``.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "value": [Interval(Real, 0, None, closed="right")],
        "method": [StrOptions({"search", "geometric"})],
    }

    def __init__(self, value: float, *, method: str = "search") -> None:
        self.value = value
        self.method = method

    def thresholds(self, evidence: Evidence, frontier: Frontier) -> np.ndarray:
        """Choose thresholds; see `OperatingPoint.thresholds`."""
        index = frontier.at_budget(self.value)
        geometric = lowest_equivalent(evidence, geometric_budget(evidence, self.value))
        if self.method == "geometric":
            return geometric
        best = frontier.thresholds[index]
        _, accuracy = evidence.evaluate(geometric)
        return geometric if accuracy > frontier.accuracies[index] else best

"""What an operating point is: as asked for, and as calibrated."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator

from skearlyexit.calibration._evidence import Evidence
from skearlyexit.calibration._frontier import Frontier


@dataclass(frozen=True)
class CalibratedPoint:
    """Thresholds in force, and what they were chosen for.

    Attributes
    ----------
    request : OperatingPoint or None
        What was asked for; None if there was nothing to choose.
    thresholds : ndarray of shape (n_exits - 1,)
    n_rows : int
        Calibration rows.
    cost, accuracy : float
        Mean cost and accuracy on the calibration rows; nan without any.
    certified : bool or None
        Whether a guarantee was asked for and given; None if none was asked for.
    reason : str
        One sentence for the reader.
    """

    request: OperatingPoint | None
    thresholds: np.ndarray
    n_rows: int = 0
    cost: float = np.nan
    accuracy: float = np.nan
    certified: bool | None = None
    reason: str = ""


class OperatingPoint(BaseEstimator, metaclass=ABCMeta):
    """What a user asks of an early-exit model.

    One that needs no held-out rows also has a method ``by_hand(n_exits)``, which gives its
    thresholds without any.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {}

    @abstractmethod
    def thresholds(self, evidence: Evidence, frontier: Frontier) -> np.ndarray:
        """Thresholds of every exit but the last, shape (n_exits - 1,).

        Parameters
        ----------
        evidence : Evidence
            Held-out rows.
        frontier : Frontier
            Best operating points on them.

        Raises
        ------
        ValueError
            If what is asked for cannot be had.
        """

    def certify(self, thresholds: np.ndarray) -> tuple[bool | None, str]:
        """Whether a guarantee was asked for and given, and a sentence about it."""
        return None, ""

    def calibrate(self, evidence: Evidence, frontier: Frontier) -> CalibratedPoint:
        """Choose thresholds, and tell what they do on the rows they were chosen on."""
        thresholds = self.thresholds(evidence, frontier)
        certified, reason = self.certify(thresholds)
        cost, accuracy = evidence.evaluate(thresholds)
        return CalibratedPoint(
            self, thresholds, len(evidence.scores), cost, accuracy, certified, reason
        )


def nobody(n_exits: int) -> np.ndarray:
    """Thresholds under which no row leaves before the last exit."""
    return np.full(n_exits - 1, np.inf)

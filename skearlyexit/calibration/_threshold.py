"""Operating point: thresholds given by the user."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import ClassVar

import numpy as np

from skearlyexit.calibration._base import OperatingPoint
from skearlyexit.calibration._calibration_data import CalibrationData
from skearlyexit.calibration._frontier import Frontier


class Threshold(OperatingPoint):
    """Thresholds given by the user.

    No calibration samples are needed.

    Parameters
    ----------
    value : float or sequence of float
        One threshold for all exits, or one for each exit but the last. At 0 every sample exits at
        the first exit; above 1 no sample exits early.

    Examples
    --------
    >>> Threshold(0.9).fixed_thresholds(n_exits=3)
    array([0.9, 0.9])
    """

    needs_samples: ClassVar[bool] = False

    def __init__(self, value: float | Sequence[float]) -> None:
        self.value = value

    def thresholds(self, data: CalibrationData, frontier: Frontier) -> np.ndarray:
        return self.fixed_thresholds(data.n_exits)

    def fixed_thresholds(self, n_exits: int) -> np.ndarray:
        """Return one threshold for each exit but the last.

        Parameters
        ----------
        n_exits : int
            Number of exits, including the last one.

        Returns
        -------
        thresholds : ndarray of shape (n_exits - 1,)
            Thresholds of all exits but the last.

        Raises
        ------
        ValueError
            If there is another number of thresholds, or one is negative or NaN.
        """
        if isinstance(self.value, Real) and not isinstance(self.value, bool):
            thresholds = np.full(n_exits - 1, float(self.value))
        else:
            try:
                given = np.asarray(self.value)
                thresholds = np.asarray(self.value, dtype=np.float64)
            except (TypeError, ValueError):
                given = thresholds = np.array(np.nan)  # rejected below because of its shape
            if given.dtype == bool:
                raise ValueError(
                    f"The 'threshold' parameter must be a number or {n_exits - 1} of them, one for "
                    f"each of the {n_exits} exits but the last. Got {self.value!r} instead."
                )
        if thresholds.shape != (n_exits - 1,):
            raise ValueError(
                f"The 'threshold' parameter must be a number or {n_exits - 1} of them, one for "
                f"each of the {n_exits} exits but the last. Got {self.value!r} of shape "
                f"{thresholds.shape} instead."
            )
        if np.isnan(thresholds).any() or (thresholds < 0).any():
            raise ValueError(
                "The 'threshold' parameter must not be negative or nan: scores lie in [0, 1]. Got "
                f"{self.value!r} instead."
            )
        return thresholds

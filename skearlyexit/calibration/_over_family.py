"""What the bounds of the risk have in common: one threshold for all exits, from a family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit.calibration._base import NotCertifiedError, OperatingPoint
from skearlyexit.calibration._calibration_data import CalibrationData
from skearlyexit.calibration._risks import RISKS, FamilyLosses, Risk, exit_losses

#: Candidate thresholds, common to all exits and independent of the samples, from the highest
#: down. They are dense near 1, where most scores of accurate heads are.
FAMILY = 1.0 - (np.arange(501) / 500) ** 3

_SENTENCES = {
    "performance_gap": "are misclassified at their exit but not at the last exit",
    "consistency": "are predicted differently than at the last exit",
    "accuracy_drop": "are lost by exiting early, net of those gained",
}


class OverFamily(OperatingPoint):
    """Base class of risk control over a family of common thresholds, from the highest down."""

    _told: ClassVar[tuple[str, ...]] = ("target_level", "confidence_level")
    target_level: float
    risk: Risk
    family: Sequence[float] | None
    max_weight: float | None

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "target_level": [Interval(Real, 0, 1, closed="neither")],
        "risk": [StrOptions(RISKS), callable],
        "family": ["array-like", None],
        "max_weight": [Interval(Real, 0, None, closed="neither"), None],
    }

    def _validate_params(self) -> None:
        super()._validate_params()
        family = self._family()
        if family.ndim != 1 or not len(family) or np.isnan(family).any() or (family < 0).any():
            raise ValueError(
                f"The 'family' of {type(self).__name__} must be thresholds of at least 0. Got "
                f"{self.family!r} instead."
            )

    def _family(self) -> np.ndarray:
        """Candidate thresholds from the highest down."""
        if self.family is None:
            return FAMILY
        return np.sort(np.asarray(self.family, dtype=np.float64))[::-1]

    def _losses(self, data: CalibrationData) -> FamilyLosses:
        return FamilyLosses(data.scores, exit_losses(data, self.risk), self._family())

    def _common(self, n_passed: int, n_exits: int) -> np.ndarray:
        return np.full(n_exits - 1, self._family()[n_passed - 1])

    def _bounded_weight(self, data: CalibrationData) -> np.ndarray:
        """Weights divided by an upper bound of the weight of any sample."""
        shares, largest = data.weight_shares
        if self.max_weight is None:
            if (shares > 1 - 1e-9).all():  # equal up to rounding
                return np.ones_like(shares)
            raise NotCertifiedError(
                f"{self.description} cannot be certified: the samples have different weights, and "
                "a guarantee for them depends on the largest weight that can occur, which cannot "
                "be seen from samples. Give it as max_weight, or calibrate without sample weights."
            )
        if largest > self.max_weight:
            raise ValueError(
                f"The 'max_weight' of {type(self).__name__} must be the largest sample weight that "
                f"can occur, in the units of sample_weight. Got {self.max_weight!r}, and a sample "
                f"of weight {largest:g}."
            )
        return shares * (largest / self.max_weight)

    def _sentence(self) -> str:
        samples = "new samples"
        if self.max_weight is not None:
            samples += f", weighted by sample weights up to {self.max_weight:g},"
        if isinstance(self.risk, str):
            return f"at most {percent(self.target_level, 2)} of {samples} {_SENTENCES[self.risk]}"
        return f"the mean loss of {samples} is at most {self.target_level:g}"


def rounded_up(least: float, does: Callable[[float], bool]) -> float | None:
    """Number below 1 with the fewest digits, at least two, that is valid; None if there is none."""
    if not 0 < least < 1:
        return None
    first = 1 - int(np.floor(np.log10(least)))
    for digits in range(first, first + 8):
        rounded = float(np.ceil(least * 10**digits) / 10**digits)
        if rounded < 1 and does(rounded):
            return rounded
    return None


def percent(share: float, n_decimals: int) -> str:
    """Share in percent, with at least `n_decimals` decimals and as many as it has."""
    return max(f"{share:.{n_decimals}%}", f"{100 * share:.10g}%", key=len)

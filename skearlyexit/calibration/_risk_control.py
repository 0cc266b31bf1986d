"""The cheapest answers whose risk is bounded with confidence."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from scipy.special import betainc
from sklearn.utils._param_validation import Interval

from skearlyexit.calibration._base import OperatingPoint, nobody
from skearlyexit.calibration._evidence import Evidence
from skearlyexit.calibration._frontier import Frontier

#: The family of thresholds, the same at every exit and fixed before any row is seen, from the
#: safest down; dense near 1, where the scores of good heads crowd.
FAMILY = 1.0 - (np.arange(501) / 500) ** 3


class RiskControl(OperatingPoint):
    """Bounds the share of rows that are wrong on leaving and would have been right at the end.

    Thresholds are the same at every exit. From the safest down, each is tested on the calibration
    rows by an exact binomial test of "its risk exceeds the level"; the last before the first that
    is not rejected is taken. With probability `confidence_level` over the calibration rows, its
    risk on new rows from the same source is at most `target_level`. Where nothing can be certified,
    nobody leaves early.

    With cross-fitted calibration rows the guarantee holds for the models of the folds, and for the
    final one as far as it is like them. Rows of unequal weight count as their effective number.

    Parameters
    ----------
    target_level : float, default=0.01
        Largest risk, a share of all rows.
    confidence_level : float, default=0.9

    References
    ----------
    Angelopoulos et al., "Learn then test: calibrating predictive algorithms to achieve risk
    control", 2021.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "target_level": [Interval(Real, 0, 1, closed="neither")],
        "confidence_level": [Interval(Real, 0, 1, closed="neither")],
    }

    def __init__(self, target_level: float = 0.01, *, confidence_level: float = 0.9) -> None:
        self.target_level = target_level
        self.confidence_level = confidence_level

    def thresholds(self, evidence: Evidence, frontier: Frontier) -> np.ndarray:
        """Choose thresholds; see `OperatingPoint.thresholds`."""
        risks = family_risks(evidence, FAMILY)
        n_rows = evidence.weight.sum() ** 2 / np.sum(evidence.weight**2)
        passed = binomial_p_value(risks, n_rows, self.target_level) <= 1 - self.confidence_level
        n_passed = len(passed) if passed.all() else int(np.argmin(passed))
        return (
            np.full(evidence.n_exits - 1, FAMILY[n_passed - 1])
            if n_passed
            else nobody(evidence.n_exits)
        )

    def certify(self, thresholds: np.ndarray) -> tuple[bool | None, str]:
        """Whether any early exit was certified; see `OperatingPoint.certify`."""
        if np.isfinite(thresholds).any():
            return True, (
                f"With {self.confidence_level:.0%} confidence at most {self.target_level:.2%} of "
                "new rows are wrong on leaving and would have been right at the end."
            )
        return False, (
            f"No early exit could be certified to a risk of {self.target_level:.2%} with "
            f"{self.confidence_level:.0%} confidence, so every row runs to the last exit. More "
            "calibration rows or a larger target_level allow more."
        )


def family_risks(evidence: Evidence, family: np.ndarray) -> np.ndarray:
    """Share of rows that are wrong on leaving and right at the end, for each common threshold.

    Parameters
    ----------
    evidence : Evidence
    family : ndarray of shape (n_thresholds,)
        Descending.

    Returns
    -------
    risks : ndarray of shape (n_thresholds,)
    """
    # A row leaves exit i for the thresholds between the largest score before it and its own.
    largest = np.maximum.accumulate(evidence.scores[:, :-1], axis=1)
    before = np.concatenate([np.full((len(largest), 1), -np.inf), largest[:, :-1]], axis=1)
    harmful = ~evidence.correct[:, :-1] & evidence.correct[:, -1:] & (largest > before)
    weight = np.broadcast_to(evidence.weight[:, None], harmful.shape)[harmful]
    # In the order of the family: from the first threshold that the score reaches, to the first
    # that an earlier exit reached.
    first = np.searchsorted(-family, -largest[harmful], side="left")
    stop = np.searchsorted(-family, -before[harmful], side="left")
    changes = np.bincount(first, weight, minlength=len(family) + 1) - np.bincount(
        stop, weight, minlength=len(family) + 1
    )
    return changes.cumsum()[: len(family)] / evidence.weight.sum()


def binomial_p_value(risks: np.ndarray, n_rows: float, level: float) -> np.ndarray:
    """Probability of at most this many losses among `n_rows` if the risk were `level`.

    The binomial distribution function, written for numbers that need not be whole.
    """
    losses = np.clip(risks * n_rows, 0.0, n_rows)
    # Sums of weights are not whole in floating point, even where they are on paper.
    rounded = np.round(losses)
    losses = np.where(np.abs(losses - rounded) < 1e-9 * n_rows, rounded, losses)
    remaining = np.maximum(n_rows - losses, 1e-300)
    return np.where(losses >= n_rows, 1.0, betainc(remaining, losses + 1.0, 1.0 - level))

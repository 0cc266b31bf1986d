"""What the bounds of the risk have in common: a family of thresholds that are tested in order."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit.calibration._base import NotCertifiedError, OperatingPoint
from skearlyexit.calibration._calibration_data import CalibrationData
from skearlyexit.calibration._draws import Draws
from skearlyexit.calibration._family_of_risks import family_of_risks
from skearlyexit.calibration._frontier import Frontier
from skearlyexit.calibration._risks import RISKS, FamilyLosses, Risk, exit_losses
from skearlyexit.calibration._routed_losses import RoutedLosses

#: Levels of the estimated risk, dense near 0.
LEVELS = (np.arange(501) / 500) ** 3
#: Common thresholds, independent of the samples, from the highest down. They are dense near 1,
#: where most scores of accurate heads are.
FAMILY = 1.0 - LEVELS
#: Share of the draws on which the risk is estimated, and seed of their choice. On
#: 24 models of twelve tables, the mean cost was 0.283 with a fifth, and 0.289 with a third.
LEARNING_SHARE, SEED = 0.2, 0

_SENTENCES = {
    "performance_gap": "are misclassified at their exit but not at the last exit",
    "consistency": "are predicted differently than at the last exit",
    "accuracy_drop": "are lost by exiting early, net of those gained",
}


@dataclass(frozen=True)
class Tested:
    """Family of thresholds, and the samples on which it is tested.

    Attributes
    ----------
    family : ndarray of shape (n_thresholds,) or (n_thresholds, n_exits - 1)
        Thresholds in descending order.
    data : CalibrationData
        The samples.
    losses : FamilyLosses
        Their losses under each of the thresholds.
    """

    family: np.ndarray
    data: CalibrationData
    losses: FamilyLosses

    @classmethod
    def of(cls, family: np.ndarray, data: CalibrationData, losses: np.ndarray) -> Tested:
        """Make it from the losses at each exit."""
        if data.routing is not None:
            return cls(family, data, RoutedLosses(data, losses, family))
        return cls(family, data, FamilyLosses(data.scores, losses, family))


class OverFamily(OperatingPoint):
    """Base class of risk control over a family of thresholds, from the highest down."""

    _told: ClassVar[tuple[str, ...]] = ("target_level", "confidence_level")
    target_level: float
    risk: Risk
    family: str | Sequence[float]
    max_weight: float | None

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "target_level": [Interval(Real, 0, 1, closed="neither")],
        "risk": [StrOptions(RISKS), callable],
        "family": [StrOptions({"auto", "common"}), "array-like"],
        "max_weight": [Interval(Real, 0, None, closed="neither"), None],
    }

    def _validate_params(self) -> None:
        super()._validate_params()
        family = self._common_family()
        if family.ndim != 1 or not len(family) or np.isnan(family).any() or (family < 0).any():
            raise ValueError(
                f"The 'family' of {type(self).__name__} must be thresholds of at least 0. Got "
                f"{self.family!r} instead."
            )

    def obstacle_to_regression(self) -> str:
        if callable(self.risk):
            return ""
        return (
            f"the risk {self.risk!r} is about classes; give a function of the targets, the values "
            "predicted at the exit and those at the last exit, that returns losses in [0, 1]"
        )

    def thresholds(self, data: CalibrationData, frontier: Frontier) -> np.ndarray:
        """Choose the thresholds on calibration samples.

        Parameters
        ----------
        data : CalibrationData
            Scores and correctness of the exits on the calibration samples.
        frontier : Frontier
            Not used, present for consistency with other operating points.

        Returns
        -------
        thresholds : ndarray of shape (n_exits - 1,)
            Thresholds of all exits but the last.

        Raises
        ------
        NotCertifiedError
            If not even the highest thresholds can be certified, or the weights are different and
            `max_weight` is None or there are groups.
        ValueError
            If `risk` returns invalid losses, or some for which the test is not valid, or a weight
            is larger than `max_weight`.
        """
        draws = self._draws(data)
        losses = exit_losses(data, self.risk)
        n_learning = len(draws) - self.n_tested(len(draws))
        if not n_learning:
            tested = Tested.of(self._common_family(), data, losses)
            return self._certified(tested, draws, lambda: self._least_level(tested))
        drawn = np.random.RandomState(SEED).permutation(len(draws))
        learning, rest = draws.rows(drawn[:n_learning]), draws.rows(drawn[n_learning:])
        remaining = data.take(rest)
        family = family_of_risks(
            data.scores[learning], losses[learning], data.weight[learning], LEVELS
        )
        # Without those under which no sample exits early, which are no answer to the question.
        family = family[np.isfinite(family).any(axis=1)]
        learned = Tested.of(family, remaining, losses[rest])
        # What is tested depends on the number of samples and on their weights, not on the losses.
        best = Tested.of(np.array([np.inf]), remaining, np.zeros_like(losses[rest]))
        if self._n_passed(best):
            return self._certified(learned, draws, lambda: self._least_level(learned))
        common = Tested.of(FAMILY, data, losses)

        def least() -> float | None:
            enough, level = self._least_level(best), self._least_level(common)
            if level is not None and (enough is None or level < enough):
                return level
            level = self._least_level(learned)
            return None if level is None or enough is None else max(level, enough)

        return self._certified(common, draws, least)

    def n_tested(self, n_draws: int) -> int:
        """Number of draws that are tested if the family is learned from the others."""
        return n_draws - int(LEARNING_SHARE * n_draws) if self._learns() else n_draws

    def _learns(self) -> bool:
        """Whether the family is learned on a part of the samples."""
        if callable(self.risk):  # it may be positive at the last exit, too
            return False
        return isinstance(self.family, str) and self.family == "auto"

    def _certified(
        self, tested: Tested, draws: Draws, least: Callable[[], float | None]
    ) -> np.ndarray:
        """Lowest certified thresholds, or an error that names the least level for the draws."""
        n_passed = self._n_passed(tested)
        if not n_passed:
            raise self._refusal(draws, least())
        chosen = tested.family[n_passed - 1]
        return np.array(np.broadcast_to(chosen, tested.data.n_exits - 1))

    def check_samples(
        self,
        n_samples: int,
        weight: np.ndarray | None = None,
        largest_weight: float | None = None,
        groups: np.ndarray | None = None,
    ) -> None:
        """Check before training whether the calibration samples can be sufficient.

        Parameters
        ----------
        n_samples : int
            Number of calibration samples.
        weight : ndarray of shape (n_samples,), default=None
            Sample weights. If None, all are equal.
        largest_weight : float, default=None
            Largest sample weight, as in `CalibrationData`.
        groups : ndarray of shape (n_samples,), default=None
            Group of each sample. If None, all samples are independent.

        Raises
        ------
        NotCertifiedError
            If no threshold could be certified even with the lowest possible losses, or the weights
            are different and `max_weight` is None or there are groups.
        ValueError
            If a weight is larger than `max_weight`.
        """
        data = CalibrationData.before_training(n_samples, weight, largest_weight, groups)
        best = np.zeros_like(data.scores)
        if self.risk == "accuracy_drop":
            best[:, 0] = -1.0
        tested = Tested.of(self._common_family(), data, best)
        self._certified(tested, self._draws(data), lambda: self._least_level(tested))

    @abstractmethod
    def _n_passed(self, tested: Tested) -> int:
        """Number of thresholds of a family that are certified, from the highest down."""

    @abstractmethod
    def _least_level(self, tested: Tested) -> float | None:
        """Least level at which the highest thresholds are certified, rounded up."""

    @abstractmethod
    def _refusal(self, draws: Draws, least: float | None) -> NotCertifiedError:
        """Error that names the least level that can be certified, if there is one."""

    def _common_family(self) -> np.ndarray:
        """Candidates for a common threshold from the highest down."""
        if isinstance(self.family, str):
            return FAMILY
        return np.sort(np.asarray(self.family, dtype=np.float64))[::-1]

    def _draws(self, data: CalibrationData) -> Draws:
        """Independent draws, with weights divided by an upper bound of the weight of any draw."""
        shares, largest = data.weight_shares
        is_equal = bool((shares > 1 - 1e-9).all())  # up to rounding
        if data.n_draws < len(shares):
            if is_equal and self.max_weight is None:
                return Draws.of_groups(data)
            raise NotCertifiedError(
                f"{self.description} cannot be certified: the samples have groups and weights, and "
                "every group counts once. Calibrate without groups if all samples are independent, "
                "or else without sample weights and max_weight."
            )
        if self.max_weight is None:
            if is_equal:
                return Draws.of_samples(np.ones_like(shares))
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
        return Draws.of_samples(shares * (largest / self.max_weight))

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

"""The cheapest answers whose risk is bounded with confidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from scipy.optimize import brentq
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit.calibration._base import NotCertifiedError, OperatingPoint
from skearlyexit.calibration._evidence import CalibrationData
from skearlyexit.calibration._frontier import Frontier
from skearlyexit.calibration._p_values import (
    betting_p_value,
    binomial_p_value,
    hoeffding_bentkus_p_value,
)
from skearlyexit.calibration._risks import RISKS, FamilyLosses, Risk, exit_losses

#: The family of thresholds, the same at every exit and fixed before any row is seen, from the
#: safest down; dense near 1, where the scores of good heads crowd.
FAMILY = 1.0 - (np.arange(501) / 500) ** 3

_SENTENCES = {
    "performance_gap": "are wrong on leaving and would have been right at the end",
    "consistency": "are answered otherwise than at the end",
    "accuracy_drop": "are lost by leaving early, net of those that it gains",
}


class _OverFamily(OperatingPoint):
    """What the two kinds of control share: a family of common thresholds, from the safest down."""

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
        """Thresholds from the safest down."""
        if self.family is None:
            return FAMILY
        return np.sort(np.asarray(self.family, dtype=np.float64))[::-1]

    def _losses(self, evidence: CalibrationData) -> FamilyLosses:
        return FamilyLosses(evidence.scores, exit_losses(evidence, self.risk), self._family())

    def _common(self, n_passed: int, n_exits: int) -> np.ndarray:
        return np.full(n_exits - 1, self._family()[n_passed - 1])

    def _bounded_weight(self, evidence: CalibrationData) -> np.ndarray:
        """Weights as shares of a weight that no sample can exceed, seen or not."""
        shares, largest = evidence.weight_shares
        if self.max_weight is None:
            if (shares > 1 - 1e-9).all():  # equal but for rounding
                return np.ones_like(shares)
            raise NotCertifiedError(
                f"{self.description} cannot be certified: the samples have different weights, and "
                "what holds for them depends on the largest weight that can occur, which no sample "
                "shows. Give it as max_weight, or calibrate without sample weights."
            )
        if largest > self.max_weight:
            raise ValueError(
                f"The 'max_weight' of {type(self).__name__} must be the largest sample weight that "
                f"can occur, in the units of sample_weight. Got {self.max_weight!r}, and a sample "
                f"of weight {largest:g}."
            )
        return shares * (largest / self.max_weight)

    def _sentence(self) -> str:
        samples = "new rows"
        if self.max_weight is not None:
            samples += f", weighted by sample weights up to {self.max_weight:g},"
        if isinstance(self.risk, str):
            return f"at most {_percent(self.target_level, 2)} of {samples} {_SENTENCES[self.risk]}"
        return f"the mean loss of {samples} is at most {self.target_level:g}"


class RiskControl(_OverFamily):
    """Bounds, with confidence, what is lost by leaving.

    Thresholds are the same at every exit. From the safest down, each is tested on the calibration
    rows: "its risk exceeds the level". The last before the first that is not rejected is taken.
    With probability `confidence_level` over the calibration rows, its risk on new rows from the
    same source is at most `target_level`.

    The guarantee assumes that calibration samples and new ones are drawn independently from the
    same source, which samples of one group are not. With cross-fitted calibration samples it holds
    for the models of the folds, and for the final one only as far as it behaves like them.

    Samples that all weigh the same are tested as if they had no weights. If they have different
    weights, the risk is the weighted mean of the losses, ``E[weight * loss] / E[weight]``. It can
    be tested only if a bound of the weights is known that does not come from the calibration
    samples, since a weight too rare to be among them may carry most of the risk: see `max_weight`.
    Without it, different weights are refused. Class weights do not enter calibration.

    Parameters
    ----------
    target_level : float, default=0.01
        Largest risk: a share of all rows, or the mean of the losses.
    confidence_level : float, default=0.9
    risk : str or callable, default="performance_gap"
        ``"performance_gap"``: share of samples that are wrong where they exit and right at the last
        exit. ``"consistency"``: share of those that are predicted otherwise than at the last exit,
        whichever is right. ``"accuracy_drop"``: the performance gap less the share of samples that
        are right where they exit and wrong at the last. Or ``f(y_true, y_exit, y_last)``, which
        returns a loss in [0, 1] for each sample.
    method : {"ltt", "ucb"}, default="ltt"
        ``"ltt"``: learn then test, in a fixed sequence. ``"ucb"``: the upper confidence bound of
        the risk has to stay below the level; losses are first made to grow on the way down the
        family, without which that is not valid, so that it never lets more leave.
    test : {"auto", "binomial", "hoeffding_bentkus", "betting"}, default="auto"
        ``"binomial"`` is exact for losses of 0 and 1. ``"hoeffding_bentkus"`` holds for all losses
        in [0, 1], ``"betting"`` too, and is the sharper one where they vary little. ``"auto"`` is
        the first where that is possible, and the last otherwise. With `max_weight` only
        ``"betting"`` is valid, and ``"auto"`` takes it.
    family : array-like of shape (n_thresholds,), default=None
        Thresholds to test, chosen before any calibration row is seen. None are 501, dense near 1.
    max_weight : float, default=None
        Largest sample weight that can occur, in the units of `sample_weight`; needed where samples
        have different weights, and then tested by betting. It must be known without the
        calibration samples, and each weight must belong to its sample alone: weights that are
        computed from the calibration samples, as "balanced" ones are, are not covered. The larger
        it is against the mean weight, the more samples are needed.

    References
    ----------
    Angelopoulos, Bates, Candes, Jordan, Lei, "Learn then test: calibrating predictive algorithms
    to achieve risk control", Annals of Applied Statistics 2025.

    Jazbec, Timans, Veljkovic, Sakmann, Zhang, Naesseth, Nalisnick, "Fast yet safe: early-exiting
    with risk control", NeurIPS 2024.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone, RiskControl
    >>> X, y = make_classification(300, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"],
    ...     operating_point=RiskControl(0.05, risk="consistency"), calibration=0.3,
    ...     max_epochs=2, random_state=0)
    >>> print(clf.fit(X, y).operating_point_.reason)
    With 90% confidence at most 5.00% of new rows are answered otherwise than at the end.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **_OverFamily._parameter_constraints,
        "confidence_level": [Interval(Real, 0, 1, closed="neither")],
        "method": [StrOptions({"ltt", "ucb"})],
        "test": [StrOptions({"auto", "binomial", "hoeffding_bentkus", "betting"})],
    }

    def __init__(
        self,
        target_level: float = 0.01,
        *,
        confidence_level: float = 0.9,
        risk: Risk = "performance_gap",
        method: str = "ltt",
        test: str = "auto",
        family: Sequence[float] | None = None,
        max_weight: float | None = None,
    ) -> None:
        self.target_level = target_level
        self.confidence_level = confidence_level
        self.risk = risk
        self.method = method
        self.test = test
        self.family = family
        self.max_weight = max_weight

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.risk == "accuracy_drop" and self.test == "binomial":
            raise ValueError(
                "The 'test' of RiskControl must not be 'binomial' for risk='accuracy_drop', whose "
                "losses may be -1. Take 'auto'."
            )
        if self.max_weight is not None and self.test in ("binomial", "hoeffding_bentkus"):
            raise ValueError(
                f"The 'test' of RiskControl must not be {self.test!r} with 'max_weight', since it "
                "does not hold for samples of different weight. Take 'auto' or 'betting'."
            )

    def check_rows(
        self,
        n_rows: int,
        weight: np.ndarray | None = None,
        largest_weight: float | None = None,
    ) -> None:
        """Refuse samples that could certify nothing even with the best losses there are."""
        evidence = CalibrationData.unanswered(n_rows, weight, largest_weight)
        best = np.zeros_like(evidence.scores)
        if self.risk == "accuracy_drop":
            best[:, 0] = -1.0
        self._n_passed(FamilyLosses(evidence.scores, best, self._family()), evidence)

    def thresholds(self, evidence: CalibrationData, frontier: Frontier) -> np.ndarray:
        """Choose thresholds; see `OperatingPoint.thresholds`.

        Raises
        ------
        NotCertifiedError
            If not even the safest threshold can be certified.
        """
        return self._common(self._n_passed(self._losses(evidence), evidence), evidence.n_exits)

    def _n_passed(self, losses: FamilyLosses, evidence: CalibrationData) -> int:
        """How many thresholds of the family are certified, from the safest down."""
        weight = self._bounded_weight(evidence)
        if self.method == "ucb":
            losses = losses.monotone()
        test = self._test_of(losses)
        delta = 1 - self.confidence_level
        if test == "betting":
            n_passed = 0
            while n_passed < losses.n_thresholds:
                if n_passed == 0 or losses.changes[n_passed]:
                    found = self._p_values(test, losses, weight, n_passed)(self.target_level)
                # Never the other way round: what is no number certifies nothing.
                if not found <= delta:
                    break
                n_passed += 1
        else:
            p_values = self._p_values(test, losses, weight, slice(None))(self.target_level)
            failed = ~(p_values <= delta)
            n_passed = int(np.argmax(failed)) if failed.any() else losses.n_thresholds
        if not n_passed:
            p_value = self._p_values(test, losses, weight, 0)
            raise self._refusal(len(weight), _least_level(p_value, delta))
        return n_passed

    def _p_values(
        self, test: str, losses: FamilyLosses, weight: np.ndarray, at: Any
    ) -> Callable[[float], Any]:
        """From a level to the p-values of some thresholds."""
        # Losses from -1 to 1 are tested on the scale from 0 to 1.
        low, span = (-1.0, 2.0) if self.risk == "accuracy_drop" else (0.0, 1.0)
        if test == "betting":
            column = (losses.at(at) - low) / span
            return lambda level: betting_p_value(column, (level - low) / span, weight)
        means = (losses.means(weight)[at] - low) / span
        p_value = binomial_p_value if test == "binomial" else hoeffding_bentkus_p_value
        return lambda level: p_value(means, len(weight), (level - low) / span)

    def _test_of(self, losses: FamilyLosses) -> str:
        zero_one = bool(np.all((losses.losses == 0) | (losses.losses == 1)))
        if self.test == "binomial" and not zero_one:
            raise ValueError(
                "The 'test' of RiskControl must not be 'binomial' for losses other than 0 and 1, "
                "which the 'risk' function returned. Take 'auto'."
            )
        if self.test != "auto":
            return self.test
        if self.max_weight is not None:
            return "betting"
        return "binomial" if zero_one and self.risk != "accuracy_drop" else "betting"

    def _refusal(self, n_rows: int, least: float | None) -> NotCertifiedError:
        if least is None:
            return NotCertifiedError(
                f"{self.description} cannot be certified, nor can any other target_level by "
                f"{n_rows} calibration rows. Give more rows, or a lower confidence_level."
            )
        return NotCertifiedError(
            f"{self.description} cannot be certified: the least target_level that {n_rows} "
            f"calibration rows can certify is {least:g}. Give more rows, or ask for that or more."
        )

    def certify(self) -> tuple[bool | None, str]:
        """What is guaranteed; see `OperatingPoint.certify`."""
        return True, f"With {_percent(self.confidence_level, 0)} confidence {self._sentence()}."


class ConformalRiskControl(_OverFamily):
    """Bounds what is lost by leaving in the mean over calibrations.

    Thresholds are the same at every exit. Losses are first made to grow on the way down the family;
    the last threshold is taken for which the mean loss, with one more row that loses everything, is
    at most the level. Over the draw of the calibration rows and of a new one, the expected loss is
    then at most `target_level`; a single calibration may do worse, which `RiskControl` bounds.

    It assumes what `RiskControl` assumes. If samples have different weights, what is bounded is the
    expected ``weight * loss`` as a share of the expected weight, for which `max_weight` has to be
    given: the additional sample then has this weight.

    Parameters
    ----------
    target_level : float, default=0.01
        Largest expected loss.
    risk : {"performance_gap", "consistency"} or callable, default="performance_gap"
        As in `RiskControl`.
    family : array-like of shape (n_thresholds,), default=None
        Thresholds to choose from. None are 501, dense near 1.
    max_weight : float, default=None
        As in `RiskControl`.

    References
    ----------
    Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal risk control", ICLR 2024.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import ConformalRiskControl, EarlyExitClassifier, MLPBackbone
    >>> X, y = make_classification(300, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"],
    ...     operating_point=ConformalRiskControl(0.05, risk="consistency"), calibration=0.3,
    ...     max_epochs=2, random_state=0)
    >>> print(clf.fit(X, y).operating_point_.reason)
    In expectation at most 5.00% of new rows are answered otherwise than at the end.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **_OverFamily._parameter_constraints,
        "risk": [StrOptions({"performance_gap", "consistency"}), callable],
    }

    def __init__(
        self,
        target_level: float = 0.01,
        *,
        risk: Risk = "performance_gap",
        family: Sequence[float] | None = None,
        max_weight: float | None = None,
    ) -> None:
        self.target_level = target_level
        self.risk = risk
        self.family = family
        self.max_weight = max_weight

    def check_rows(
        self,
        n_rows: int,
        weight: np.ndarray | None = None,
        largest_weight: float | None = None,
    ) -> None:
        """Refuse samples that would not do even without any loss."""
        weight = self._bounded_weight(CalibrationData.unanswered(n_rows, weight, largest_weight))
        least = 1 / (weight.sum() + 1)
        if not least <= self.target_level:
            raise self._refusal(n_rows, least)

    def thresholds(self, evidence: CalibrationData, frontier: Frontier) -> np.ndarray:
        """Choose thresholds; see `OperatingPoint.thresholds`.

        Raises
        ------
        NotCertifiedError
            If not even the safest threshold is safe enough.
        """
        weight = self._bounded_weight(evidence)
        total = weight.sum()
        # The mean of weight * (loss - level), with one more sample of the largest weight and loss,
        # is at most 0 where this is at most the level.
        bounds = (total * self._losses(evidence).monotone().means(weight) + 1) / (total + 1)
        failed = ~(bounds <= self.target_level + 1e-12)
        n_passed = int(np.argmax(failed)) if failed.any() else len(bounds)
        if not n_passed:
            raise self._refusal(len(weight), float(bounds[0]))
        return self._common(n_passed, evidence.n_exits)

    def _refusal(self, n_rows: int, bound: float) -> NotCertifiedError:
        least = _rounded_up(bound, lambda level: level >= bound)
        if least is None:
            return NotCertifiedError(
                f"{self.description} cannot be met, nor can any other target_level with {n_rows} "
                "calibration rows. Give more rows."
            )
        return NotCertifiedError(
            f"{self.description} cannot be met: the least target_level for {n_rows} calibration "
            f"rows is {least:g}. Give more rows, or ask for that or more."
        )

    def certify(self) -> tuple[bool | None, str]:
        """What is guaranteed; see `OperatingPoint.certify`."""
        return True, f"In expectation {self._sentence()}."


def _least_level(p_value: Callable[[float], Any], delta: float) -> float | None:
    """Least level with a p-value of at most delta, rounded up; None if there is none below 1."""
    low, high, tolerance = 1e-9, 1 - 1e-9, 1e-9

    def excess(level: float) -> float:
        return float(p_value(level)) - delta

    if not excess(high) <= 0:
        return None
    least = low if excess(low) <= 0 else brentq(excess, low, high, xtol=tolerance) + tolerance
    return _rounded_up(least, lambda level: excess(level) <= 0)


def _rounded_up(least: float, does: Callable[[float], bool]) -> float | None:
    """The number below 1 with the fewest digits, two at least, that is not less and will do."""
    if not 0 < least < 1:
        return None
    first = 1 - int(np.floor(np.log10(least)))
    for digits in range(first, first + 8):
        rounded = float(np.ceil(least * 10**digits) / 10**digits)
        if rounded < 1 and does(rounded):
            return rounded
    return None


def _percent(share: float, n_decimals: int) -> str:
    """A share in percent, with more decimals than asked for where fewer would change it."""
    return max(f"{share:.{n_decimals}%}", f"{100 * share:.10g}%", key=len)

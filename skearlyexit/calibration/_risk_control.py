"""The cheapest answers whose risk is bounded with confidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from scipy.optimize import brentq
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit.calibration._base import NotCertifiedError, OperatingPoint
from skearlyexit.calibration._evidence import Evidence
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
    "harm": "are wrong on leaving and would have been right at the end",
    "disagreement": "are answered otherwise than at the end",
    "accuracy_drop": "are lost by leaving, those that it gains taken off",
}


class _OverFamily(OperatingPoint):
    """What the two kinds of control share: a family of common thresholds, from the safest down."""

    _told: ClassVar[tuple[str, ...]] = ("target_level", "confidence_level")
    target_level: float
    risk: Risk
    family: Sequence[float] | None

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "target_level": [Interval(Real, 0, 1, closed="neither")],
        "risk": [StrOptions(RISKS), callable],
        "family": ["array-like", None],
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

    def _losses(self, evidence: Evidence) -> FamilyLosses:
        return FamilyLosses(evidence.scores, exit_losses(evidence, self.risk), self._family())

    def _common(self, n_passed: int, n_exits: int) -> np.ndarray:
        return np.full(n_exits - 1, self._family()[n_passed - 1])

    def _sentence(self) -> str:
        if isinstance(self.risk, str):
            return f"of new rows {_SENTENCES[self.risk]}"
        return "of the largest loss is lost on new rows in the mean"


class RiskControl(_OverFamily):
    """Bounds, with confidence, what is lost by leaving.

    Thresholds are the same at every exit. From the safest down, each is tested on the calibration
    rows: "its risk exceeds the level". The last before the first that is not rejected is taken.
    With probability `confidence_level` over the calibration rows, its risk on new rows from the
    same source is at most `target_level`.

    With cross-fitted calibration rows the guarantee holds for the models of the folds, and for the
    final one as far as it is like them. Rows of unequal weight count as their effective number.

    Parameters
    ----------
    target_level : float, default=0.01
        Largest risk: a share of all rows, or the mean of the losses.
    confidence_level : float, default=0.9
    risk : {"harm", "disagreement", "accuracy_drop"} or callable, default="harm"
        ``"harm"``: rows that are wrong on leaving and would have been right at the end.
        ``"disagreement"``: rows that are answered otherwise than at the end, whoever is right.
        ``"accuracy_drop"``: harm less what leaving makes right. Or
        ``f(y_true, y_leaving, y_last)``, which returns a loss in [0, 1] for each row.
    method : {"ltt", "ucb"}, default="ltt"
        ``"ltt"``: learn then test, in a fixed sequence. ``"ucb"``: the upper confidence bound of
        the risk has to stay below the level; losses are first made to grow on the way down the
        family, without which that is not valid, so that it never lets more leave.
    test : {"auto", "binomial", "hoeffding_bentkus", "betting"}, default="auto"
        ``"binomial"`` is exact for losses of 0 and 1. ``"hoeffding_bentkus"`` holds for all losses
        in [0, 1], ``"betting"`` too, and is the sharper one where they vary little. ``"auto"`` is
        the first where that is possible, and the last otherwise.
    family : array-like of shape (n_thresholds,), default=None
        Thresholds to test, chosen before any calibration row is seen. None are 501, dense near 1.

    References
    ----------
    Angelopoulos, Bates, Candes, Jordan, Lei, "Learn then test: calibrating predictive algorithms
    to achieve risk control", Annals of Applied Statistics 2025.

    Jazbec, Timans, Veljkovic, Sakmann, Zhang, Naesseth, Nalisnick, "Fast yet safe: early-exiting
    with risk control", NeurIPS 2024.
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
        risk: Risk = "harm",
        method: str = "ltt",
        test: str = "auto",
        family: Sequence[float] | None = None,
    ) -> None:
        self.target_level = target_level
        self.confidence_level = confidence_level
        self.risk = risk
        self.method = method
        self.test = test
        self.family = family

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.risk == "accuracy_drop" and self.test == "binomial":
            raise ValueError(
                "The 'test' of RiskControl must not be 'binomial' for risk='accuracy_drop', whose "
                "losses may be -1. Take 'auto'."
            )

    def check_rows(self, n_rows: int) -> None:
        """Refuse so few rows that no loss at all among them would prove nothing."""
        evidence = Evidence(
            np.zeros((n_rows, 2)), np.ones((n_rows, 2), dtype=bool), np.ones(2), np.ones(n_rows)
        )
        # What a function of the labels returns is not known yet, but losses of 0 are the best.
        risk = self.risk if isinstance(self.risk, str) else "harm"
        losses = FamilyLosses(evidence.scores, exit_losses(evidence, risk), self._family())
        self._n_passed(losses, evidence)

    def thresholds(self, evidence: Evidence, frontier: Frontier) -> np.ndarray:
        """Choose thresholds; see `OperatingPoint.thresholds`.

        Raises
        ------
        NotCertifiedError
            If not even the safest threshold can be certified.
        """
        losses = self._losses(evidence)
        if self.method == "ucb":
            losses = losses.monotone()
        return self._common(self._n_passed(losses, evidence), evidence.n_exits)

    def _n_passed(self, losses: FamilyLosses, evidence: Evidence) -> int:
        """How many thresholds of the family are certified, from the safest down."""
        test = self._test_of(losses)
        delta = 1 - self.confidence_level
        if test == "betting":
            n_passed = 0
            while n_passed < losses.n_thresholds:
                if n_passed == 0 or losses.changes[n_passed]:
                    passed = self._p_values(test, losses, evidence, n_passed)(self.target_level)
                if passed > delta:
                    break
                n_passed += 1
        else:
            failed = self._p_values(test, losses, evidence, slice(None))(self.target_level) > delta
            n_passed = int(np.argmax(failed)) if failed.any() else losses.n_thresholds
        if not n_passed:
            p_value = self._p_values(test, losses, evidence, 0)
            raise self._refusal(len(evidence.scores), _least_level(p_value, delta))
        return n_passed

    def _p_values(
        self, test: str, losses: FamilyLosses, evidence: Evidence, at: Any
    ) -> Callable[[float], Any]:
        """From a level to the p-values of some thresholds."""
        # Losses from -1 to 1 are tested on the scale from 0 to 1.
        low, span = (-1.0, 2.0) if self.risk == "accuracy_drop" else (0.0, 1.0)
        if test == "betting":
            column = (losses.at(at) - low) / span
            return lambda level: betting_p_value(column, (level - low) / span, evidence.weight)
        means = (losses.means(evidence.weight)[at] - low) / span
        p_value = binomial_p_value if test == "binomial" else hoeffding_bentkus_p_value
        return lambda level: p_value(means, evidence.n_effective, (level - low) / span)

    def _test_of(self, losses: FamilyLosses) -> str:
        zero_one = bool(np.all((losses.losses == 0) | (losses.losses == 1)))
        if self.test == "binomial" and not zero_one:
            raise ValueError(
                "The 'test' of RiskControl must not be 'binomial' for losses other than 0 and 1, "
                "which the 'risk' function returned. Take 'auto'."
            )
        if self.test != "auto":
            return self.test
        return "binomial" if zero_one and self.risk != "accuracy_drop" else "betting"

    def _refusal(self, n_rows: int, least: float) -> NotCertifiedError:
        return NotCertifiedError(
            f"{self.description} cannot be certified: the least target_level that {n_rows} "
            f"calibration rows can certify is {least:.2g}. Give more rows, or ask for that or more."
        )

    def certify(self) -> tuple[bool | None, str]:
        """What is guaranteed; see `OperatingPoint.certify`."""
        return True, (
            f"With {self.confidence_level:.0%} confidence at most {self.target_level:.2%} "
            f"{self._sentence()}."
        )


class ConformalRiskControl(_OverFamily):
    """Bounds what is lost by leaving in the mean over calibrations.

    Thresholds are the same at every exit. Losses are first made to grow on the way down the family;
    the last threshold is taken for which the mean loss, with one more row that loses everything, is
    at most the level. Over the draw of the calibration rows and of a new one, the expected loss is
    then at most `target_level`; a single calibration may do worse, which `RiskControl` bounds.

    Parameters
    ----------
    target_level : float, default=0.01
        Largest expected loss.
    risk : {"harm", "disagreement"} or callable, default="harm"
        As in `RiskControl`.
    family : array-like of shape (n_thresholds,), default=None
        Thresholds to choose from. None are 501, dense near 1.

    References
    ----------
    Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal risk control", ICLR 2024.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **_OverFamily._parameter_constraints,
        "risk": [StrOptions({"harm", "disagreement"}), callable],
    }

    def __init__(
        self,
        target_level: float = 0.01,
        *,
        risk: Risk = "harm",
        family: Sequence[float] | None = None,
    ) -> None:
        self.target_level = target_level
        self.risk = risk
        self.family = family

    def check_rows(self, n_rows: int) -> None:
        """Refuse so few rows that no loss at all among them would prove nothing."""
        if 1 / (n_rows + 1) > self.target_level:
            raise self._refusal(n_rows, 1 / (n_rows + 1))

    def thresholds(self, evidence: Evidence, frontier: Frontier) -> np.ndarray:
        """Choose thresholds; see `OperatingPoint.thresholds`.

        Raises
        ------
        NotCertifiedError
            If not even the safest threshold is safe enough.
        """
        n_rows = evidence.n_effective
        means = self._losses(evidence).monotone().means(evidence.weight)
        bounds = (n_rows * means + 1) / (n_rows + 1)
        failed = bounds > self.target_level + 1e-12
        n_passed = int(np.argmax(failed)) if failed.any() else len(bounds)
        if not n_passed:
            raise self._refusal(len(evidence.scores), float(bounds[0]))
        return self._common(n_passed, evidence.n_exits)

    def _refusal(self, n_rows: int, least: float) -> NotCertifiedError:
        return NotCertifiedError(
            f"{self.description} cannot be met: the least target_level for {n_rows} calibration "
            f"rows is {least:.2g}. Give more rows, or ask for that or more."
        )

    def certify(self) -> tuple[bool | None, str]:
        """What is guaranteed; see `OperatingPoint.certify`."""
        return True, f"In expectation at most {self.target_level:.2%} {self._sentence()}."


def _least_level(p_value: Callable[[float], Any], delta: float) -> float:
    """Least level with a p-value of at most delta, rounded up to two digits."""
    least = brentq(lambda level: float(p_value(level)) - delta, 1e-9, 1 - 1e-9, xtol=1e-7)
    digits = 1 - int(np.floor(np.log10(least)))
    return float(np.ceil(least * 10**digits) / 10**digits)

"""Bound of the risk of exiting early that holds with confidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from scipy.optimize import brentq
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit.calibration._base import NotCertifiedError
from skearlyexit.calibration._calibration_data import CalibrationData
from skearlyexit.calibration._draws import Draws
from skearlyexit.calibration._over_family import OverFamily, Tested, percent, rounded_up
from skearlyexit.calibration._p_values import (
    betting_p_value,
    binomial_p_value,
    hoeffding_bentkus_p_value,
)
from skearlyexit.calibration._risks import FamilyLosses, Risk


class RiskControl(OverFamily):
    """Upper bound of the risk of exiting early, guaranteed with confidence.

    The thresholds are chosen from a family. Beginning with the highest thresholds, each member is
    tested on calibration samples: the null hypothesis is that its risk on new samples is above
    `target_level`. The last member before the first whose hypothesis is not rejected is chosen.
    With a probability of at least `confidence_level` over the draw of the calibration samples, its
    risk on new samples is at most `target_level`.

    If not even the highest thresholds pass the test, `NotCertifiedError` is raised.

    Parameters
    ----------
    target_level : float, default=0.01
        Maximum risk: a share of the samples, or the mean of the losses.
    confidence_level : float, default=0.9
        Probability with which the guarantee holds.
    risk : str or callable, default="performance_gap"
        Risk that is bounded:

        - ``"performance_gap"``: share of the samples that are misclassified at their exit and
          classified correctly at the last exit.
        - ``"consistency"``: share of the samples whose predictions at their exit and at the last
          exit differ, whichever is correct.
        - ``"accuracy_drop"``: the performance gap minus the share of the samples that are
          classified correctly at their exit and misclassified at the last exit.
        - callable: called as ``risk(y_true, y_exit, y_last)`` with the true labels and those
          predicted at the exit and at the last exit. It returns a loss in [0, 1] for each sample;
          the risk is the mean.
    method : {"ltt", "ucb"}, default="ltt"
        How the threshold is chosen:

        - ``"ltt"``: learn then test, by tests in a fixed sequence.
        - ``"ucb"``: by an upper confidence bound of the risk. This is valid only for losses that
          increase as the threshold decreases, so each loss is replaced by the largest for any
          higher threshold. The threshold is never lower than with ``"ltt"``.
    test : {"auto", "binomial", "hoeffding_bentkus", "betting"}, default="auto"
        Statistical test of the risk:

        - ``"binomial"``: exact test for losses of 0 and 1.
        - ``"hoeffding_bentkus"``: valid for all losses in [0, 1].
        - ``"betting"``: valid for all losses in [0, 1], and more powerful if their variance is
          small. The only test that is valid with `max_weight`.
        - ``"auto"``: ``"binomial"`` if it is valid, and ``"betting"`` otherwise.
    family : {"auto", "common"} or array-like of shape (n_thresholds,), default="auto"
        Candidate thresholds:

        - ``"auto"``: for each of 501 levels, the thresholds at which the estimated risk of exiting
          is at this level at each exit. The risk is estimated from the score, by logistic
          regression on a fifth of the calibration samples, drawn at random; the others are tested.
          If these are too few to certify any threshold, or `risk` is a function, as ``"common"``.
        - ``"common"``: one threshold for all exits, out of 501 from 0 to 1, which are dense near 1.
          All calibration samples are tested.
        - array-like: one of these thresholds for all exits. They must not depend on the calibration
          samples.
    max_weight : float, default=None
        Largest sample weight that can occur, in the units of `sample_weight`. Required if the
        calibration samples have different weights. It must not be computed from the calibration
        samples, and each weight must depend on its sample alone: weights computed from the
        calibration samples, such as balanced class weights, are not covered. The larger it is
        compared with the mean weight, the more samples are needed.

    See Also
    --------
    ConformalRiskControl : Bound of the expected risk.
    AccuracyDrop : Maximum loss of accuracy, without a guarantee.

    Notes
    -----
    The guarantee assumes that calibration samples and new samples are drawn independently from the
    same distribution. With cross-fitted calibration samples, it holds for the models of the folds,
    and for the final model only if it behaves like them.

    Samples of the same group are not independent. If groups are given, they are what is drawn: the
    loss of a group is the mean of those of its samples, the risk is the mean over groups, and the
    number of groups is what the test depends on.

    If samples have different weights, the risk is the weighted mean of the losses,
    ``E[weight * loss] / E[weight]``. A weight too rare to occur among the calibration samples may
    account for most of it, so an upper bound of all weights must be known: see `max_weight`.
    Otherwise, different weights are rejected. Equal weights have no effect, and class weights are
    not used in calibration.

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
    >>> print(clf.fit(X, y).operating_point_.reason)  # doctest: +NORMALIZE_WHITESPACE
    With 90% confidence at most 5.00% of new samples are predicted differently than at the last
    exit.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **OverFamily._parameter_constraints,
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
        family: str | Sequence[float] = "auto",
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
                "losses may be -1. Give 'auto'."
            )
        if self.max_weight is not None and self.test in ("binomial", "hoeffding_bentkus"):
            raise ValueError(
                f"The 'test' of RiskControl must not be {self.test!r} with 'max_weight', since it "
                "is not valid for samples of different weight. Give 'auto' or 'betting'."
            )

    def _n_passed(self, tested: Tested) -> int:
        losses, draws = tested.losses, self._draws(tested.data)
        if self.method == "ucb":
            losses = losses.monotone()
        test = self._test_of(losses, draws)
        delta = 1 - self.confidence_level
        if test == "betting":
            n_passed = 0
            while n_passed < losses.n_thresholds:
                if n_passed == 0 or losses.changes[n_passed]:
                    found = self._p_values(test, losses, draws, n_passed)(self.target_level)
                # Written such that a p-value of NaN certifies nothing.
                if not found <= delta:
                    break
                n_passed += 1
        else:
            p_values = self._p_values(test, losses, draws, slice(None))(self.target_level)
            failed = ~(p_values <= delta)
            n_passed = int(np.argmax(failed)) if failed.any() else losses.n_thresholds
        return n_passed

    def _least_level(self, tested: Tested) -> float | None:
        losses, draws = tested.losses, self._draws(tested.data)
        if self.method == "ucb":
            losses = losses.monotone()
        p_value = self._p_values(self._test_of(losses, draws), losses, draws, 0)
        return _least_level(p_value, 1 - self.confidence_level)

    def _p_values(
        self, test: str, losses: FamilyLosses, draws: Draws, at: Any
    ) -> Callable[[float], Any]:
        """Function from a level to the p-values of some thresholds."""
        # Losses from -1 to 1 are rescaled to [0, 1].
        low, span = (-1.0, 2.0) if self.risk == "accuracy_drop" else (0.0, 1.0)
        if test == "betting":
            column = (draws.losses(losses.at(at)) - low) / span
            return lambda level: betting_p_value(column, (level - low) / span, draws.weight)
        means = (losses.means(draws.sample_weight)[at] - low) / span
        p_value = binomial_p_value if test == "binomial" else hoeffding_bentkus_p_value
        return lambda level: p_value(means, len(draws), (level - low) / span)

    def _draws(self, data: CalibrationData) -> Draws:
        draws = super()._draws(data)
        if self.test == "binomial" and draws.group_of is not None:
            raise ValueError(
                "The 'test' of RiskControl must not be 'binomial' for samples with groups, whose "
                "losses are means. Give 'auto'."
            )
        return draws

    def _test_of(self, losses: FamilyLosses, draws: Draws) -> str:
        zero_one = bool(np.all((losses.losses == 0) | (losses.losses == 1)))
        if self.test == "binomial" and not zero_one:
            raise ValueError(
                "The 'test' of RiskControl must not be 'binomial' for losses other than 0 and 1, "
                "which the 'risk' function returned. Give 'auto'."
            )
        if self.test != "auto":
            return self.test
        if self.max_weight is not None or draws.group_of is not None:
            return "betting"
        return "binomial" if zero_one and self.risk != "accuracy_drop" else "betting"

    def _refusal(self, draws: Draws, least: float | None) -> NotCertifiedError:
        noun = draws.noun
        if least is None:
            return NotCertifiedError(
                f"{self.description} cannot be certified, nor can any other target_level with "
                f"{len(draws)} {noun}. Give more {noun}, or a lower confidence_level."
            )
        return NotCertifiedError(
            f"{self.description} cannot be certified: the least target_level that {len(draws)} "
            f"{noun} can certify is {least:g}. Give more {noun}, or at least this level."
        )

    def certify(self) -> tuple[bool | None, str]:
        return True, f"With {percent(self.confidence_level, 0)} confidence {self._sentence()}."


def _least_level(p_value: Callable[[float], Any], delta: float) -> float | None:
    """Lowest level with a p-value of at most delta, rounded up; None if there is none below 1."""
    low, high, tolerance = 1e-9, 1 - 1e-9, 1e-9

    def excess(level: float) -> float:
        return float(p_value(level)) - delta

    if not excess(high) <= 0:
        return None
    least = low if excess(low) <= 0 else brentq(excess, low, high, xtol=tolerance) + tolerance
    return rounded_up(least, lambda level: excess(level) <= 0)

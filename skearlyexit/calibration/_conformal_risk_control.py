"""Bound of the risk of exiting early in expectation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import StrOptions

from skearlyexit.calibration._base import NotCertifiedError
from skearlyexit.calibration._draws import Draws
from skearlyexit.calibration._over_family import OverFamily, Tested, rounded_up
from skearlyexit.calibration._risks import Risk


class ConformalRiskControl(OverFamily):
    """Upper bound of the expected risk of exiting early.

    The thresholds are the lowest of a family for which the mean loss, of the calibration samples
    and one additional sample with the largest possible loss, is at most `target_level`. For this,
    the loss of each sample is replaced by the largest for any higher thresholds of the family.

    The risk on new samples is then at most `target_level` on average over the draw of the
    calibration samples. For a single calibration it may be larger; `RiskControl` bounds it with a
    given confidence, and usually lets fewer samples exit early.

    If not even the highest thresholds satisfy the criterion, `NotCertifiedError` is raised. In the
    average, this counts as a risk of 0, so that the risk of the calibrations that succeed is larger
    if others fail.

    Parameters
    ----------
    target_level : float, default=0.01
        Maximum expected risk.
    risk : {"performance_gap", "consistency"} or callable, default="performance_gap"
        Risk that is bounded:

        - ``"performance_gap"``: share of the samples that are misclassified at their exit and
          classified correctly at the last exit.
        - ``"consistency"``: share of the samples whose predictions at their exit and at the last
          exit differ, whichever is correct.
        - callable: called as ``risk(y_true, y_exit, y_last)`` with the true labels and those
          predicted at the exit and at the last exit. It returns a loss in [0, 1] for each sample;
          the risk is the mean.
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
        Largest sample weight that can occur, as in `RiskControl`. It is the weight of the
        additional sample.

    See Also
    --------
    RiskControl : Bound of the risk that holds with a given confidence.

    Notes
    -----
    The assumptions are those of `RiskControl`. If samples have different weights, the bound is that
    of ``E[weight * loss] / E[weight]``.

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
    In expectation at most 5.00% of new samples are predicted differently than at the last exit.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **OverFamily._parameter_constraints,
        "risk": [StrOptions({"performance_gap", "consistency"}), callable],
    }

    def __init__(
        self,
        target_level: float = 0.01,
        *,
        risk: Risk = "performance_gap",
        family: str | Sequence[float] = "auto",
        max_weight: float | None = None,
    ) -> None:
        self.target_level = target_level
        self.risk = risk
        self.family = family
        self.max_weight = max_weight

    def _n_passed(self, tested: Tested) -> int:
        failed = ~(self._bounds(tested) <= self.target_level + 1e-12)
        return int(np.argmax(failed)) if failed.any() else len(tested.family)

    def _least_level(self, tested: Tested) -> float | None:
        bound = float(self._bounds(tested)[0])
        return rounded_up(bound, lambda level: level >= bound)

    def _bounds(self, tested: Tested) -> np.ndarray:
        """Lowest level that each threshold of the family satisfies."""
        draws = self._draws(tested.data)
        total = draws.weight.sum()
        # The mean of weight * (loss - level), with one additional sample of the largest weight and
        # loss, is at most 0 if and only if this bound is at most the level.
        means = tested.losses.monotone().means(draws.sample_weight)
        return np.asarray((total * means + 1) / (total + 1))

    def _refusal(self, draws: Draws, least: float | None) -> NotCertifiedError:
        noun = draws.noun
        if least is None:
            return NotCertifiedError(
                f"{self.description} cannot be met, nor can any other target_level with "
                f"{len(draws)} {noun}. Give more {noun}."
            )
        return NotCertifiedError(
            f"{self.description} cannot be met: the least target_level for {len(draws)} {noun} is "
            f"{least:g}. Give more {noun}, or at least this level."
        )

    def certify(self) -> tuple[bool | None, str]:
        return True, f"In expectation {self._sentence()}."

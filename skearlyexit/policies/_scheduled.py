"""Policy that learns the scores of all exits together for a budget."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit.policies._features import FEATURES
from skearlyexit.policies._logistic import LogisticPolicy


class ScheduledPolicy(LogisticPolicy):
    """Policy that learns the scores of all exits together to maximize the accuracy at a budget.

    At each exit but the last, the probability of exiting is a logistic function of features of the
    predicted probabilities. The coefficients of all exits are fitted together to held-out samples:
    they maximize the expected accuracy, subject to an expected cost of at most `budget`. The score
    of a sample is the share of these held-out samples with a smaller probability of exiting. At the
    last exit, it is 1. The thresholds are chosen on other samples, at the same or any other budget.

    Parameters
    ----------
    budget : float, default=0.5
        Mean cost per sample for which the scores are learned, in units of the cost of the plain
        network, which has its last exit only. It is clipped to the range of the costs of the exits.
    features : {"summary", "probabilities"}, default="summary"
        Features of the predicted probabilities, as in `LearnedConfidencePolicy`.
    max_iter : int, default=500
        Number of steps of gradient ascent.

    Attributes
    ----------
    coef_ : ndarray of shape (n_exits - 1, n_features)
        Coefficients of the features at each exit but the last.
    intercept_ : ndarray of shape (n_exits - 1,)
        Intercept at each exit but the last.
    knots_ : ndarray of shape (n_exits - 1, n_knots)
        Equally spaced quantiles, from 0 to 1, of the logit of the probability of exiting on the
        samples of `fit`, less its rounding error.
    shares_ : ndarray of shape (n_exits,)
        Expected share of the samples of `fit` that exits at each exit.

    References
    ----------
    Ilhan et al., "Adaptive deep neural network inference optimization with EENet", WACV 2024, learn
    scores and exit rates for a budget with other losses.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone, ScheduledPolicy
    >>> X, y = make_classification(300, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"],
    ...     policy=ScheduledPolicy(0.8, max_iter=50), budget=0.8, calibration=0.3, max_epochs=2,
    ...     random_state=0).fit(X, y)
    >>> clf.cascade_.exit_rule.policy.coef_.shape, clf.cascade_.exit_rule.policy.shares_.shape
    ((1, 4), (2,))
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "budget": [Interval(Real, 0, None, closed="neither")],
        "features": [StrOptions(FEATURES)],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self, budget: float = 0.5, *, features: str = "summary", max_iter: int = 500
    ) -> None:
        self.budget = budget
        self.features = features
        self.max_iter = max_iter

    def fit(
        self,
        probabilities: np.ndarray,
        y: np.ndarray,
        *,
        costs: np.ndarray,
        sample_weight: np.ndarray,
        seed: int,
    ) -> Self:
        right = (probabilities.argmax(axis=2) == y[:, None]).astype(np.float64)
        share = sample_weight / sample_weight.sum()
        budget = float(np.clip(self.budget, costs[0], costs[-1]))
        multiplier = 0.0

        def slope(chance: np.ndarray) -> np.ndarray:
            nonlocal multiplier
            # Multiplier of the constraint: it increases while the expected cost exceeds the budget,
            # and otherwise decreases to 0.
            over = float(share @ (_shares(chance) @ costs)) - budget
            multiplier = max(0.0, multiplier + 0.1 * over)
            value = right - multiplier * costs
            steep = np.empty_like(chance)
            # Expected value of continuing after the exit, computed backward from the last exit.
            onward = value[:, -1]
            for k in range(chance.shape[1] - 1, -1, -1):
                steep[:, k] = value[:, k] - onward
                onward = chance[:, k] * value[:, k] + (1 - chance[:, k]) * onward
            return steep * _come(chance)[:, :-1] * chance * (1 - chance)

        self._ascend(probabilities, sample_weight, slope)
        columns = (np.ascontiguousarray(column) for column in probabilities.swapaxes(0, 1)[:-1])
        chance = np.stack([self.chance(column, i) for i, column in enumerate(columns)], axis=1)
        self.shares_ = share @ _shares(chance)
        return self


def _come(chance: np.ndarray) -> np.ndarray:
    """Probability of each sample to reach each exit, shape (n_samples, n_exits)."""
    stay = np.cumprod(1 - chance, axis=1)
    return np.concatenate([np.ones((len(chance), 1)), stay], axis=1)


def _shares(chance: np.ndarray) -> np.ndarray:
    """Probability of each sample to exit at each exit, shape (n_samples, n_exits)."""
    return _come(chance) * np.concatenate([chance, np.ones((len(chance), 1))], axis=1)

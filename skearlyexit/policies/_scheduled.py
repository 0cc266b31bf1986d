"""Scores and shares of leaving learned together, for a budget."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit.policies._features import FEATURES
from skearlyexit.policies._logistic import LogisticPolicy


class ScheduledPolicy(LogisticPolicy):
    """Chance to leave, learned at all exits together for the most right answers at a budget.

    At each exit the chance to leave is a logistic function of how sure the answer is; the score is
    the share of the rows learned from whose chance is smaller. All of them
    are trained at once, so that the expected share of right answers is largest while the expected
    cost stays within the budget: what one exit lets go is cost that another need not save. The
    thresholds are then chosen on other rows, at this budget or at any other.

    Parameters
    ----------
    budget : float, default=0.5
        Mean cost per row to learn for, in units of the plain network; one that the exits cannot
        meet becomes the nearest that they can.
    features : {"summary", "probabilities"}, default="summary"
        What it sees of an answer, as in `LearnedConfidencePolicy`.
    max_iter : int, default=500
        Steps of gradient ascent.

    Attributes
    ----------
    coef_ : ndarray of shape (n_exits - 1, n_features)
    intercept_ : ndarray of shape (n_exits - 1,)
    knots_ : ndarray of shape (n_exits - 1, n_knots)
        Logits of the chance at equal shares of the rows.
    shares_ : ndarray of shape (n_exits,)
        Expected share of the rows it learned from that leaves at each exit.

    References
    ----------
    After Ilhan et al., "Adaptive deep neural network inference optimization with EENet", WACV
    2024, who learn scores and shares of leaving for a budget with other losses.

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
        """Learn chances and shares; see `Policy.fit`."""
        right = (probabilities.argmax(axis=2) == y[:, None]).astype(np.float64)
        share = sample_weight / sample_weight.sum()
        budget = float(np.clip(self.budget, costs[0], costs[-1]))
        price = 0.0

        def slope(chance: np.ndarray) -> np.ndarray:
            nonlocal price
            # The price of cost rises while the budget is exceeded, and falls to 0 while it is not.
            over = float(share @ (_shares(chance) @ costs)) - budget
            price = max(0.0, price + 0.1 * over)
            value = right - price * costs
            steep = np.empty_like(chance)
            # From the last exit back: what a row is worth that goes on past this exit.
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
    """Chance of each row to come to each exit, shape (n_samples, n_exits)."""
    stay = np.cumprod(1 - chance, axis=1)
    return np.concatenate([np.ones((len(chance), 1)), stay], axis=1)


def _shares(chance: np.ndarray) -> np.ndarray:
    """Chance of each row to leave at each exit, shape (n_samples, n_exits)."""
    return _come(chance) * np.concatenate([chance, np.ones((len(chance), 1))], axis=1)

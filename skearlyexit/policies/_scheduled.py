"""Scores and shares of leaving learned together, for a budget."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import expit
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit.policies._base import Policy, State
from skearlyexit.policies._features import FEATURES, answer_features, n_operations


class ScheduledPolicy(Policy):
    """Chance to leave, learned at all exits together for the most right answers at a budget.

    At each exit the chance to leave is a logistic function of how sure the answer is. All of them
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
    shares_ : ndarray of shape (n_exits,)
        Expected share of the rows it learned from that leaves at each exit.

    References
    ----------
    After Ilhan et al., "Adaptive deep neural network inference optimization with EENet", WACV
    2024, who learn scores and shares of leaving for a budget with other losses.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "budget": [Interval(Real, 0, None, closed="neither")],
        "features": [StrOptions(FEATURES)],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
    }
    is_learned: ClassVar[bool] = True

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
        n_choices = probabilities.shape[1] - 1
        seen = np.stack(
            [
                answer_features(np.ascontiguousarray(probabilities[:, i]), self.features)
                for i in range(n_choices)
            ],
            axis=1,
        )
        share = sample_weight / sample_weight.sum()
        center = np.einsum("n,nkf->kf", share, seen)
        scale = np.sqrt(np.einsum("n,nkf->kf", share, np.square(seen - center)))
        scale = np.where(scale > 1e-9, scale, 1.0)
        right = (probabilities.argmax(axis=2) == y[:, None]).astype(np.float64)
        budget = float(np.clip(self.budget, costs[0], costs[-1]))
        coef, intercept = _ascend(
            (seen - center) / scale, right, costs, share, budget, self.max_iter
        )
        self.coef_ = coef / scale
        self.intercept_ = intercept - (self.coef_ * center).sum(axis=1)
        self.shares_ = share @ _shares(expit((seen * self.coef_).sum(axis=2) + self.intercept_))
        return self

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        """Score one exit, the last one by 1; see `Policy.step`."""
        if exit_ == len(self.coef_):
            return np.ones(len(probabilities)), None
        features = answer_features(probabilities, self.features)
        return expit((features * self.coef_[exit_]).sum(axis=1) + self.intercept_[exit_]), None

    def macs(self, n_classes: int, exit_: int = 0) -> float:
        """Those of the features and of their weighted sum; see `Policy.macs`."""
        n_features = self.coef_.shape[1] if hasattr(self, "coef_") else 0
        return n_operations(n_classes, self.features) + n_features + 1


def _shares(chance: np.ndarray) -> np.ndarray:
    """Chance of each row to leave at each exit, shape (n_samples, n_exits)."""
    stay = np.cumprod(1 - chance, axis=1)
    come = np.concatenate([np.ones((len(chance), 1)), stay], axis=1)
    return come * np.concatenate([chance, np.ones((len(chance), 1))], axis=1)


def _ascend(
    seen: np.ndarray,
    right: np.ndarray,
    costs: np.ndarray,
    share: np.ndarray,
    budget: float,
    max_iter: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Adam on the expected share of right answers less the price of cost.

    The price rises while the expected cost is over the budget, and falls to 0 while it is under.
    """
    n_choices, n_features = seen.shape[1:]
    parameters = np.zeros((n_choices, n_features + 1))
    first, second = np.zeros_like(parameters), np.zeros_like(parameters)
    price = 0.0
    for i in range(1, max_iter + 1):
        chance = expit((seen * parameters[:, :-1]).sum(axis=2) + parameters[:, -1])
        shares = _shares(chance)
        over = float(share @ (shares @ costs)) - budget
        price = max(0.0, price + 0.1 * over)
        value = right - price * costs
        # From the last exit back: what a row is worth that goes on past this exit.
        slope = np.empty_like(chance)
        onward = value[:, -1]
        for k in range(n_choices - 1, -1, -1):
            slope[:, k] = value[:, k] - onward
            onward = chance[:, k] * value[:, k] + (1 - chance[:, k]) * onward
        come = np.cumprod(np.concatenate([np.ones((len(chance), 1)), 1 - chance], axis=1), axis=1)
        slope *= share[:, None] * come[:, :-1] * chance * (1 - chance)
        gradient = np.concatenate(
            [np.einsum("nk,nkf->kf", slope, seen), slope.sum(axis=0)[:, None]], axis=1
        )
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * np.square(gradient)
        rate = 0.1 * 0.5 * (1 + np.cos(np.pi * (i - 1) / max_iter))
        parameters += rate * (first / (1 - 0.9**i)) / (np.sqrt(second / (1 - 0.999**i)) + 1e-8)
    return parameters[:, :-1], parameters[:, -1]

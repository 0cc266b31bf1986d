"""Policies that learn a chance to leave, logistic in how sure the answer is, by gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit

from skearlyexit.policies._base import Policy, State
from skearlyexit.policies._features import answer_features, n_operations

#: Steps of Adam: largest rate, and decay of its means.
RATE, FIRST, SECOND = 0.1, 0.9, 0.999
#: Shares at which the logits are remembered.
N_KNOTS = 257
SHARES = np.linspace(0, 1, N_KNOTS)


class LogisticPolicy(Policy):
    """Score: the share of the rows learned from whose chance to leave an exit is smaller.

    The chance itself is logistic in the features of the answer. How steep it is, is left to chance:
    learned from other rows it would be another number for the same row, and thresholds chosen on
    one would not do for the other. Shares compare.

    Attributes
    ----------
    coef_ : ndarray of shape (n_exits - 1, n_features)
    intercept_ : ndarray of shape (n_exits - 1,)
    knots_ : ndarray of shape (n_exits - 1, n_knots)
        Logits of the chance at equal shares of the rows.
    """

    is_learned: ClassVar[bool] = True

    features: str
    max_iter: int
    coef_: np.ndarray
    intercept_: np.ndarray
    knots_: np.ndarray

    def chance(self, probabilities: np.ndarray, exit_: int) -> np.ndarray:
        """Chance to leave with these answers, 1 at the last exit, shape (n_samples,)."""
        if exit_ == len(self.coef_):
            return np.ones(len(probabilities))
        return np.asarray(expit(self._logits(probabilities, exit_)))

    def _logits(self, probabilities: np.ndarray, exit_: int) -> np.ndarray:
        features = answer_features(probabilities, self.features)
        return np.asarray((features * self.coef_[exit_]).sum(axis=1) + self.intercept_[exit_])

    def _ascend(
        self,
        probabilities: np.ndarray,
        sample_weight: np.ndarray,
        slope: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        """Find the coefficients by Adam, all exits together.

        Parameters
        ----------
        probabilities : ndarray of shape (n_samples, n_exits, n_classes)
        sample_weight : ndarray of shape (n_samples,)
        slope : callable
            From the chances to leave, shape (n_samples, n_exits - 1), to how what is to grow grows
            with their logits, of the same shape.
        """
        seen = self._seen(probabilities)
        share = sample_weight / sample_weight.sum()
        center = np.einsum("n,nkf->kf", share, seen)
        scale = np.sqrt(np.einsum("n,nkf->kf", share, np.square(seen - center)))
        scale = np.where(scale > 1e-9, scale, 1.0)
        seen = (seen - center) / scale
        parameters = np.zeros((seen.shape[1], seen.shape[2] + 1))
        first, second = np.zeros_like(parameters), np.zeros_like(parameters)
        for i in range(1, self.max_iter + 1):
            chance = expit((seen * parameters[:, :-1]).sum(axis=2) + parameters[:, -1])
            steep = share[:, None] * slope(chance)
            gradient = np.concatenate(
                [np.einsum("nk,nkf->kf", steep, seen), steep.sum(axis=0)[:, None]], axis=1
            )
            first = FIRST * first + (1 - FIRST) * gradient
            second = SECOND * second + (1 - SECOND) * np.square(gradient)
            rate = RATE * 0.5 * (1 + np.cos(np.pi * (i - 1) / self.max_iter))
            step = first / (1 - FIRST**i) / (np.sqrt(second / (1 - SECOND**i)) + 1e-8)
            parameters += rate * step
        self.coef_ = parameters[:, :-1] / scale
        self.intercept_ = parameters[:, -1] - (self.coef_ * center).sum(axis=1)
        logits = [
            self._logits(np.ascontiguousarray(probabilities[:, i]), i)
            for i in range(len(self.coef_))
        ]
        self.knots_ = np.quantile(logits, SHARES, axis=1).T

    def _seen(self, probabilities: np.ndarray) -> np.ndarray:
        """Features of the answers of every exit but the last, (n_samples, n_exits - 1, ...)."""
        n_choices = probabilities.shape[1] - 1
        columns = (np.ascontiguousarray(probabilities[:, i]) for i in range(n_choices))
        return np.stack([answer_features(column, self.features) for column in columns], axis=1)

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, Any]:
        """Score one exit, the last one by 1; see `Policy.step`."""
        if exit_ == len(self.coef_):
            return np.ones(len(probabilities)), None
        logits = self._logits(probabilities, exit_)
        return np.interp(logits, self.knots_[exit_], SHARES), None

    def macs(self, n_classes: int, exit_: int = 0) -> float:
        """Those of the features, of their weighted sum and of a search; see `Policy.macs`."""
        return n_operations(n_classes, self.features) + self.coef_.shape[1] + 1 + np.log2(N_KNOTS)

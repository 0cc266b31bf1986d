"""Base class of policies that learn the probability of exiting by gradient ascent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit

from skearlyexit._onnx._graph import Graph
from skearlyexit.policies._base import Policy, State
from skearlyexit.policies._features import add_features, answer_features, n_operations

#: Parameters of Adam: largest learning rate, and decay rates of the two moments.
RATE, FIRST, SECOND = 0.1, 0.9, 0.999
#: Number and levels of the quantiles of the logits that are stored.
N_KNOTS = 257
SHARES = np.linspace(0, 1, N_KNOTS)
#: Relative error of a logit by rounding. Where many answers are equal, so are many knots: a logit
#: that is below them by rounding must not have a much smaller score.
ROUNDING = 1e-6


class LogisticPolicy(Policy):
    """Base class of policies that learn the probability of exiting by gradient ascent.

    The probability of exiting is a logistic function of features of the predicted probabilities.
    The score is the share of the samples of `fit` with a smaller probability of exiting. The
    probability itself is not the score: its slope differs from fit to fit, so thresholds that are
    chosen for the policy of one fold would not be right for that of another.

    Attributes
    ----------
    coef_ : ndarray of shape (n_exits - 1, n_features)
        Coefficients of the features at each exit but the last.
    intercept_ : ndarray of shape (n_exits - 1,)
        Intercept at each exit but the last.
    knots_ : ndarray of shape (n_exits - 1, n_knots)
        Equally spaced quantiles, from 0 to 1, of the logit of the probability of exiting, less its
        rounding error.
    """

    is_learned: ClassVar[bool] = True

    features: str
    max_iter: int
    coef_: np.ndarray
    intercept_: np.ndarray
    knots_: np.ndarray

    def chance(self, probabilities: np.ndarray, exit_: int) -> np.ndarray:
        """Compute the probability of exiting at an exit.

        Parameters
        ----------
        probabilities : ndarray of shape (n_samples, n_classes)
            Predicted probabilities at the exit.
        exit_ : int
            Index of the exit.

        Returns
        -------
        chance : ndarray of shape (n_samples,)
            Probability that a sample that reaches the exit exits there; 1 at the last exit.
        """
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
        """Fit the coefficients of all exits together with Adam.

        Parameters
        ----------
        probabilities : ndarray of shape (n_samples, n_exits, n_classes)
            Predicted probabilities at all exits.
        sample_weight : ndarray of shape (n_samples,)
            Sample weights.
        slope : callable
            Maps the probabilities of exiting, of shape (n_samples, n_exits - 1), to the derivatives
            of the objective with respect to their logits, of the same shape.
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
        knots = np.quantile(logits, SHARES, axis=1).T
        self.knots_ = knots - ROUNDING * np.maximum(1.0, np.abs(knots))

    def _seen(self, probabilities: np.ndarray) -> np.ndarray:
        """Features at all exits but the last, shape (n_samples, n_exits - 1, n_features)."""
        n_choices = probabilities.shape[1] - 1
        columns = (np.ascontiguousarray(probabilities[:, i]) for i in range(n_choices))
        return np.stack([answer_features(column, self.features) for column in columns], axis=1)

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, Any]:
        if exit_ == len(self.coef_):
            return np.ones(len(probabilities)), None
        logits = self._logits(probabilities, exit_)
        return np.interp(logits, self.knots_[exit_], SHARES), None

    def onnx(
        self,
        graph: Graph,
        state: str | None,
        probabilities: str,
        exit_: int,
        gates: str | None = None,
    ) -> tuple[str, str | None]:
        axis = graph.constant([1])
        features = add_features(graph, probabilities, self.features)
        terms = graph.op("Mul", features, graph.constant(self.coef_[exit_]))
        total = graph.op("ReduceSum", terms, axis, keepdims=0)
        logits = graph.op("Add", total, graph.constant(self.intercept_[exit_]))
        # Interpolation from the last knot that is not above the logit, or from the first one.
        knots = self.knots_[exit_]
        width = np.append(np.diff(knots), 0.0)
        slopes = np.divide(1 / (N_KNOTS - 1), width, out=np.zeros(N_KNOTS), where=width > 0)
        logits = graph.op("Max", logits, graph.constant(knots[0]))
        passed = graph.op(
            "GreaterOrEqual", graph.op("Unsqueeze", logits, axis), graph.constant(knots)
        )
        n_passed = graph.op("ReduceSum", graph.cast(passed, np.int64), axis, keepdims=0)
        last = graph.op("Sub", n_passed, graph.constant(1))
        knot, slope, share = (
            graph.op("Gather", graph.constant(each), last) for each in (knots, slopes, SHARES)
        )
        beyond = graph.op("Mul", graph.op("Sub", logits, knot), slope)
        return graph.op("Add", share, beyond), None

    def macs(self, n_classes: int, exit_: int = 0) -> float:
        # Features, their weighted sum, and binary search among the knots.
        return n_operations(n_classes, self.features) + self.coef_.shape[1] + 1 + np.log2(N_KNOTS)

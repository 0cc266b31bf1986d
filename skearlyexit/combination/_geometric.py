"""Weighted products of all heads so far, the weights learned."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from scipy.optimize import minimize
from sklearn.utils._param_validation import Interval

from skearlyexit.combination._base import LEAST, Combination, State, softmax


class GeometricCombination(Combination):
    """Weighted geometric mean of all heads so far, with a factor for each class.

    At every exit the logarithms of the heads' probabilities are added with weights of their own, at
    least 0, and a number for each class; the weights are those under which held-out rows are most
    likely. With one head this is a temperature.

    Parameters
    ----------
    alpha : float, default=1.0
        Penalty on the squared numbers of the classes, against the log loss summed over the rows.

    Attributes
    ----------
    weights_ : list of ndarray
        At exit i the weights of heads 0 to i.
    intercepts_ : ndarray of shape (n_exits, n_classes)

    References
    ----------
    Wolczyk et al., "Zero time waste: recycling predictions in early exit neural networks",
    NeurIPS 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit import GeometricCombination
    >>> y = np.tile([0, 1], 10)
    >>> first = np.where(y[:, None] == [0, 1], 0.6, 0.4)  # confident by 60 %
    >>> first[:2] = first[:2, ::-1]  # and right in 9 of 10
    >>> outputs = np.stack([first, np.full((20, 2), 0.5)], axis=1)  # the second is uninformative
    >>> rule = GeometricCombination().fit(
    ...     outputs, y, costs=np.array([0.5, 1.0]), sample_weight=np.ones(20))
    >>> rule.answers(outputs)[2].round(2)
    array([[0.9, 0.1],
           [0.9, 0.1]])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "alpha": [Interval(Real, 0, None, closed="left")]
    }
    needs_probabilities: ClassVar[bool] = True
    is_learned: ClassVar[bool] = True

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def fit(
        self, outputs: np.ndarray, y: np.ndarray, *, costs: np.ndarray, sample_weight: np.ndarray
    ) -> Self:
        """Find the weights; see `Combination.fit`."""
        _, n_exits, n_classes = outputs.shape
        logs = np.log(np.maximum(outputs, LEAST))
        share = sample_weight / sample_weight.sum()
        penalty = self.alpha / len(y)
        self.weights_ = []
        self.intercepts_ = np.zeros((n_exits, n_classes))
        for exit_ in range(n_exits):
            seen = logs[:, : exit_ + 1]

            def loss(parameters: np.ndarray, seen: np.ndarray = seen) -> tuple[float, np.ndarray]:
                weights, intercepts = np.split(parameters, [seen.shape[1]])
                answer = softmax(_sum(seen, weights) + intercepts)
                value = -float(share @ np.log(np.maximum(answer[np.arange(len(y)), y], 1e-300)))
                error = share[:, None] * answer
                error[np.arange(len(y)), y] -= share
                gradient = [
                    np.einsum("nkc,nc->k", seen, error),
                    error.sum(axis=0) + penalty * intercepts,
                ]
                return value + penalty / 2 * float(intercepts @ intercepts), np.concatenate(
                    gradient
                )

            start = np.zeros(exit_ + 1 + n_classes)
            start[exit_] = 1.0
            bounds = [(0.0, None)] * (exit_ + 1) + [(None, None)] * n_classes
            found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
            self.weights_.append(found[: exit_ + 1])
            self.intercepts_[exit_] = found[exit_ + 1 :]
        return self

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        """Answer at one exit; the state holds the logarithms so far, zeros for absent exits."""
        n_rows, n_classes = probabilities.shape
        logs = np.zeros((n_rows, exit_ + 1, n_classes))
        if state is not None:
            logs[:, : state.shape[1]] = state
        logs[:, exit_] = np.log(np.maximum(probabilities, LEAST))
        return softmax(_sum(logs, self.weights_[exit_]) + self.intercepts_[exit_]), logs

    def macs(self, n_classes: int, exit_: int = 0) -> float:
        """One for each class and head so far."""
        return float(n_classes * (exit_ + 1))


def _sum(logs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted sum over the heads, in order, so that rows do not depend on one another."""
    total = np.zeros((len(logs), logs.shape[2]))
    for i, weight in enumerate(weights):
        total += weight * logs[:, i]
    return total

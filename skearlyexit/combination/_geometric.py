"""Weighted geometric mean of the heads up to an exit, with fitted weights."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from scipy.optimize import minimize
from sklearn.utils._param_validation import Interval

from skearlyexit._onnx._graph import Graph
from skearlyexit.combination._base import LEAST, Combination, State, add_logs, softmax


class GeometricCombination(Combination):
    """Weighted product of the probabilities predicted by the heads, with fitted weights.

    At each exit, the logit of a class is the weighted sum of the logarithms of its probabilities
    predicted by the heads up to this exit, plus an intercept of the class. The weights, which are
    not negative, and the intercepts minimize the log loss on held-out samples. With one head,
    this is temperature scaling with intercepts.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength of the L2 regularization of the intercepts: ``alpha / 2`` times the sum of their
        squares is added to the log loss, which is summed over the samples.

    Attributes
    ----------
    weights_ : list of ndarray
        Weights at each exit: an array of shape (i + 1,) at exit i, for heads 0 to i.
    intercepts_ : ndarray of shape (n_exits, n_classes)
        Intercept of each class at each exit.

    References
    ----------
    Wolczyk et al., "Zero time waste: recycling predictions in early exit neural networks",
    NeurIPS 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit import GeometricCombination
    >>> y = np.tile([0, 1], 10)
    >>> first = np.where(y[:, None] == [0, 1], 0.6, 0.4)  # predicts with a confidence of 0.6
    >>> first[:2] = first[:2, ::-1]  # and an accuracy of 0.9
    >>> outputs = np.stack([first, np.full((20, 2), 0.5)], axis=1)  # second head: not informative
    >>> combination = GeometricCombination().fit(
    ...     outputs, y, costs=np.array([0.5, 1.0]), sample_weight=np.ones(20))
    >>> combination.answers(outputs)[2].round(2)
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
        # The state consists of the logarithms of all heads so far, 0 for heads without a step.
        n_rows, n_classes = probabilities.shape
        logs = np.zeros((n_rows, exit_ + 1, n_classes))
        if state is not None:
            logs[:, : state.shape[1]] = state
        logs[:, exit_] = np.log(np.maximum(probabilities, LEAST))
        return softmax(_sum(logs, self.weights_[exit_]) + self.intercepts_[exit_]), logs

    def onnx(
        self,
        graph: Graph,
        state: str | None,
        probabilities: str,
        exit_: int,
        gates: str | None = None,
    ) -> tuple[str, str | None]:
        heads = graph.constant([1])
        logs = graph.op("Unsqueeze", add_logs(graph, probabilities), heads)
        if state is not None:
            logs = graph.op("Concat", state, logs, axis=1)
        weighted = graph.op("Mul", logs, graph.constant(self.weights_[exit_][:, None]))
        total = graph.op("ReduceSum", weighted, heads, keepdims=0)
        logits = graph.op("Add", total, graph.constant(self.intercepts_[exit_]))
        return graph.op("Softmax", logits, axis=1), logs

    def macs(self, n_classes: int, exit_: int = 0) -> float:
        return float(n_classes * (exit_ + 1))


def _sum(logs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted sum over the heads, in a fixed order: bitwise the same for any other samples."""
    total = np.zeros((len(logs), logs.shape[2]))
    for i, weight in enumerate(weights):
        total += weight * logs[:, i]
    return total

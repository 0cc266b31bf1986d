"""Learned estimate of how much a prediction will still change as the score."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import expit
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods

from skearlyexit._data._targets import Targets
from skearlyexit._determinism._regressor import BatchInvariantRegressor
from skearlyexit._onnx._graph import Graph
from skearlyexit.costs import estimator_macs
from skearlyexit.policies._base import State
from skearlyexit.policies._regression import RegressionPolicy

#: Smaller differences count as this one, in standard deviations of the target.
LEAST = 0.01


class LearnedErrorPolicy(RegressionPolicy):
    """Policy whose score is high if the prediction is expected to change little by going on.

    It is for regression. For each exit but the last, a regressor is fitted to held-out samples. It
    learns, from the values predicted at this exit and before and from their changes, the logarithm
    of the absolute difference from the value predicted at the last exit. The score is
    ``1 / (1 + difference)``, with the estimated difference in standard deviations of the target, or
    the largest of those of several targets. The thresholds are chosen on other samples.

    The difference is what can still be lost by exiting. It is estimated from less noisy data than
    the difference of the errors, which contain the noise of the targets.

    Parameters
    ----------
    estimator : scikit-learn regressor or pipeline, default=None
        Regressor that is cloned for each exit. None is a decision tree.

    Attributes
    ----------
    exits_ : list of BatchInvariantRegressor
        Regressor of each exit but the last. Its attribute `model` is the fitted estimator.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skearlyexit import EarlyExitRegressor, LearnedErrorPolicy, MLPBackbone
    >>> X, y = load_diabetes(return_X_y=True)
    >>> reg = EarlyExitRegressor(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"], policy=LearnedErrorPolicy(),
    ...     budget=0.9, calibration=0.3, max_epochs=2, random_state=0).fit(X, y)
    >>> [type(fitted.model).__name__ for fitted in reg.cascade_.exit_rule.policy.exits_]
    ['DecisionTreeRegressor']
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "estimator": [HasMethods(["fit", "predict"]), None]
    }
    is_learned: ClassVar[bool] = True
    has_memory: ClassVar[bool] = True

    def __init__(self, estimator: Any = None) -> None:
        self.estimator = estimator

    def fit(
        self,
        probabilities: np.ndarray,
        y: np.ndarray,
        *,
        costs: np.ndarray,
        sample_weight: np.ndarray,
        seed: int,
    ) -> Self:
        rng = check_random_state(seed)
        estimator = self.estimator
        if estimator is None:
            n_leaf = max(5, len(y) // 50)
            estimator = DecisionTreeRegressor(max_leaf_nodes=32, min_samples_leaf=n_leaf)
        weight = None if np.all(sample_weight == sample_weight[0]) else sample_weight
        left = np.abs(probabilities - probabilities[:, -1:]).max(axis=2)
        left = np.log(np.maximum(left, LEAST))
        self.exits_ = []
        state: State = None
        for exit_ in range(probabilities.shape[1] - 1):
            state = _seen(state, probabilities[:, exit_])
            fitted = BatchInvariantRegressor.fit(
                estimator,
                _features(state, probabilities.shape[2]),
                left[:, exit_, None],
                weight,
                targets=Targets.unscaled(),
                seed=int(rng.randint(np.iinfo(np.int32).max)),
            )
            self.exits_.append(fitted)
        return self

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        seen = _seen(state, probabilities)
        if exit_ == len(self.exits_):
            return np.ones(len(probabilities)), seen  # there is nothing to decide at the last exit
        left = self.exits_[exit_].outputs(_features(seen, probabilities.shape[1]))[:, 0]
        return expit(-left), seen  # 1 / (1 + difference), given its logarithm

    def onnx(
        self,
        graph: Graph,
        state: str | None,
        probabilities: str,
        exit_: int,
        gates: str | None = None,
    ) -> tuple[str, str | None]:
        regressor = self.exits_[exit_]
        seen = features = probabilities
        if state is not None:
            seen = graph.op("Concat", state, probabilities, axis=1)
            features = graph.op("Concat", seen, _add_changes(graph, seen, probabilities), axis=1)
        # Features are standardized values, and their changes.
        example = np.random.default_rng(0).normal(size=(10, regressor.model.n_features_in_))
        what = f"{type(regressor.model).__name__} of {type(self).__name__}"
        left = regressor.onnx(graph, features, example, what)
        score = graph.op("Sigmoid", graph.op("Neg", left))
        return graph.op("Squeeze", score, graph.constant([1])), seen

    def macs(self, n_classes: int, exit_: int = 0) -> float:
        return float(n_classes * (2 * exit_ + 1)) + estimator_macs(self.model(exit_))

    def model(self, exit_: int) -> Any:
        return self.exits_[exit_].model


def _seen(state: State, values: np.ndarray) -> np.ndarray:
    """Values predicted up to an exit, shape (n_samples, n_seen * n_targets)."""
    return np.ascontiguousarray(values) if state is None else np.hstack([state, values])


def _features(seen: np.ndarray, n_targets: int) -> np.ndarray:
    """Values predicted up to an exit, and the absolute changes from exit to exit."""
    return np.hstack([seen, np.abs(seen[:, n_targets:] - seen[:, :-n_targets])])


def _add_changes(graph: Graph, seen: str, values: str) -> str:
    """Add the absolute changes from exit to exit to a graph in the ONNX format."""
    axis, n_targets = graph.constant([1]), graph.op("Shape", values, start=1)
    everything = graph.constant([np.iinfo(np.int64).max])
    later = graph.op("Slice", seen, n_targets, everything, axis)
    earlier = graph.op("Slice", seen, graph.constant([0]), graph.op("Neg", n_targets), axis)
    return graph.op("Abs", graph.op("Sub", later, earlier))

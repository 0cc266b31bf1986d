"""Base class of policies with a scikit-learn classifier at each exit."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import HasMethods, StrOptions

from skearlyexit._determinism._classifier import BatchInvariantClassifier
from skearlyexit._onnx._graph import Graph
from skearlyexit.costs import estimator_macs
from skearlyexit.policies._base import Policy, State
from skearlyexit.policies._features import FEATURES, add_features, answer_features, n_operations

_ADVICE = "Give the policy an estimator with predict_proba."


class EstimatorPolicy(Policy):
    """Base class of policies whose score is predicted by a binary classifier at each exit.

    The score is the predicted probability of the positive class. At an exit without a classifier,
    as the last one may be, it is 1.

    Parameters
    ----------
    estimator : scikit-learn classifier or pipeline, default=None
        Classifier that is cloned for each exit. None is logistic regression on standardized
        features.
    features : {"summary", "probabilities"}, default="summary"
        Features of the predicted probabilities; see `answer_features`.

    Attributes
    ----------
    exits_ : list of BatchInvariantClassifier
        Fitted classifier of each exit.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "features": [StrOptions(FEATURES)],
    }
    is_learned: ClassVar[bool] = True

    estimator: Any
    features: str
    exits_: list[BatchInvariantClassifier]

    def _fit_exit(
        self, features: np.ndarray, positive: np.ndarray, weight: np.ndarray, seed: int
    ) -> BatchInvariantClassifier:
        estimator = self.estimator
        if estimator is None:
            estimator = make_pipeline(StandardScaler(), LogisticRegression())
        return BatchInvariantClassifier.fit(
            estimator,
            features,
            positive.astype(np.intp),
            None if np.all(weight == weight[0]) else weight,
            classes=np.arange(2),
            needs_probabilities=True,
            seed=seed,
            advice=_ADVICE,
        )

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        if exit_ == len(self.exits_):
            return np.ones(len(probabilities)), None  # there is nothing to decide at the last exit
        features = answer_features(probabilities, self.features)
        return self.exits_[exit_].predict_proba(features)[:, 1], None

    def onnx(
        self,
        graph: Graph,
        state: str | None,
        probabilities: str,
        exit_: int,
        gates: str | None = None,
    ) -> tuple[str, str | None]:
        classifier = self.exits_[exit_]
        # Features are between 0 and 1.
        example = np.random.default_rng(0).random((10, classifier.model.n_features_in_))
        what = f"{type(classifier.model).__name__} of {type(self).__name__}"
        features = add_features(graph, probabilities, self.features)
        chances = classifier.onnx(graph, features, example, what)
        return graph.op("Gather", chances, graph.constant(1), axis=1), None

    def macs(self, n_classes: int, exit_: int = 0) -> float:
        return n_operations(n_classes, self.features) + estimator_macs(self.model(exit_))

    def model(self, exit_: int) -> Any:
        return self.exits_[exit_].model

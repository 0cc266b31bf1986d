"""Predicted probability that the prediction is correct as the score."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.utils import check_random_state

from skearlyexit.policies._estimator import EstimatorPolicy
from skearlyexit.policies._features import answer_features


class LearnedConfidencePolicy(EstimatorPolicy):
    """Policy whose score is the estimated probability that the prediction is correct.

    For each exit, a binary classifier is fitted to held-out samples. It learns from features of
    the predicted probabilities whether the predicted class is correct. The thresholds are chosen on
    other samples.

    Parameters
    ----------
    estimator : scikit-learn classifier or pipeline, default=None
        Classifier that is cloned for each exit. None is logistic regression on standardized
        features.
    features : {"summary", "probabilities"}, default="summary"
        Features of the predicted probabilities:

        - ``"summary"``: largest probability, its difference from the second largest, entropy, and
          entropy of the squared and normalized probabilities. Both entropies are divided by the
          logarithm of the number of classes.
        - ``"probabilities"``: all probabilities in descending order.

    Attributes
    ----------
    exits_ : list of BatchInvariantClassifier
        Classifier of each exit. Its attribute `model` is the fitted estimator.

    References
    ----------
    Wang et al., "IDK cascades: fast deep learning by learning not to overthink", UAI 2018.

    Chataoui, Szatkowski et al., "Jointly-learned exit and inference for a dynamic neural network:
    JEI-DNN", ICLR 2024.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skearlyexit import EarlyExitClassifier, LearnedConfidencePolicy, MLPBackbone
    >>> X, y = make_classification(300, random_state=0)
    >>> policy = LearnedConfidencePolicy(DecisionTreeClassifier(min_samples_leaf=20))
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"], policy=policy,
    ...     budget=0.9, calibration=0.3, max_epochs=2, random_state=0).fit(X, y)
    >>> [type(fitted.model).__name__ for fitted in clf.cascade_.exit_rule.policy.exits_]
    ['DecisionTreeClassifier', 'DecisionTreeClassifier']
    """

    def __init__(self, estimator: Any = None, *, features: str = "summary") -> None:
        self.estimator = estimator
        self.features = features

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
        self.exits_ = []
        for exit_ in range(probabilities.shape[1]):
            answer = np.ascontiguousarray(probabilities[:, exit_])
            self.exits_.append(
                self._fit_exit(
                    answer_features(answer, self.features),
                    answer.argmax(axis=1) == y,
                    sample_weight,
                    int(rng.randint(np.iinfo(np.int32).max)),
                )
            )
        return self

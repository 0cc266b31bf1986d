"""Estimated probability that exiting is better than continuing as the score."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval

from skearlyexit.policies._estimator import EstimatorPolicy
from skearlyexit.policies._features import answer_features


class CostSensitivePolicy(EstimatorPolicy):
    """Policy whose score is the estimated probability that exiting is better than continuing.

    The loss of a sample that exits is 1 if the prediction is wrong, plus `cost_weight` times the
    cumulative cost of the exit. For each exit but the last, beginning with the last of these, a
    binary classifier is fitted to held-out samples. It learns whether the loss of exiting is at
    most that of continuing and following the classifiers of the later exits. The sample weights are
    multiplied by the absolute difference between the two losses. At the last exit, the score is 1.

    Parameters
    ----------
    estimator : scikit-learn classifier or pipeline, default=None
        Classifier that is cloned for each exit. None is logistic regression on standardized
        features.
    cost_weight : float, default=0.05
        Loss for the cost of the plain network, where the loss of a misclassified sample is 1. With
        0.05, this cost is worthwhile if it corrects at least one prediction in twenty.
    features : {"summary", "probabilities"}, default="summary"
        Features of the predicted probabilities, as in `LearnedConfidencePolicy`.

    Attributes
    ----------
    exits_ : list of BatchInvariantClassifier
        Classifier of each exit but the last. Its attribute `model` is the fitted estimator.

    Notes
    -----
    With ``threshold=0.5``, samples exit as predicted by the classifiers. A budget or another
    operating point chooses other thresholds.

    References
    ----------
    Bolukbasi, Wang, Dekel, Saligrama, "Adaptive neural networks for efficient inference", ICML
    2017.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import CostSensitivePolicy, EarlyExitClassifier, MLPBackbone
    >>> X, y = make_classification(300, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"],
    ...     policy=CostSensitivePolicy(cost_weight=0.1), threshold=0.5, calibration=0.3,
    ...     max_epochs=2, random_state=0)
    >>> clf.fit(X, y).exit_table(X).scores.shape
    (300, 2)
    >>> clf.cost_table_.decision_costs
    array([21.,  0.])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **EstimatorPolicy._parameter_constraints,
        "cost_weight": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self, estimator: Any = None, *, cost_weight: float = 0.05, features: str = "summary"
    ) -> None:
        self.estimator = estimator
        self.cost_weight = cost_weight
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
        wrong = probabilities.argmax(axis=2) != y[:, None]
        paid = wrong + self.cost_weight * costs
        n_choices = probabilities.shape[1] - 1
        fitted = []
        going_on = paid[:, -1]
        for exit_ in range(n_choices - 1, -1, -1):
            features = answer_features(np.ascontiguousarray(probabilities[:, exit_]), self.features)
            gain = going_on - paid[:, exit_]
            weight = sample_weight * np.abs(gain)
            counts = weight > 0
            if not counts.any():
                # Both losses are equal for all samples: exit.
                counts, weight = np.ones(len(y), dtype=bool), sample_weight
            classifier = self._fit_exit(
                features[counts],
                (gain >= 0)[counts],
                weight[counts] / weight[counts].mean(),
                int(rng.randint(np.iinfo(np.int32).max)),
            )
            fitted.append(classifier)
            leaves = classifier.predict_proba(features)[:, 1] >= 0.5
            going_on = np.where(leaves, paid[:, exit_], going_on)
        self.exits_ = fitted[::-1]
        return self

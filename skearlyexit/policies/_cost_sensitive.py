"""Leave where that was better than to go on."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval

from skearlyexit.policies._estimator import EstimatorPolicy
from skearlyexit.policies._features import answer_features


class CostSensitivePolicy(EstimatorPolicy):
    """Probability that leaving is better than going on, errors and cost weighed against each other.

    A row that leaves pays 1 if its answer is wrong, and `cost_weight` times the cost until there.
    From the last exit but one back, a classifier learns on held-out rows to tell those for which
    leaving is cheaper than going on and following the classifiers behind; a row counts by how much
    the two differ.

    Parameters
    ----------
    estimator : scikit-learn classifier or pipeline, default=None
        Cloned for every exit. None is logistic regression on standardized features.
    cost_weight : float, default=0.05
        Price of the plain network, in errors: 0.05 spends it to right one row in twenty.
    features : {"summary", "probabilities"}, default="summary"
        What it sees of an answer, as in `LearnedConfidencePolicy`.

    Attributes
    ----------
    exits_ : list of BatchInvariantClassifier
        One for each exit but the last.

    Notes
    -----
    A threshold of 0.5 follows the classifiers; a budget or another request chooses its own.

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
        """Learn from the last exit back; see `Policy.fit`."""
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
                # Nothing is at stake: exit, which is no worse and no more expensive.
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

    def step(self, state: Any, probabilities: np.ndarray, exit_: int = 0) -> tuple[np.ndarray, Any]:
        """Score one exit, the last one by 1; see `Policy.step`."""
        if exit_ == len(self.exits_):
            return np.ones(len(probabilities)), None
        return super().step(state, probabilities, exit_)

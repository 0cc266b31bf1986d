"""Policy learned by reinforcement, with rewards for correct predictions minus their cost."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit.policies._features import FEATURES
from skearlyexit.policies._logistic import LogisticPolicy


class ReinforcedPolicy(LogisticPolicy):
    """Policy whose probability of exiting is learned by reinforcement on held-out samples.

    At each exit, the probability of exiting is a logistic function of features of the predicted
    probabilities. In every iteration, several trials are drawn for each sample: it exits at random
    with these probabilities. The reward of a trial is 1 if the prediction is correct and 0
    otherwise, minus `cost_weight` times its cost. The expected reward is maximized by REINFORCE,
    with the mean reward of the other trials of the sample as a baseline.

    The score of a sample is the share of the held-out samples with a lower probability of exiting.

    Parameters
    ----------
    cost_weight : float, default=0.05
        Weight of the cost in the reward. A cost of 1 is that of the plain network.
    features : {"summary", "probabilities"}, default="summary"
        Features of the predicted probabilities:

        - ``"summary"``: largest probability, difference of the two largest, normalized entropy, and
          normalized entropy of the squared probabilities.
        - ``"probabilities"``: all probabilities in descending order.
    n_trials : int, default=4
        Number of trials of each sample in an iteration, at least 2.
    max_iter : int, default=300
        Number of iterations.

    Attributes
    ----------
    coef_ : ndarray of shape (n_exits - 1, n_features)
        Coefficients of the features at each exit but the last.
    intercept_ : ndarray of shape (n_exits - 1,)
        Intercept at each exit but the last.
    knots_ : ndarray of shape (n_exits - 1, n_knots)
        Quantiles of the logits of the held-out samples at each exit but the last, from which the
        scores are interpolated.

    See Also
    --------
    ScheduledPolicy : Maximizes an expectation that is computed instead of sampled.
    CostSensitivePolicy : Learns from errors and costs by classifiers, without trials.
    ReinforcedTraining : Learns gates by reinforcement together with the network.

    References
    ----------
    Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement
    learning", Machine Learning 1992.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.experimental import ReinforcedPolicy
    >>> X, y = make_classification(300, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"],
    ...     policy=ReinforcedPolicy(max_iter=20), budget=0.8, calibration=0.3, max_epochs=2,
    ...     random_state=0).fit(X, y)
    >>> clf.cascade_.exit_rule.policy.coef_.shape
    (1, 4)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "cost_weight": [Interval(Real, 0, None, closed="left")],
        "features": [StrOptions(FEATURES)],
        "n_trials": [Interval(Integral, 2, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        cost_weight: float = 0.05,
        *,
        features: str = "summary",
        n_trials: int = 4,
        max_iter: int = 300,
    ) -> None:
        self.cost_weight = cost_weight
        self.features = features
        self.n_trials = n_trials
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
        rng = check_random_state(seed)
        reward = (probabilities.argmax(axis=2) == y[:, None]) - self.cost_weight * costs
        numbers = np.arange(probabilities.shape[1] - 1)
        last = np.ones((self.n_trials, len(y), 1), dtype=bool)

        def slope(probability: np.ndarray) -> np.ndarray:
            drawn = rng.random_sample((self.n_trials, *probability.shape)) < probability
            exits = np.concatenate([drawn, last], axis=2).argmax(axis=2)
            gained = reward[np.arange(len(y)), exits]
            # The baseline is the mean of the other trials of the sample.
            advantage = (gained - gained.mean(axis=0)) * self.n_trials / (self.n_trials - 1)
            # Gradient of the log-probability of the actions taken, by the logits.
            taken = numbers <= exits[:, :, None]
            return np.mean(
                np.where(taken, drawn - probability, 0.0) * advantage[:, :, None], axis=0
            )

        self._ascend(probabilities, sample_weight, slope)
        return self

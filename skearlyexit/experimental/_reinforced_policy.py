"""Leave by an action that is rewarded for right answers and pays for their cost."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit.policies._features import FEATURES
from skearlyexit.policies._logistic import LogisticPolicy


class ReinforcedPolicy(LogisticPolicy):
    """Chance of the action "leave", learned by trial on held-out rows.

    At each exit the chance to leave is a logistic function of how sure the answer is; the score is
    the share of the rows learned from whose chance is smaller. In every step
    each row is taken through the exits several times, leaving at random by these chances; a trial
    is rewarded by 1 for a right answer less `cost_weight` times what it cost, and actions become
    more likely as their trial did better than the row's other trials (REINFORCE with a baseline).

    Parameters
    ----------
    cost_weight : float, default=0.05
        Price of the plain network, in errors.
    features : {"summary", "probabilities"}, default="summary"
        What it sees of an answer; see `skearlyexit.policies.answer_features`.
    n_trials : int, default=4
        Trials of each row in a step, at least 2.
    max_iter : int, default=300
        Steps.

    Attributes
    ----------
    coef_ : ndarray of shape (n_exits - 1, n_features)
    intercept_ : ndarray of shape (n_exits - 1,)
    knots_ : ndarray of shape (n_exits - 1, n_knots)
        Logits of the chance at equal shares of the rows.

    Notes
    -----
    `ScheduledPolicy` climbs the expectation that is only sampled here, and `CostSensitivePolicy`
    needs neither trials nor gradients. This is the form in which exits have been trained together
    with a network.

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
        """Learn by trial; see `Policy.fit`."""
        rng = check_random_state(seed)
        reward = (probabilities.argmax(axis=2) == y[:, None]) - self.cost_weight * costs
        numbers = np.arange(probabilities.shape[1] - 1)
        last = np.ones((self.n_trials, len(y), 1), dtype=bool)

        def slope(chance: np.ndarray) -> np.ndarray:
            drawn = rng.random_sample((self.n_trials, *chance.shape)) < chance
            exits = np.concatenate([drawn, last], axis=2).argmax(axis=2)
            gained = reward[np.arange(len(y)), exits]
            # Against the mean of the row's other trials.
            advantage = (gained - gained.mean(axis=0)) * self.n_trials / (self.n_trials - 1)
            # The score function of the actions that were taken, by their logits.
            taken = numbers <= exits[:, :, None]
            return np.mean(np.where(taken, drawn - chance, 0.0) * advantage[:, :, None], axis=0)

        self._ascend(probabilities, sample_weight, slope)
        return self

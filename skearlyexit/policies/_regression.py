"""Base class of policies for regression."""

from __future__ import annotations

from typing import ClassVar

from skearlyexit.policies._base import Policy


class RegressionPolicy(Policy):
    """Base class of policies for regression.

    `step` gets predicted values in place of probabilities, of shape (n_samples, n_targets), in
    standard deviations of the targets from their means.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.policies import RegressionPolicy
    >>> class NearMean(RegressionPolicy):  # usual values are more reliable than unusual ones
    ...     def step(self, state, values, exit_=0):
    ...         return 1 / (1 + np.abs(values).max(axis=1)), None
    >>> NearMean().score(np.array([[[0.0], [3.0]]]))  # 1 sample, 2 exits, 1 target
    array([[1.  , 0.25]])
    """

    needs_probabilities: ClassVar[bool] = False

    def obstacle_to_classification(self) -> str:
        return "it computes scores from predicted values of targets"

    def obstacle_to_regression(self) -> str:
        return ""

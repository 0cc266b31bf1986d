"""Operating point: a maximum loss of accuracy on the calibration samples."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit.calibration._base import OperatingPoint, no_early_exits
from skearlyexit.calibration._calibration_data import CalibrationData
from skearlyexit.calibration._compute_frontier import frontier_by
from skearlyexit.calibration._feedback import feedback_threshold
from skearlyexit.calibration._frontier import Frontier
from skearlyexit.calibration._metric import (
    METRIC_CONSTRAINT,
    cheapest,
    metric_frontier,
    value_at,
)


class AccuracyDrop(OperatingPoint):
    """Maximum loss of accuracy compared with the last exit, on the calibration samples.

    Among the thresholds that satisfy the criterion, those with the lowest mean cost are chosen.
    Since they are chosen and evaluated on the same samples, the loss on new samples may be larger.
    `RiskControl` guarantees a bound for new samples.

    Parameters
    ----------
    value : float, default=0.0
        Maximum loss of accuracy, in [0, 1]; 0.01 is one percentage point.
    method : {"frontier", "search", "feedback"}, default="frontier"
        How the thresholds are chosen:

        - ``"frontier"``: the cheapest thresholds of the frontier; see `compute_frontier`.
        - ``"search"``: the cheapest of all that a search finds. With few samples, the loss on new
          samples is considerably larger than that on the calibration samples.
        - ``"feedback"``: one threshold for all exits. It is changed in steps proportional to the
          difference between the target and the accuracy under the current threshold. The lowest
          threshold tried that satisfies the criterion is used.
    metric : str or callable, default="accuracy"
        Metric whose loss is limited, in place of the accuracy: the name of a scikit-learn scorer or
        a scorer. It may depend on predicted labels and probabilities, such as ``"roc_auc"``.

    See Also
    --------
    TargetAccuracy : Minimum accuracy, independent of the accuracy of the last exit.
    RiskControl : Bound with a guarantee for new samples.

    References
    ----------
    Baccarelli, Scardapane, Scarpiniti, Momenzadeh, Uncini, "Optimized training and scalable
    implementation of conditional deep neural networks with early exits for fog-supported IoT
    applications", Information Sciences 2020, for ``"feedback"``.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import AccuracyDrop, EarlyExitClassifier, MLPBackbone
    >>> X, y = make_classification(300, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"],
    ...     operating_point=AccuracyDrop(0.02), calibration=0.3, max_epochs=2, random_state=0)
    >>> point = clf.fit(X, y).operating_point_
    >>> point.request, point.n_samples, bool(point.cost < clf.costs_[-1])
    (AccuracyDrop(value=0.02), 90, True)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "value": [Interval(Real, 0, 1, closed="both")],
        "method": [StrOptions({"frontier", "search", "feedback"})],
        "metric": METRIC_CONSTRAINT,
    }

    def __init__(
        self,
        value: float = 0.0,
        *,
        method: str = "frontier",
        metric: str | Callable[..., float] = "accuracy",
    ) -> None:
        self.value = value
        self.method = method
        self.metric = metric

    def obstacle_to_regression(self) -> str:
        return "there is no accuracy; give ErrorRise(0.01)"

    def thresholds(self, data: CalibrationData, frontier: Frontier) -> np.ndarray:
        last_exit = np.full(len(data.scores), data.n_exits - 1)
        target = value_at(data, last_exit, self.metric) - self.value
        if self.method == "feedback":
            return feedback_threshold(data, target, self.metric)
        best = metric_frontier(data, frontier_by(self.method, data, frontier), self.metric)
        found = cheapest(data, best, self.metric, target)
        return no_early_exits(data.n_exits) if found is None else found

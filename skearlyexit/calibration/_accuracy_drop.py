"""The cheapest answers that lose no more than allowed on the calibration rows."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit.calibration._base import OperatingPoint
from skearlyexit.calibration._evidence import CalibrationData
from skearlyexit.calibration._feedback import feedback_threshold
from skearlyexit.calibration._frontier import Frontier
from skearlyexit.calibration._metric import METRIC_CONSTRAINT, metric_frontier, value_at


class AccuracyDrop(OperatingPoint):
    """Largest loss of accuracy against the last exit, as seen on the calibration rows.

    The cheapest of many points is chosen by what it loses on the same rows, so that new rows lose
    more, by about a point on a few hundred rows. `RiskControl` bounds what new rows lose.

    Parameters
    ----------
    value : float, default=0.0
        Allowed drop as a share of the rows: 0.01 is one point of accuracy.
    method : {"search", "feedback"}, default="search"
        ``"search"``: the cheapest point of the frontier. ``"feedback"``: one threshold for all
        exits, moved in proportion to the difference between the accuracy that it gives and the one
        wanted, until it settles.
    metric : str or callable, default="accuracy"
        What is not to drop: the name of a scikit-learn scorer that works on labels, or such a
        scorer.

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
    >>> point.request, point.n_rows, bool(point.cost < clf.costs_[-1])
    (AccuracyDrop(value=0.02), 90, True)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "value": [Interval(Real, 0, 1, closed="both")],
        "method": [StrOptions({"search", "feedback"})],
        "metric": METRIC_CONSTRAINT,
    }

    def __init__(
        self,
        value: float = 0.0,
        *,
        method: str = "search",
        metric: str | Callable[..., float] = "accuracy",
    ) -> None:
        self.value = value
        self.method = method
        self.metric = metric

    def thresholds(self, evidence: CalibrationData, frontier: Frontier) -> np.ndarray:
        """Choose thresholds; see `OperatingPoint.thresholds`."""
        last_exit = np.full(len(evidence.scores), evidence.n_exits - 1)
        target = value_at(evidence, last_exit, self.metric) - self.value
        if self.method == "feedback":
            return feedback_threshold(evidence, target, self.metric)
        best = metric_frontier(evidence, frontier, self.metric)
        return best.thresholds[best.at_accuracy(target)]

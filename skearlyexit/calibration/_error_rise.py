"""Operating point: a maximum rise of the error in regression on the calibration samples."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval

from skearlyexit.calibration._base import OperatingPoint
from skearlyexit.calibration._calibration_data import CalibrationData
from skearlyexit.calibration._frontier import Frontier
from skearlyexit.calibration._metric import METRIC_CONSTRAINT, metric_frontier, value_at


class ErrorRise(OperatingPoint):
    """Maximum rise of the error compared with the last exit, on the calibration samples.

    It is for regression. Among the thresholds that satisfy the criterion, those with the lowest
    mean cost are chosen. Since they are chosen and evaluated on the same samples, the rise on new
    samples is larger on average.

    Parameters
    ----------
    value : float, default=0.01
        Maximum rise of the error. 0.01 is one percent of the error of the last exit if `relative`
        is True.
    relative : bool, default=True
        Whether `value` is a share of the error of the last exit, rather than a difference in the
        unit of the error.
    metric : str or callable, default=None
        Error whose rise is limited: the name of a scikit-learn scorer or a scorer, whose negative
        value is the error, such as ``"neg_mean_absolute_error"``. None is the error that belongs to
        the `loss` of the estimator: the root of the mean squared error, or the mean of the loss if
        it is not the squared error.

    See Also
    --------
    AccuracyDrop : Maximum loss of accuracy in classification.
    Budget : Maximum mean cost.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skearlyexit import EarlyExitRegressor, ErrorRise, MLPBackbone
    >>> X, y = load_diabetes(return_X_y=True)
    >>> reg = EarlyExitRegressor(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"],
    ...     operating_point=ErrorRise(0.05), calibration=0.3, max_epochs=10, random_state=0)
    >>> point = reg.fit(X, y).operating_point_
    >>> point.request, point.n_samples, bool(point.cost < reg.costs_[-1])
    (ErrorRise(value=0.05), 133, True)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "value": [Interval(Real, 0, None, closed="left")],
        "relative": ["boolean"],
        "metric": [*METRIC_CONSTRAINT, None],
    }

    def __init__(
        self,
        value: float = 0.01,
        *,
        relative: bool = True,
        metric: str | Callable[..., float] | None = None,
    ) -> None:
        self.value = value
        self.relative = relative
        self.metric = metric

    def obstacle_to_classification(self) -> str:
        return "there is no error of a value; give AccuracyDrop(0.01)"

    def thresholds(self, data: CalibrationData, frontier: Frontier) -> np.ndarray:
        last_exit = np.full(len(data.scores), data.n_exits - 1)
        if self.metric is None:
            assert data.error_scale is not None
            error = data.error_of(data.outcome(last_exit)[1])
            target = 1.0 - data.error_scale.loss(self._allowed(error))
            return frontier.thresholds[frontier.at_accuracy(target)]
        best = metric_frontier(data, frontier, self.metric)
        error = -value_at(data, last_exit, self.metric)
        return best.thresholds[best.at_accuracy(-self._allowed(error))]

    def _allowed(self, error: float) -> float:
        """Largest error that is allowed, given that of the last exit."""
        if not self.relative:
            return error + self.value
        if error < 0:
            raise ValueError(
                f"{self.description} limits a share of the error, and the metric {self.metric!r} "
                f"is positive at the last exit: {-error:.4g}. Give relative=False, or a metric "
                "whose negative value is an error, such as 'neg_mean_absolute_error'."
            )
        return error * (1.0 + self.value)

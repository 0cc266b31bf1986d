"""Operating point: a maximum rise of the error in regression on the calibration samples."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from scipy.stats import t
from sklearn.utils._param_validation import Interval

from skearlyexit._utils._scoring import is_accuracy
from skearlyexit.calibration._base import OperatingPoint, no_early_exits
from skearlyexit.calibration._calibration_data import CalibrationData
from skearlyexit.calibration._frontier import Frontier
from skearlyexit.calibration._metric import METRIC_CONSTRAINT, metric_frontier, value_at

#: Standard errors by default: those of a one-sided bound at this confidence.
N_STANDARD_ERRORS, CONFIDENCE = 1.645, 0.95


class ErrorRise(OperatingPoint):
    """Maximum rise of the error compared with the last exit, on the calibration samples.

    It is for regression. Among the thresholds of the frontier that satisfy the criterion, those
    with the lowest mean cost are chosen. Since they are chosen and evaluated on the same samples,
    the rise on new samples would be larger on average: a one-sided confidence bound of the rise has
    to be at most the maximum.

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
    standard_errors : float, default=None
        Number of standard errors of the rise that are added to it. None is 1.645, a confidence of
        95 %, or with groups the quantile of Student's distribution for their number, and 0 with a
        `metric`, for which there is no standard error. This is no guarantee: see the Notes.

    See Also
    --------
    AccuracyDrop : Maximum loss of accuracy in classification.
    Budget : Maximum mean cost.

    Notes
    -----
    The standard error is that of the difference of the errors of the same samples, or groups if
    there are any, by the delta method. It does not account for the choice among several thresholds,
    nor for the final model, whose last exit may have gained more from the samples of all folds than
    the exits before it. With ``standard_errors=0``, the rise on new samples is larger than asked
    for more often than not.

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
        "standard_errors": [Interval(Real, 0, None, closed="left"), None],
    }

    def __init__(
        self,
        value: float = 0.01,
        *,
        relative: bool = True,
        metric: str | Callable[..., float] | None = None,
        standard_errors: float | None = None,
    ) -> None:
        self.value = value
        self.relative = relative
        self.metric = metric
        self.standard_errors = standard_errors

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.metric is not None and is_accuracy(self.metric):
            raise ValueError(
                "The 'metric' of ErrorRise must be an error of predicted values, such as "
                f"'neg_mean_absolute_error'. Got {self.metric!r}."
            )
        if self.metric is not None and self.standard_errors:
            raise ValueError(
                "The 'standard_errors' of ErrorRise are those of the loss of the estimator. Got "
                f"{self.standard_errors!r} with metric={self.metric!r}; give only one of them."
            )

    def obstacle_to_classification(self) -> str:
        return "there is no error of a value; give AccuracyDrop(0.01)"

    def thresholds(self, data: CalibrationData, frontier: Frontier) -> np.ndarray:
        last_exit = np.full(len(data.scores), data.n_exits - 1)
        if self.metric is None:
            n_errors = self.standard_errors
            if n_errors is None:
                n_errors = N_STANDARD_ERRORS
                if data.group_of is not None:
                    n_errors = float(t.ppf(CONFIDENCE, max(data.n_draws - 1, 1)))
            for thresholds in frontier.thresholds:  # by increasing cost
                rise, standard_error = self._rise(data, data.exits(thresholds))
                # The standard error of a single group is not known, and not asked for with 0.
                bound = rise + n_errors * standard_error if n_errors else rise
                if bound <= self.value + 1e-12:
                    return thresholds
            return no_early_exits(data.n_exits)
        best = metric_frontier(data, frontier, self.metric)
        error = -value_at(data, last_exit, self.metric)
        return best.thresholds[best.at_accuracy(-self._allowed(error))]

    def _rise(self, data: CalibrationData, exits: np.ndarray) -> tuple[float, float]:
        """Rise of the error for given exits of the samples, and its standard error."""
        assert data.losses is not None
        assert data.error_scale is not None
        scale, weight = data.error_scale, data.weight / data.weight.sum()
        own, last = data.losses[np.arange(len(exits)), exits], data.losses[:, -1]
        error, at_end = (scale.error(float(weight @ each)) for each in (own, last))
        if error == at_end == 0:
            return 0.0, 0.0
        if self.relative and at_end == 0:
            return np.inf, 0.0
        # Derivatives of the errors, and of their ratio, with respect to the weight of a sample.
        power = 0.5 if scale.is_root else 1.0
        change, at_end_change = (power * _relative(each, weight) for each in (own, last))
        if self.relative:
            rise, changes = error / at_end - 1.0, error / at_end * (change - at_end_change)
        else:
            rise, changes = error - at_end, error * change - at_end * at_end_change
        terms, factor = weight * changes, 1.0
        if data.group_of is not None:  # of which the samples are not independent
            if data.n_draws == 1:
                return rise, np.inf
            terms = np.bincount(data.group_of, terms)
            factor = data.n_draws / (data.n_draws - 1)  # as for a variance of few values
        return rise, float(np.sqrt(factor * np.sum(np.square(terms))))

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


def _relative(losses: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Difference of each loss from the mean, divided by the mean, or 0 if all losses are 0."""
    mean = weight @ losses
    return np.asarray(losses / mean - 1.0 if mean > 0 else np.zeros(len(losses)))

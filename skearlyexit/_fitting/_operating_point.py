"""Requested operating point: validation before training, and choice of the thresholds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skearlyexit._cascade._cascade import Cascade
from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._data._samples import Samples
from skearlyexit._data._weights import scaled
from skearlyexit._task._base import Task
from skearlyexit._utils._warnings import warn
from skearlyexit.calibration import (
    Budget,
    CalibratedPoint,
    CalibrationData,
    Frontier,
    NotCertifiedError,
    OperatingPoint,
    Threshold,
    compute_frontier,
)
from skearlyexit.calibration._base import no_early_exits

_CROSS_FITTED = (
    "It holds for the models that were fitted without each fold, and for the final model only if "
    "it behaves like them."
)

_UNLIKE = (
    "The thresholds, which were chosen for the models of the folds, do not hold for the final "
    "model. Give another random_state, more samples, or calibration=0.3"
)


@dataclass(frozen=True)
class CalibrationWeights:
    """Sample weights in the calibration.

    Attributes
    ----------
    scaled : ndarray of shape (n_samples,) or None, default=None
        Weights, scaled so that sums neither overflow nor underflow. None if all are equal.
    largest : float or None, default=None
        Largest weight before scaling.
    """

    scaled: np.ndarray | None = None
    largest: float | None = None

    @classmethod
    def of(cls, weight: np.ndarray | None) -> CalibrationWeights:
        """Make it from the weights given by the user."""
        return cls() if weight is None else cls(scaled(weight), float(weight.max()))

    @property
    def relative(self) -> np.ndarray | None:
        """Weights divided by their mean."""
        return None if self.scaled is None else self.scaled / self.scaled.mean()

    def at(self, index: np.ndarray) -> np.ndarray | None:
        """Scaled weights of some of the samples."""
        return None if self.scaled is None else self.scaled[index]


def requested_point(params: Any) -> OperatingPoint | None:
    """Operating point given by at most one of the parameters, or None."""
    given = {
        name: getattr(params, name)
        for name in ("threshold", "budget", "operating_point")
        if getattr(params, name) is not None
    }
    if len(given) > 1:
        raise ValueError(
            "At most one of the parameters 'threshold', 'budget' and 'operating_point' of "
            f"{type(params).__name__} may be given. Got {' and '.join(map(repr, given))}."
        )
    if "threshold" in given:
        return Threshold(params.threshold)
    if "budget" in given:
        point = params.budget if isinstance(params.budget, Budget) else Budget(params.budget)
    else:
        point = params.operating_point
    if point is not None:
        point._validate_params()
    return point


def check_request(
    request: OperatingPoint | None,
    unit_name: str,
    exit_rule: ExitRule,
    n_exits: int,
    held: np.ndarray,
    samples: Samples,
    task: Task,
    weights: CalibrationWeights,
    *,
    holds_out: bool,
) -> None:
    """Check before training that the calibration samples can be sufficient.

    Parameters
    ----------
    request : OperatingPoint or None
        Requested operating point.
    unit_name : str
        Unit of the costs.
    exit_rule : ExitRule
        Exit rule, not fitted.
    n_exits : int
        Number of exits, including the last one.
    held : ndarray of int
        Indices of the calibration samples, which may be none.
    samples : Samples
        All samples.
    task : Task
        What is predicted.
    weights : CalibrationWeights
        Weights of all samples.
    holds_out : bool
        Whether the parameters request calibration samples.

    Raises
    ------
    ValueError
        If there are too few calibration samples for the operating point, or none although the
        operating point or the exit rule requires them, or its metric cannot be computed for them,
        or it does not support the router.
    """
    if request is not None:
        task.check(request)
        request.resolved(unit_name, 1.0)
        check_routing(request, exit_rule)
    if n_exits == 1:
        return
    if len(held):
        if request is not None:
            weight = weights.at(held)
            groups = None if samples.groups is None else samples.groups[held]
            request.check_samples(len(held), weight, weights.largest, groups)
            weight = np.ones(len(held)) if weight is None else weight
            used = weight > 0
            task.check_metric(request, samples.y[held[used]], weight[used])
        return
    needed = [*exit_rule.learned_parts]
    if request is not None and request.needs_samples:
        needed.append(type(request).__name__)
    if not needed:
        return
    raise ValueError(
        f"{' and '.join(needed)} cannot be used without calibration samples: "
        + (
            "there are too few samples to hold any out. Give more samples, or only a threshold."
            if holds_out
            else "calibration=None holds none out. Give another value, or only a threshold."
        )
    )


def check_routing(request: OperatingPoint, exit_rule: ExitRule) -> None:
    """Raise a ValueError if an operating point does not support the router of an exit rule."""
    if exit_rule.router is not None and request.obstacle_to_routing():
        raise ValueError(
            f"{request.description} does not support {type(exit_rule.router).__name__}: "
            f"{request.obstacle_to_routing()}. Give router=None, or another operating point."
        )


def choose_point(
    request: OperatingPoint | None,
    cascade: Cascade,
    data: CalibrationData | None,
    task: Task,
    *,
    holds_out: bool = True,
) -> tuple[CalibratedPoint, Frontier | None]:
    """Calibrated operating point, by default that of the task, and frontier.

    A warning is issued if there is no request, and no sample exits early although the parameters
    request calibration samples (`holds_out`).
    """
    table = cascade.cost_table
    asked = request and request.resolved(table.unit, table.plain, float(cascade.costs[0]))
    if cascade.n_exits == 1:
        frontier = Frontier(np.empty((1, 0)), cascade.costs, np.array([np.nan]), np.ones((1, 1)))
        if asked is not None:
            asked.check_costs(lambda: float(frontier.costs[0]))
        return CalibratedPoint(request, np.empty(0), reason="There is a single exit."), frontier
    if data is None:
        if request is None:
            reason = "No sample exits early: there are no calibration samples."
            if holds_out:
                warn(f"{reason} Give more samples, or a threshold.")
            return CalibratedPoint(None, no_early_exits(cascade.n_exits), reason=reason), None
        return CalibratedPoint(request, request.fixed_thresholds(cascade.n_exits)), None
    frontier = compute_frontier(data)
    if asked is not None:
        return replace(asked.calibrate(data, frontier), request=request), frontier
    default = task.default_point(data)
    try:
        return default.calibrate(data, frontier), frontier
    except NotCertifiedError as error:
        point = _without_guarantee(default, f"the default, {error}", data, frontier)
        warn(f"{point.reason} A budget or a threshold needs no guarantee.")
        return point, frontier


def _without_guarantee(
    default: OperatingPoint, why: str, data: CalibrationData, frontier: Frontier
) -> CalibratedPoint:
    """No operating point was requested: without a guarantee, no sample exits early."""
    point = Threshold(np.inf).calibrate(data, frontier)
    reason = f"No sample exits early: {why}"
    return replace(point, request=default, certified=False, reason=reason)


def unlike_folds(
    point: CalibratedPoint,
    request: OperatingPoint | None,
    difference: str,
    data: CalibrationData,
    frontier: Frontier,
) -> CalibratedPoint:
    """Operating point of a final model that does not behave like the models of the folds.

    A guarantee that was requested is refused. Without a request, a warning is issued, and no sample
    exits early.
    """
    if request is not None:
        raise NotCertifiedError(
            f"{request.description} cannot be certified. {difference} {_UNLIKE}, or give "
            "calibration=None, and call calibrate(X, y, operating_point) with other samples."
        )
    why = f"{difference} {_UNLIKE}, or call calibrate(X, y) with other samples."
    warn(why)
    assert point.request is not None
    return _without_guarantee(point.request, why[0].lower() + why[1:], data, frontier)


def of_folds(point: CalibratedPoint) -> CalibratedPoint:
    """Operating point whose reason states for which models its guarantee holds, if any."""
    if not point.certified:
        return point
    return replace(point, reason=f"{point.reason} {_CROSS_FITTED}")

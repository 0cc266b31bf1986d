"""Which operating point is asked for, whether it can be had, and the thresholds for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skearlyexit._cascade._cascade import Cascade
from skearlyexit._data._weights import scaled
from skearlyexit._fitting._cascade_fitter import CascadeFitter
from skearlyexit.calibration import (
    Budget,
    CalibratedPoint,
    CalibrationData,
    Frontier,
    NotCertifiedError,
    OperatingPoint,
    RiskControl,
    Threshold,
    compute_frontier,
)
from skearlyexit.calibration._base import no_early_exits

_CROSS_FITTED = (
    "It holds for the models that were fitted without each fold, and for the final one only as far "
    "as it behaves like them."
)


@dataclass(frozen=True)
class CalibrationWeights:
    """Weights of samples in calibration.

    Attributes
    ----------
    scaled : ndarray of shape (n_samples,) or None
        Scaled so that sums neither over- nor underflow; None if all samples count alike.
    largest : float or None
        The largest as it was given.
    """

    scaled: np.ndarray | None = None
    largest: float | None = None

    @classmethod
    def of(cls, weight: np.ndarray | None) -> CalibrationWeights:
        """From weights as they were given."""
        return cls() if weight is None else cls(scaled(weight), float(weight.max()))

    @property
    def relative(self) -> np.ndarray | None:
        """Relative to their mean."""
        return None if self.scaled is None else self.scaled / self.scaled.mean()

    def at(self, index: np.ndarray) -> np.ndarray | None:
        """Scaled weights of some of the samples."""
        return None if self.scaled is None else self.scaled[index]


def requested_point(params: Any) -> OperatingPoint | None:
    """The operating point that the parameters ask for, at most one of them."""
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
        return Budget(params.budget)
    if params.operating_point is not None:
        params.operating_point._validate_params()
    return params.operating_point


def check_request(
    request: OperatingPoint | None,
    fitter: CascadeFitter,
    n_exits: int,
    held: np.ndarray,
    weights: CalibrationWeights,
    *,
    holds_out: bool,
) -> None:
    """Refuse, before training, what the calibration samples cannot do, if there are any.

    Parameters
    ----------
    request : OperatingPoint or None
    fitter : CascadeFitter
    n_exits : int
    held : ndarray of int
        Calibration samples.
    weights : CalibrationWeights
        Of all samples.
    holds_out : bool
        Whether the parameters ask for calibration samples.
    """
    if request is not None:
        request.resolved(fitter.costs.cost.unit_name, 1.0)
    if n_exits == 1:
        return
    if len(held):
        if request is not None:
            request.check_rows(len(held), weights.at(held), weights.largest)
        return
    needed = fitter.exit_rule.learned_parts
    if request is not None and request.needs_samples:
        needed.append(type(request).__name__)
    if not needed:
        return
    raise ValueError(
        f"{' and '.join(needed)} cannot do without calibration rows, and there are none: "
        + (
            "too few rows to hold any out. Give more rows, or only a threshold."
            if holds_out
            else "calibration=None holds none out. Give another value, or only a threshold."
        )
    )


def choose_point(
    request: OperatingPoint | None, cascade: Cascade, evidence: CalibrationData | None
) -> tuple[CalibratedPoint, Frontier | None]:
    """Operating point and frontier for the request, or for the default one."""
    table = cascade.cost_table
    asked = request and request.resolved(table.unit, table.plain)
    if cascade.n_exits == 1:
        frontier = Frontier(np.empty((1, 0)), cascade.costs, np.array([np.nan]), np.ones((1, 1)))
        if asked is not None:
            asked.check_costs(lambda: float(frontier.costs[0]))
        return CalibratedPoint(request, np.empty(0), reason="There is one exit."), frontier
    if evidence is None:
        if request is None:
            reason = "No calibration rows: every row runs to the last exit."
            return CalibratedPoint(None, no_early_exits(cascade.n_exits), reason=reason), None
        return CalibratedPoint(request, request.fixed_thresholds(cascade.n_exits)), None
    frontier = compute_frontier(evidence)
    if asked is not None:
        return replace(asked.calibrate(evidence, frontier), request=request), frontier
    try:
        return RiskControl().calibrate(evidence, frontier), frontier
    except NotCertifiedError as error:
        # Nothing was asked for: what is not certified is not risked.
        point = Threshold(np.inf).calibrate(evidence, frontier)
        reason = f"Every row runs to the last exit: {error}"
        return replace(point, request=RiskControl(), certified=False, reason=reason), frontier


def of_folds(point: CalibratedPoint) -> CalibratedPoint:
    """The same, that says for which models it is certified, if it is."""
    if not point.certified:
        return point
    return replace(point, reason=f"{point.reason} {_CROSS_FITTED}")

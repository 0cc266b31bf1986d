"""The best answers for a given cost."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import clone
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit.calibration._base import CalibratedPoint, OperatingPoint
from skearlyexit.calibration._evidence import CalibrationData
from skearlyexit.calibration._frontier import Frontier, check_budget
from skearlyexit.calibration._geometric import geometric_budget
from skearlyexit.calibration._metric import (
    METRIC_CONSTRAINT,
    is_accuracy,
    metric_frontier,
    value_at,
)
from skearlyexit.calibration._search import lowest_equivalent
from skearlyexit.calibration._strict_budget import StrictBudget


class Budget(OperatingPoint):
    """Largest mean cost per row.

    Parameters
    ----------
    value : float
        In units of the plain backbone: 0.4 asks for at most 40 % of its cost on average. With
        another `unit`, as much of that.
    unit : str, default="share"
        ``"share"`` of the plain backbone; the unit of the estimator's costs, ``"MACs"``, ``"s"`` or
        ``"bytes"``; or a name of your own for what `rate` translates.
    rate : float, default=None
        Costs that one unit pays for: ``Budget(0.01, unit="J", rate=2e9)`` are 0.01 joules a row on
        a device that does 2e9 multiply-accumulates with one.
    strict : bool, default=False
        Whether every batch has to keep the budget, whatever samples it holds. Where it would be
        exceeded, the most confident samples of the batch exit, so that the prediction for a sample
        depends on those beside it. Otherwise it is kept on the calibration samples, and on new ones
        from the same distribution within sampling error.
    method : {"search", "geometric"}, default="search"
        ``"geometric"``: the share of rows that leaves shrinks or grows by a constant factor from
        exit to exit, chosen so that the mean cost is the budget. ``"search"``: the best thresholds
        found, never worse than the geometric ones on the calibration rows.
    metric : str or callable, default="accuracy"
        What is best: the name of a scikit-learn scorer that works on labels, or such a scorer.

    References
    ----------
    Huang et al., "Multi-scale dense networks for resource efficient image classification",
    ICLR 2018, for ``"geometric"``.

    Teerapittayanon, McDanel, Kung, "BranchyNet: fast inference via early exiting from deep neural
    networks", ICPR 2016, for leaving by shares of a batch.

    Examples
    --------
    >>> Budget(1e6, unit="MACs").resolved("MACs", plain=4e6)
    Budget(value=0.25)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "value": [Interval(Real, 0, None, closed="right")],
        "unit": [str],
        "rate": [Interval(Real, 0, None, closed="neither"), None],
        "strict": ["boolean"],
        "method": [StrOptions({"search", "geometric"})],
        "metric": METRIC_CONSTRAINT,
    }

    def __init__(
        self,
        value: float,
        *,
        unit: str = "share",
        rate: float | None = None,
        strict: bool = False,
        method: str = "search",
        metric: str | Callable[..., float] = "accuracy",
    ) -> None:
        self.value = value
        self.unit = unit
        self.rate = rate
        self.strict = strict
        self.method = method
        self.metric = metric

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.rate is not None and self.unit == "share":
            raise ValueError(
                "The 'rate' of Budget translates a unit into costs, and a share of the plain "
                f"backbone needs none. Got rate={self.rate!r}; name the unit, as in unit='J'."
            )

        if self.method == "geometric" and not is_accuracy(self.metric):
            raise ValueError(
                "Budget(method='geometric') goes by shares of leaving and looks at no metric. Got "
                f"metric={self.metric!r}; take method='search'."
            )

    def resolved(self, unit: str, plain: float) -> Budget:
        """The same as a share of the plain backbone; see `OperatingPoint.resolved`."""
        if self.unit == "share":
            return self
        if self.rate is None and self.unit != unit:
            raise ValueError(
                f"The 'unit' parameter of Budget must be 'share' or {unit!r}, in which costs are "
                f"told here, or come with a 'rate'. Got {self.unit!r} without one."
            )
        value = self.value * (1.0 if self.rate is None else self.rate) / plain
        share: Budget = clone(self).set_params(value=value, unit="share", rate=None)
        return share

    def check_costs(self, least_cost: Callable[[], float]) -> None:
        """Compare with the budget, if it is a share; see `OperatingPoint.check_costs`."""
        if self.unit == "share":
            check_budget(self.value, least_cost())

    def looked_up(self, unit: str, plain: float) -> float:
        """The share, for a look-up on a frontier, where nothing can be searched any more.

        Raises
        ------
        ValueError
            If it asks for what a look-up cannot give.
        """
        self._validate_params()
        if self.method != "search" or not is_accuracy(self.metric):
            raise ValueError(
                "A budget for one prediction is looked up on the frontier of accuracy. Got "
                f"{self!r}; give it to calibrate instead."
            )
        return self.resolved(unit, plain).value

    def thresholds(self, evidence: CalibrationData, frontier: Frontier) -> np.ndarray:
        """Choose thresholds; see `OperatingPoint.thresholds`."""
        check_budget(self.value, frontier.costs[0])
        geometric = lowest_equivalent(evidence, geometric_budget(evidence, self.value))
        if self.method == "geometric":
            return geometric
        best = metric_frontier(evidence, frontier, self.metric)
        index = best.at_budget(self.value)
        value = value_at(evidence, evidence.leave(geometric), self.metric)
        return geometric if value > best.accuracies[index] else best.thresholds[index]

    def quota(self, evidence: CalibrationData, thresholds: np.ndarray) -> StrictBudget | None:
        """Quota of a strict budget; see `OperatingPoint.quota`."""
        if not self.strict:
            return None
        return StrictBudget.of_shares(self.value, evidence.costs, evidence.shares(thresholds))


def look_up(
    budget: float | Budget, frontier: Frontier, costs: np.ndarray, unit: str, plain: float
) -> CalibratedPoint:
    """Operating point for a budget, by what is known from the calibration.

    Parameters
    ----------
    budget : float or Budget
        A number is a share of the plain network.
    frontier : Frontier
    costs : ndarray of shape (n_exits,)
        Cumulative cost of each exit.
    unit : str
        Unit of costs, such as "MACs".
    plain : float
        Cost of the plain network in that unit.

    Raises
    ------
    ValueError
        If the budget cannot be met, or asks for what a look-up cannot give.
    """
    request = budget if isinstance(budget, Budget) else Budget(budget)
    share = request.looked_up(unit, plain) if request is budget else request.value
    at = frontier.at_budget(share)
    assert frontier.shares is not None
    shares = frontier.shares[at]
    quota = StrictBudget.of_shares(share, costs, shares) if request.strict else None
    return CalibratedPoint(request, frontier.thresholds[at], shares=shares, quota=quota)

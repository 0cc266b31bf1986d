"""Operating point: a maximum mean cost per sample."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import clone
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit._utils._scoring import is_accuracy
from skearlyexit.calibration._base import CalibratedPoint, OperatingPoint
from skearlyexit.calibration._calibration_data import CalibrationData
from skearlyexit.calibration._compute_frontier import frontier_by
from skearlyexit.calibration._frontier import ROUNDING, Frontier, check_budget
from skearlyexit.calibration._geometric import geometric_budget
from skearlyexit.calibration._metric import (
    METRIC_CONSTRAINT,
    metric_frontier,
    value_at,
)
from skearlyexit.calibration._search import lowest_equivalent
from skearlyexit.calibration._strict_budget import StrictBudget

#: Units of time, in seconds.
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


class Budget(OperatingPoint):
    """Maximum mean cost per sample.

    Among the thresholds with at most this mean cost on the calibration samples, those with the
    highest estimated accuracy are chosen.

    Parameters
    ----------
    value : float
        Maximum mean cost per sample, in the unit given by `unit`. By default, 0.4 means at most
        40 % of the cost of the plain network, that is the network with its last head and no other
        exit.
    unit : str, default="share"
        Unit of `value`:

        - ``"share"``: the cost of the plain network.
        - ``"s"``, ``"ms"`` or ``"us"``: seconds, milliseconds or microseconds. The costs of the
          estimator must be in seconds, as with ``cost="seconds"``.
        - The unit of the costs of the estimator, such as ``"MACs"`` or ``"bytes"``.
        - Any other name: a unit that `rate` converts to that of the costs.
    rate : float, default=None
        Cost, in the unit of the costs of the estimator, that corresponds to one `unit`:
        ``Budget(0.01, unit="J", rate=2e9)`` is a budget of 0.01 joules per sample on a device that
        computes 2e9 multiply-accumulate operations (MACs) per joule.
    strict : bool, default=False
        Whether the budget is never exceeded on the samples of any call of `predict`. If it would
        be, the samples with the highest scores exit although their scores are below the threshold,
        so the prediction for a sample depends on the other samples of the call. If False, the
        budget is kept on the calibration samples, and within sampling error on new samples from the
        same distribution.
    method : {"frontier", "search", "geometric"}, default="frontier"
        How the thresholds are chosen:

        - ``"frontier"``: the best thresholds of the frontier; see `compute_frontier`.
        - ``"search"``: the best of all that a search finds. On the calibration samples they are at
          least as good as those of the other methods. With few samples, they are in part the best
          by chance.
        - ``"geometric"``: the exit rates decrease or increase by a constant factor from exit to
          exit. The factor is chosen such that the mean cost is closest to the budget without
          exceeding it.
    metric : str or callable, default="accuracy"
        Metric by which the best thresholds are chosen: the name of a scikit-learn scorer or a
        scorer. It may depend on predicted labels and probabilities.

    References
    ----------
    Huang et al., "Multi-scale dense networks for resource efficient image classification",
    ICLR 2018, for ``"geometric"``.

    Teerapittayanon, McDanel, Kung, "BranchyNet: fast inference via early exiting from deep neural
    networks", ICPR 2016, for strict budgets.

    Examples
    --------
    >>> Budget(1e6, unit="MACs").resolved("MACs", plain=4e6)
    Budget(value=0.25)
    >>> Budget(2, unit="ms").resolved("s", plain=0.008)
    Budget(value=0.25)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "value": [Interval(Real, 0, None, closed="right")],
        "unit": [str],
        "rate": [Interval(Real, 0, None, closed="neither"), None],
        "strict": ["boolean"],
        "method": [StrOptions({"frontier", "search", "geometric"})],
        "metric": METRIC_CONSTRAINT,
    }

    def __init__(
        self,
        value: float,
        *,
        unit: str = "share",
        rate: float | None = None,
        strict: bool = False,
        method: str = "frontier",
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
                "The 'rate' of Budget converts a unit into costs, and a share of the plain "
                f"network needs none. Got rate={self.rate!r}; give the unit, as in unit='J'."
            )

        if self.method == "geometric" and not is_accuracy(self.metric):
            raise ValueError(
                "Budget(method='geometric') uses exit rates and no metric. Got "
                f"metric={self.metric!r}; give method='frontier'."
            )

    def resolved(self, unit: str, plain: float, least_cost: float = 0.0) -> Budget:
        """Convert the budget to a share of the cost of the plain network.

        Parameters
        ----------
        unit : str
            Unit of the costs of the model, such as "MACs".
        plain : float
            Cost of the plain network in this unit.
        least_cost : float, default=0.0
            Cost of the first exit, in units of the cost of the plain network, if it is known.

        Returns
        -------
        budget : Budget
            Budget with ``unit="share"``; the same object if it has this unit.

        Raises
        ------
        ValueError
            If the budget is in another unit and has no `rate`, or is below the cost of the first
            exit.
        """
        if self.unit == "share":
            return self
        rate = self._rate(unit)
        value = self.value * rate / plain
        if value * ROUNDING < least_cost:
            raise ValueError(
                "The budget must be at least the cost of the first exit. Got "
                f"{self.description} instead; the first exit alone costs "
                f"{least_cost * plain / rate:.4g} {self.unit}."
            )
        share: Budget = clone(self).set_params(value=value, unit="share", rate=None)
        return share

    def _rate(self, unit: str) -> float:
        """Cost, in the unit of the costs of a model, that corresponds to one `unit`."""
        if self.rate is not None:
            return self.rate
        if self.unit == unit:
            return 1.0
        if self.unit in SECONDS and unit in SECONDS:
            return SECONDS[self.unit] / SECONDS[unit]
        if self.unit not in SECONDS:
            raise ValueError(
                f"The 'unit' parameter of Budget must be 'share' or {unit!r}, the unit of the "
                f"costs of this model, or come with a 'rate'. Got {self.unit!r} without one."
            )
        raise ValueError(
            f"A budget in {self.unit!r} needs costs in seconds. Got {self.description} for a model "
            f"with costs in {unit!r}, of which the time is not known. Fit the estimator with "
            "cost='seconds', which measures times, or give a share, such as budget=0.4."
        )

    def obstacle_to_routing(self) -> str:
        if not self.strict:
            return ""
        return "samples that skip an exit could not exit there when the budget requires it"

    def check_costs(self, least_cost: Callable[[], float]) -> None:
        if self.unit == "share":
            check_budget(self.value, least_cost())

    def looked_up(self, unit: str, plain: float, least_cost: float) -> float:
        """Return the budget as a share, for a look-up on a frontier.

        Parameters
        ----------
        unit : str
            Unit of the costs of the model, such as "MACs".
        plain : float
            Cost of the plain network in this unit.
        least_cost : float
            Cost of the first exit, in units of the cost of the plain network.

        Returns
        -------
        share : float
            Maximum mean cost, as a share of the cost of the plain network.

        Raises
        ------
        ValueError
            If `method` or `metric` requires calibration samples, a parameter is invalid, or as in
            `resolved`.
        """
        self._validate_params()
        if self.method != "frontier" or not is_accuracy(self.metric):
            raise ValueError(
                "A budget for a single prediction is looked up in the frontier of accuracy. Got "
                f"{self!r}; give it to calibrate instead."
            )
        return self.resolved(unit, plain, least_cost).value

    def thresholds(self, data: CalibrationData, frontier: Frontier) -> np.ndarray:
        check_budget(self.value, frontier.costs[0])
        if self.method == "geometric":
            return self._geometric(data)
        best = metric_frontier(data, frontier_by(self.method, data, frontier), self.metric)
        index = best.at_budget(self.value)
        if self.method == "search":
            geometric = self._geometric(data)
            if value_at(data, data.exits(geometric), self.metric) > best.accuracies[index]:
                return geometric
        return np.asarray(best.thresholds[index])

    def _geometric(self, data: CalibrationData) -> np.ndarray:
        return lowest_equivalent(data, geometric_budget(data, self.value))

    def strict_budget(self, data: CalibrationData, thresholds: np.ndarray) -> StrictBudget | None:
        if not self.strict:
            return None
        return StrictBudget.of_shares(self.value, data.costs, data.shares(thresholds))


def look_up(
    budget: float | Budget, frontier: Frontier, costs: np.ndarray, unit: str, plain: float
) -> CalibratedPoint:
    """Operating point for a budget, by a look-up in the frontier.

    Parameters
    ----------
    budget : float or Budget
        A float is a share of the cost of the plain network.
    frontier : Frontier
    costs : ndarray of shape (n_exits,)
        Cumulative cost of each exit.
    unit : str
        Unit of the costs, such as "MACs".
    plain : float
        Cost of the plain network in this unit.

    Raises
    ------
    ValueError
        If the budget cannot be met, or requires calibration samples.
    """
    request = budget if isinstance(budget, Budget) else Budget(budget)
    share = request.value
    if request is budget:
        share = request.looked_up(unit, plain, float(frontier.costs[0]))
    at = frontier.at_budget(share)
    assert frontier.shares is not None
    shares = frontier.shares[at]
    strict_budget = StrictBudget.of_shares(share, costs, shares) if request.strict else None
    return CalibratedPoint(
        request, frontier.thresholds[at], shares=shares, strict_budget=strict_budget
    )

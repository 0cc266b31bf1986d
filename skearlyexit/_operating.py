"""How operating points are asked for, chosen, looked up and moved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skearlyexit._cascade._cascade import Cascade
from skearlyexit._exit_table import exits_of
from skearlyexit._fitting._cascade_fitter import CascadeBuilder
from skearlyexit.calibration import (
    Budget,
    CalibratedPoint,
    Evidence,
    Frontier,
    NotCertifiedError,
    OperatingPoint,
    RiskControl,
    Threshold,
    compute_frontier,
    nobody,
    thresholds_for_shares,
)
from skearlyexit.calibration._budget import look_up
from skearlyexit.costs import CostTable
from skearlyexit.runtime import Answers, run
from skearlyexit.runtime._torch import label_table

#: Calibration rows whose scores are remembered, for thresholds that follow a drift.
REMEMBERED_ROWS = 1000


class BaseOperated(BaseEstimator):
    """What an estimator does about its thresholds."""

    cascade_: Cascade
    n_exits_: int
    costs_: np.ndarray
    cost_table_: CostTable
    thresholds_: np.ndarray
    frontier_: Frontier | None
    operating_point_: CalibratedPoint
    _recent_scores: np.ndarray
    _validate_rows: Callable[[Any], np.ndarray]

    # Parameters of the estimators.
    threshold: Any
    budget: float | None
    operating_point: OperatingPoint | None
    calibration: Any

    def _requested_point(self) -> OperatingPoint | None:
        """The operating point that the parameters ask for, at most one of them."""
        given = {
            name: getattr(self, name)
            for name in ("threshold", "budget", "operating_point")
            if getattr(self, name) is not None
        }
        if len(given) > 1:
            raise ValueError(
                "At most one of the parameters 'threshold', 'budget' and 'operating_point' of "
                f"{type(self).__name__} may be given. Got {' and '.join(map(repr, given))}."
            )
        if "threshold" in given:
            return Threshold(self.threshold)
        if self.budget is not None:
            return Budget(self.budget)
        if self.operating_point is not None:
            self.operating_point._validate_params()
        return self.operating_point

    def _check_request(
        self,
        request: OperatingPoint | None,
        builder: CascadeBuilder,
        n_exits: int,
        held: np.ndarray,
        weight: np.ndarray | None,
        largest_weight: float | None,
    ) -> None:
        """Refuse, before training, what the calibration samples cannot do, if there are any.

        Parameters
        ----------
        request : OperatingPoint or None
        builder : CascadeBuilder
        n_exits : int
        held : ndarray of int
            Calibration samples.
        weight : ndarray of shape (n_samples,) or None
            Weights of all samples.
        largest_weight : float or None
            As in `Evidence`.
        """
        if request is not None:
            request.resolved(builder.cost.unit_name, 1.0)
            request.fixed_thresholds(n_exits)
            request.check_costs(builder.least_cost)
        if n_exits == 1:
            return
        if len(held):
            if request is not None:
                known = None if weight is None else weight[held]
                request.check_rows(len(held), known, largest_weight)
            return
        needed = builder.decision.learned_parts
        if request is not None and request.needs_samples:
            needed.append(type(request).__name__)
        if not needed:
            return
        raise ValueError(
            f"{' and '.join(needed)} cannot do without calibration rows, and there are none: "
            + (
                "calibration=None holds none out. Give another value, or only a threshold."
                if self.calibration is None
                else "too few rows to hold any out. Give more rows, or only a threshold."
            )
        )

    def _operate(
        self,
        request: OperatingPoint | None,
        cascade: Cascade,
        evidence: Evidence | None,
    ) -> tuple[CalibratedPoint, Frontier | None]:
        """Operating point and frontier for the request, or for the default one."""
        assert cascade.cost_table is not None
        asked = request and request.resolved(cascade.cost_table.unit, cascade.cost_table.plain)
        if cascade.n_exits == 1:
            frontier = Frontier(
                np.empty((1, 0)), cascade.costs, np.array([np.nan]), np.ones((1, 1))
            )
            if asked is not None:
                asked.check_costs(lambda: float(frontier.costs[0]))
            return CalibratedPoint(request, np.empty(0), reason="There is one exit."), frontier
        if evidence is None:
            if request is None:
                reason = "No calibration rows: every row runs to the last exit."
                return CalibratedPoint(None, nobody(cascade.n_exits), reason=reason), None
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

    def _set_point(
        self, point: CalibratedPoint, frontier: Frontier | None, evidence: Evidence | None
    ) -> None:
        scores = np.empty((0, self.n_exits_)) if evidence is None else evidence.scores
        # In a random order, since the first are forgotten first.
        order = np.random.RandomState(0).permutation(len(scores))[:REMEMBERED_ROWS]
        self._set_at_once(point, frontier, scores[order])

    def _set_at_once(
        self, point: CalibratedPoint, frontier: Frontier | None, recent: np.ndarray
    ) -> None:
        # One operation, since an interrupt may come between any two.
        self.__dict__.update(
            operating_point_=point,
            thresholds_=point.thresholds,
            frontier_=frontier,
            _recent_scores=recent,
        )

    def partial_calibrate(self, X: Any, *, window: int = REMEMBERED_ROWS) -> Self:
        """Move the thresholds with rows that drift, so that the mean cost stays; needs no labels.

        The scores of the last rows seen are remembered, at first those of the calibration rows.
        Thresholds are moved to where, of the rows remembered, as many leave at each exit as the
        operating point let leave when it was calibrated; those of all other budgets move too. The
        accuracy follows the drift: it is not known, and what was certified no longer is.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            New rows in the order of time; all exits are computed for them.
        window : int, default=1000
            How many of the last rows count.

        Returns
        -------
        self : object
            With new `thresholds_`, `operating_point_` and `frontier_`. On an error nothing is
            changed.

        Raises
        ------
        ValueError
            If there was no calibration.

        Notes
        -----
        Running quantiles of the score keep a budget under drift; how well is a matter of how long
        the window is against how fast the rows change.
        """
        check_is_fitted(self)
        if not isinstance(window, Integral) or window < 1:
            raise ValueError(f"'window' must be a positive integer; got {window!r}.")
        X = self._validate_rows(X)
        if self.n_exits_ == 1:
            return self
        if self.frontier_ is None:
            raise ValueError(
                "partial_calibrate moves what was calibrated, and this model was fitted without "
                "calibration rows. Call calibrate(X, y) first."
            )
        scores = label_table(self.cascade_, X).scores
        recent = np.concatenate([self._recent_scores, scores])[-window:]
        point, frontier = self.operating_point_, self.frontier_
        assert point.shares is not None
        assert frontier.shares is not None
        thresholds = thresholds_for_shares(recent, point.shares)
        moved = np.array([thresholds_for_shares(recent, shares) for shares in frontier.shares])
        exits = exits_of(recent, thresholds)
        moved_point = replace(
            point,
            thresholds=thresholds,
            n_rows=len(recent),
            cost=float(self.costs_[exits].mean()),
            accuracy=np.nan,
            certified=None if point.certified is None else False,
            reason=f"Moved with the last {len(recent)} rows, without labels, to keep the cost.",
        )
        self._set_at_once(moved_point, replace(frontier, thresholds=moved), recent)
        return self

    def _point(self, threshold: Any, budget: float | Budget | None) -> CalibratedPoint:
        """Operating point for what a predict-like method was asked for."""
        check_is_fitted(self)
        if threshold is not None and budget is not None:
            raise ValueError("At most one of 'threshold' and 'budget' may be given; got both.")
        if threshold is not None:
            given = Threshold(threshold)
            return CalibratedPoint(given, given.fixed_thresholds(self.n_exits_))
        if budget is None:
            return replace(self.operating_point_, thresholds=self.thresholds_)
        if self.frontier_ is None:
            raise ValueError(
                "A budget needs calibration rows, and this model has none: it was fitted without "
                "any, or trained on by partial_fit since. Call calibrate(X, y) with rows that it "
                "was not fitted on, or give a threshold."
            )
        table = self.cost_table_
        return look_up(budget, self.frontier_, self.costs_, table.unit, table.plain)

    def _run(self, X: Any, point: CalibratedPoint, *, with_probabilities: bool = False) -> Answers:
        X = self._validate_rows(X)
        return run(
            self.cascade_,
            X,
            point.thresholds,
            quota=point.quota,
            with_probabilities=with_probabilities,
        )

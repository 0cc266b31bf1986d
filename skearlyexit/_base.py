"""Base class of all estimators with exits."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import HasMethods, Interval, RealNotInt, StrOptions
from sklearn.utils.validation import check_is_fitted

from skearlyexit._cascade._cascade import Cascade, FittedNetwork
from skearlyexit._data._encode import checked_groups
from skearlyexit._data._sources import labels_of
from skearlyexit._data._weights import checked_weight
from skearlyexit._determinism._random import ending_turns
from skearlyexit._exit_table import exits_of
from skearlyexit._fitting._chain_fit import ChainModel
from skearlyexit._fitting._fit import FittedModel
from skearlyexit._fitting._operating_point import check_routing, choose_point, requested_point
from skearlyexit._task._base import Table, Task
from skearlyexit._utils._gradients import gradients
from skearlyexit.calibration import (
    Budget,
    CalibratedPoint,
    Frontier,
    OperatingPoint,
    Threshold,
)
from skearlyexit.calibration._budget import look_up
from skearlyexit.calibration._shares import thresholds_for_shares
from skearlyexit.costs import CostTable
from skearlyexit.metrics import ExitReport, RegressionReport, exit_report
from skearlyexit.placement import Candidates
from skearlyexit.placement._cheaper import naming_candidates
from skearlyexit.runtime._driver import Answers, label_table, run, tabulate
from skearlyexit.runtime._onnx_session import Session, check_point, session_of, sessions_at
from skearlyexit.runtime._row_format import GivenFormat, RowFormat

#: Number of calibration samples whose scores are stored for `partial_calibrate`.
REMEMBERED_ROWS = 1000
#: Arguments of predictions that metadata routing passes on by default.
PREDICTION_REQUEST = {"threshold": True, "budget": True, "return_exits": True}


class BaseEarlyExit(BaseEstimator, metaclass=ABCMeta):
    """Base class of estimators with exits: predictions, calibration and reports."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "threshold": [Interval(Real, 0, None, closed="both"), "array-like", None],
        "budget": [Interval(Real, 0, None, closed="right"), Budget, None],
        "operating_point": [OperatingPoint, None],
        "calibration": [
            Interval(RealNotInt, 0, 1, closed="neither"),
            Interval(Integral, 2, None, closed="left"),
            HasMethods(["split", "get_n_splits"]),
            StrOptions({"auto"}),
            None,
        ],
        "n_jobs": [
            Interval(Integral, None, -1, closed="right"),
            Interval(Integral, 1, None, closed="left"),
            None,
        ],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    runtime: str
    #: Runtime that is not ONNX Runtime.
    _own_runtime: ClassVar[str]

    cascade_: Cascade
    n_exits_: int
    exit_names_: list[str]
    costs_: np.ndarray
    cost_table_: CostTable
    thresholds_: np.ndarray
    frontier_: Frontier | None
    operating_point_: CalibratedPoint
    _task: Task
    _recent_scores: np.ndarray
    #: Where exits could stand. None if all exits are given.
    _candidates: Candidates | None

    # With metadata routing, these arguments are passed on by default.
    __metadata_request__predict: ClassVar[dict[str, bool]] = PREDICTION_REQUEST
    __metadata_request__score: ClassVar[dict[str, bool]] = {"threshold": True, "budget": True}

    @abstractmethod
    def _validate_rows(self, X: Any) -> Any:
        """Validate samples for prediction."""

    @abstractmethod
    def _validate_dense(self, X: Any) -> Any:
        """Validate samples for prediction by ONNX Runtime."""

    @abstractmethod
    def _row_format(self) -> RowFormat | GivenFormat:
        """Shape of the samples, for checks without scikit-learn."""

    @abstractmethod
    def _convertible(self) -> tuple[FittedNetwork, tuple[int, ...]]:
        """Fitted network, or estimators as a network, and the shape of a sample, for ONNX."""

    def __sklearn_is_fitted__(self) -> bool:
        # Without it, scikit-learn reads the names of all attributes in each prediction.
        return "cascade_" in vars(self)

    def predict(
        self,
        X: Any,
        *,
        threshold: float | Sequence[float] | None = None,
        budget: float | Budget | None = None,
        return_exits: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Predict class labels.

        By default, the thresholds are those of `thresholds_`. At most one of `threshold` and
        `budget` may be given to use others in this call.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Samples of the shape seen in `fit`, of any type that it supports.
        threshold : float or sequence of float, default=None
            One threshold for all exits, or one for each exit but the last.
        budget : float or Budget, default=None
            Maximum mean cost per sample, in the unit of `costs_`, or, with costs in seconds, in a
            unit of time: ``Budget(2, unit="ms")``. The thresholds are looked up in `frontier_`. The
            budget is an average over samples of the same distribution, unless it is strict:
            ``Budget(0.4, strict=True)`` is never exceeded on the samples of a call.
        return_exits : bool, default=False
            Whether to return the exit of each sample as well.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Predicted labels.
        exits : ndarray of shape (n_samples,)
            Index of the exit of each sample, from 0 to ``n_exits_ - 1``. Only returned if
            `return_exits` is True.

        Raises
        ------
        ValueError
            If both `threshold` and `budget` are given, a threshold is negative, the budget cannot
            be met, or a budget is given and the model has not been calibrated.
        """
        answers = self._run(X, self._point(threshold, budget))
        predicted = self._task.decoded(answers.labels)
        return (predicted, answers.exits) if return_exits else predicted

    def staged_predict(self, X: Any) -> Iterator[np.ndarray]:
        """Predict class labels at every exit.

        All exits are computed for all samples, whatever the thresholds are.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Samples, as in `predict`.

        Yields
        ------
        y : ndarray of shape (n_samples,)
            Labels predicted at each exit, from the first exit to the last.
        """
        yield from self._task.decoded(self._label_table(X).labels.swapaxes(0, 1))

    def exit_table(self, X: Any) -> Any:
        """Compute the outputs of every exit for every sample.

        All exits are computed for all samples, whatever the thresholds are.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Samples, as in `predict`.

        Returns
        -------
        table : ExitTable
            Predicted probabilities and scores. ``table.exits(thresholds)`` returns the exits that
            `predict` returns under these thresholds; ``table.labels`` are indices of `classes_`.
        """
        check_is_fitted(self)
        return self._task.told(tabulate(self.cascade_, self._validate_rows(X)))

    def exit_report(
        self,
        X: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        threshold: float | Sequence[float] | None = None,
        budget: float | Budget | None = None,
        plain: Any = None,
        confidence_level: float = 0.95,
    ) -> ExitReport | RegressionReport:
        """Report exit rates, costs and accuracies, or errors in regression, with intervals.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Test samples, used neither for fitting nor for calibrating the model.
        y : array-like of shape (n_samples, ...), default=None
            True labels, among `classes_`, or values. May be None only if it may be None in `fit`.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights. Samples of weight 0 are ignored.
        threshold : float or sequence of float, default=None
            One threshold for all exits, or one for each exit but the last, instead of
            `thresholds_`.
        budget : float or Budget, default=None
            Maximum mean cost per sample, as in `predict`.
        plain : fitted estimator or array-like of shape (n_samples, ...), default=None
            Model to compare with, or what it predicts for X. For a cascade it is the last
            estimator, fitted by itself. For a network it is ``clone(self)`` with ``exits=1``,
            fitted on the training samples; parameters that refer to several exits, such as a budget
            or a list of heads, are to be set as well.
        confidence_level : float, default=0.95
            Confidence level of each interval.

        Returns
        -------
        report : ExitReport or RegressionReport
            Report that is shown as text if printed and as HTML in notebooks;
            ``report.to_frame()`` returns a data frame.

        Raises
        ------
        ValueError
            If X, y or an argument is invalid, or the budget cannot be met.
        """
        return exit_report(
            self,
            X,
            y,
            sample_weight=sample_weight,
            threshold=threshold,
            budget=budget,
            plain=plain,
            confidence_level=confidence_level,
        )

    def calibrate(
        self,
        X: Any,
        y: Any = None,
        operating_point: OperatingPoint | None = None,
        *,
        sample_weight: Any = None,
        groups: Any = None,
    ) -> Self:
        """Calibrate the thresholds on new labeled samples.

        What is predicted at each exit is not changed. `frontier_`, `operating_point_` and
        `thresholds_` are set again; if an error is raised, they keep their values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Calibration samples that the model was not fitted on.
        y : array-like of shape (n_samples, ...), default=None
            True labels, among `classes_`, or values. May be None only if it may be None in `fit`.
        operating_point : OperatingPoint, default=None
            Criterion by which the thresholds are chosen, such as ``Budget(0.4)``. If None, the
            parameters `threshold`, `budget` and `operating_point` of the estimator are used, or
            else the default for the number of these samples.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights, as in `fit`.
        groups : array-like of shape (n_samples,), default=None
            Group of each sample, such as the patient. A guarantee is then one for new groups, and
            depends on their number. If None, all samples are independent.

        Returns
        -------
        self : object
            Calibrated estimator.

        Raises
        ------
        TypeError
            If `operating_point` is not an operating point.
        ValueError
            If X, y, `sample_weight` or `groups` is invalid, or no thresholds satisfy
            `operating_point`. It is a `NotCertifiedError` if a guarantee was requested and cannot
            be given.
        """
        check_is_fitted(self)
        y, X = labels_of(X, y), self._validate_rows(X)
        encoded = self._task.encoded(y, X)
        weight = None if sample_weight is None else checked_weight(sample_weight, X)
        groups = None if groups is None else checked_groups(groups, X)
        request = requested_point(self) if operating_point is None else operating_point
        if request is not None:
            if not isinstance(request, OperatingPoint):
                raise TypeError(
                    f"'operating_point' must be an object such as Budget(0.4); got {request!r}."
                )
            request._validate_params()
            self._task.check(request)
            check_routing(request, self.cascade_.exit_rule)
        needs_probabilities = request is not None and request.needs_probabilities
        table = tabulate(self.cascade_, X) if needs_probabilities else self._tabulated(X)
        data = self._task.calibration_data(table, encoded, self.costs_, weight, groups=groups)
        with naming_candidates(self._candidates, lambda: self.cost_table_):
            point, frontier = choose_point(request, self.cascade_, data, self._task)
        self._set_point(point, frontier, _remembered(data.scores))
        return self

    def partial_calibrate(self, X: Any, *, window: int = REMEMBERED_ROWS) -> Self:
        """Adapt the thresholds to unlabeled samples to keep the mean cost under drift.

        The scores of the most recent samples are stored, initially those of up to 1,000 randomly
        chosen calibration samples. The thresholds are set such that, of the stored samples, at
        least as large a share exits by each exit as in the calibration. The thresholds of all
        points of `frontier_` are adapted in the same way. What is predicted at each exit is not
        changed.

        The accuracy on the new samples is not known, and a guarantee given in calibration no longer
        holds.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            New samples in the order of time. All exits are computed for them.
        window : int, default=1000
            Number of most recent samples whose scores are used.

        Returns
        -------
        self : object
            Estimator with adapted `thresholds_`, `operating_point_` and `frontier_`. With a single
            exit there is nothing to adapt. If an error is raised, nothing is changed.

        Raises
        ------
        ValueError
            If the model has not been calibrated or has a router, or `window` is not a positive
            integer.

        Notes
        -----
        A short window follows fast changes; a long window estimates the quantiles of the scores
        more precisely.
        """
        check_is_fitted(self)
        if not isinstance(window, Integral) or window < 1:
            raise ValueError(f"'window' must be a positive integer; got {window!r}.")
        X = self._validate_rows(X)
        if self.n_exits_ == 1:
            return self
        if self.cascade_.exit_rule.router is not None:
            raise ValueError(
                "partial_calibrate keeps exit rates, and with a router the mean cost also depends "
                "on the exits that samples skip. Call calibrate(X, y) with new labeled samples."
            )
        if self.frontier_ is None:
            raise ValueError(
                "partial_calibrate adapts calibrated thresholds, and this model has not been "
                "calibrated. Call calibrate(X, y) first."
            )
        scores = self._tabulated(X).scores
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
            n_samples=len(recent),
            cost=float(self.costs_[exits].mean()),
            accuracy=np.nan,
            error=np.nan,
            certified=None if point.certified is None else False,
            reason=f"Adapted to the last {len(recent)} samples, without labels, to keep the cost.",
        )
        self._set_point(moved_point, replace(frontier, thresholds=moved), recent)
        return self

    def _point(self, threshold: Any, budget: float | Budget | None) -> CalibratedPoint:
        """Operating point for the arguments of a prediction."""
        if not self.__sklearn_is_fitted__():  # scikit-learn collects the tags before it asks this
            check_is_fitted(self)
        if threshold is not None and budget is not None:
            raise ValueError("At most one of 'threshold' and 'budget' may be given; got both.")
        if budget is None:
            if threshold is None:
                point = self.operating_point_
                if np.array_equal(self.thresholds_, point.thresholds):
                    return point
                # The user has changed `thresholds_`, and nothing else of the point applies to them.
                threshold = self.thresholds_
            given = Threshold(threshold)
            return CalibratedPoint(given, given.fixed_thresholds(self.n_exits_))
        if self.frontier_ is None:
            raise ValueError(
                "A budget needs calibration samples, and this model has none: it was fitted "
                "without any, or partial_fit has trained it since. Call calibrate(X, y) with "
                "samples that it was not fitted on, or give a threshold."
            )
        table = self.cost_table_
        if isinstance(budget, Budget):
            check_routing(budget, self.cascade_.exit_rule)
        with naming_candidates(self._candidates, lambda: table):
            return look_up(budget, self.frontier_, self.costs_, table.unit, table.plain)

    @property
    def _in_onnx(self) -> bool:
        """Whether predictions run in ONNX Runtime; `runtime` may have been set after `fit`."""
        known = (self._own_runtime, "onnx")
        if self.runtime not in known:
            raise ValueError(
                f"The 'runtime' parameter of {type(self).__name__} must be {known[0]!r} or "
                f"{known[1]!r}. Got {self.runtime!r} instead."
            )
        return self.runtime == "onnx"

    def _session(self, point: CalibratedPoint) -> Session:
        """Session of ONNX Runtime, compiled in the first call, that can run at a point."""
        check_point(point, self._own_runtime)
        return session_of(self.cascade_, self._convertible)

    def _sessions(self, point: CalibratedPoint) -> tuple[Session, Session]:
        """Session of ONNX Runtime, and another one for a single sample at this point."""
        check_point(point, self._own_runtime)
        return sessions_at(self.cascade_, self._convertible, point.thresholds)

    def _run(self, X: Any, point: CalibratedPoint, *, with_probabilities: bool = False) -> Answers:
        if self._in_onnx:
            session, rows = self._session(point), self._validate_dense(X)
            return session.run(rows, point.thresholds, with_probabilities=with_probabilities)
        X = self._validate_rows(X)
        return run(
            self.cascade_,
            X,
            point.thresholds,
            strict_budget=point.strict_budget,
            with_probabilities=with_probabilities,
        )

    def _label_table(self, X: Any) -> Table:
        """Labels and scores as in `exit_table`, without keeping probabilities in memory."""
        check_is_fitted(self)
        return self._tabulated(self._validate_rows(X))

    def _tabulated(self, X: Any) -> Table:
        """The same for validated samples."""
        return label_table(self.cascade_.network, self.cascade_.exit_rule, X)

    def _outcomes(
        self, X: Any, table: Table, point: CalibratedPoint
    ) -> tuple[np.ndarray, np.ndarray]:
        """Exit and cost of each of the validated samples X, given their table."""
        strict_budget = point.strict_budget
        if strict_budget is None:
            return table.outcomes(point.thresholds, self.costs_)
        exits = run(self.cascade_, X, point.thresholds, strict_budget=strict_budget).exits
        return exits, self.costs_[exits]

    def _or_unchanged(self, change: Callable[[], None]) -> None:
        """Change the estimator, which is as it was before if an error is raised."""
        before = dict(vars(self))
        try:
            with gradients():
                ending_turns(change)
        except BaseException:
            # A model that was fitted before is kept.
            self.__dict__ = before
            raise

    def _set_fitted(
        self, model: FittedModel | ChainModel, task: Task, exit_names: list[str], **others: Any
    ) -> None:
        """Set all fitted attributes, `others` among them."""
        cascade = model.cascade
        # Set by one operation, since an interrupt may occur between any two.
        self.__dict__.update(
            **task.attributes(),
            _task=task,
            cascade_=cascade,
            n_exits_=cascade.n_exits,
            exit_names_=exit_names,
            costs_=cascade.costs,
            cost_table_=cascade.cost_table,
            **_of_point(model.point, model.frontier, _remembered(model.scores)),
            **others,
        )

    def _set_point(
        self, point: CalibratedPoint, frontier: Frontier | None, recent: np.ndarray
    ) -> None:
        """Set the fitted attributes that depend on the calibration, by one operation as well."""
        self.__dict__.update(_of_point(point, frontier, recent))


def _of_point(
    point: CalibratedPoint, frontier: Frontier | None, recent: np.ndarray
) -> dict[str, Any]:
    """Fitted attributes that depend on the calibration."""
    return {
        "operating_point_": point,
        "thresholds_": point.thresholds.copy(),  # which the user may change
        "frontier_": frontier,
        "_recent_scores": recent,
    }


def _remembered(scores: np.ndarray) -> np.ndarray:
    """Scores of some calibration samples, in random order since the first are dropped first."""
    order = np.random.RandomState(0).permutation(len(scores))[:REMEMBERED_ROWS]
    return scores[order]

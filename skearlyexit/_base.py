"""What is asked of any fitted estimator with exits."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skearlyexit._cascade._cascade import Cascade
from skearlyexit._data._labels import encode_labels
from skearlyexit._data._sources import labels_of
from skearlyexit._data._weights import checked_weight
from skearlyexit._exit_table import ExitTable, LabelTable, exits_of
from skearlyexit._fitting._operating_point import choose_point, requested_point
from skearlyexit.calibration import (
    Budget,
    CalibratedPoint,
    CalibrationData,
    Frontier,
    OperatingPoint,
    Threshold,
)
from skearlyexit.calibration._budget import look_up
from skearlyexit.calibration._shares import thresholds_for_shares
from skearlyexit.costs import CostTable
from skearlyexit.metrics import ExitReport
from skearlyexit.runtime._torch import Answers, label_table, run, tabulate

#: Calibration rows whose scores are remembered, for thresholds that follow a drift.
REMEMBERED_ROWS = 1000


class BaseEarlyExit(BaseEstimator, metaclass=ABCMeta):
    """Base of estimators with exits: predictions, operating points and reports."""

    classes_: np.ndarray
    cascade_: Cascade
    n_exits_: int
    exit_names_: list[str]
    costs_: np.ndarray
    cost_table_: CostTable
    thresholds_: np.ndarray
    frontier_: Frontier | None
    operating_point_: CalibratedPoint
    _recent_scores: np.ndarray

    # Arguments of these methods are for this estimator wherever they are passed in.
    __metadata_request__predict: ClassVar[dict[str, bool]] = {
        "threshold": True,
        "budget": True,
        "return_exits": True,
    }
    __metadata_request__predict_proba = __metadata_request__predict
    __metadata_request__score: ClassVar[dict[str, bool]] = {"threshold": True, "budget": True}

    @abstractmethod
    def _validate_rows(self, X: Any) -> Any:
        """Samples to answer, as the cascade reads them."""

    def predict(
        self,
        X: Any,
        *,
        threshold: float | Sequence[float] | None = None,
        budget: float | Budget | None = None,
        return_exits: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Predict labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Rows; of a `numpy.memmap` or a torch Dataset, some at a time are in memory.
        threshold : float or sequence of float, default=None
            Thresholds for this call instead of `thresholds_`.
        budget : float or Budget, default=None
            Largest mean cost per row for this call, in units of the plain network; looked up on
            `frontier_`. ``Budget(0.4, strict=True)`` keeps it on these very rows.
        return_exits : bool, default=False
            Whether to return the exits too.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Labels.
        exits : ndarray of shape (n_samples,)
            Exit at which each row left, from 0; only with `return_exits`.

        Raises
        ------
        ValueError
            If both operating points are given, or the budget cannot be met.
        """
        answers = self._run(X, self._point(threshold, budget))
        labels = self.classes_[answers.labels]
        return (labels, answers.exits) if return_exits else labels

    def predict_proba(
        self,
        X: Any,
        *,
        threshold: float | Sequence[float] | None = None,
        budget: float | Budget | None = None,
        return_exits: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Predict class probabilities, those of the exit at which each row leaves.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        threshold : float or sequence of float, default=None
            As in `predict`.
        budget : float or Budget, default=None
            As in `predict`.
        return_exits : bool, default=False
            Whether to return the exits too.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Columns as in `classes_`. A head that gives labels only has all its probability on its
            label.
        exits : ndarray of shape (n_samples,)
            Only with `return_exits`.
        """
        answers = self._run(X, self._point(threshold, budget), with_probabilities=True)
        assert answers.probabilities is not None
        return (answers.probabilities, answers.exits) if return_exits else answers.probabilities

    def staged_predict(self, X: Any) -> Iterator[np.ndarray]:
        """Predict labels at every exit.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Yields
        ------
        y : ndarray of shape (n_samples,)
            Labels of one exit after the other.
        """
        yield from self.classes_[self._label_table(X).labels.T]

    def staged_predict_proba(self, X: Any) -> Iterator[np.ndarray]:
        """Predict class probabilities at every exit.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Yields
        ------
        probabilities : ndarray of shape (n_samples, n_classes)
            Probabilities of one exit after the other.
        """
        yield from self.exit_table(X).probabilities.swapaxes(0, 1)

    def exit_table(self, X: Any) -> ExitTable:
        """Outputs of every exit for every row, whether it would leave there or not.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        table : ExitTable
            Probabilities and scores. ``table.leave(thresholds)`` are the exits that `predict`
            gives; its labels are indices into `classes_`.
        """
        check_is_fitted(self)
        return tabulate(self.cascade_, self._validate_rows(X))

    def exit_report(
        self,
        X: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        threshold: float | Sequence[float] | None = None,
        budget: float | Budget | None = None,
        confidence_level: float = 0.95,
    ) -> ExitReport:
        """Tell where rows leave, and what that saves and loses.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples that the model was neither fitted nor calibrated on.
        y : array-like of shape (n_samples,), default=None
            Labels among `classes_`. None takes those in the items of a torch Dataset.
        sample_weight : array-like of shape (n_samples,), default=None
            Samples of weight 0 are left out.
        threshold : float or sequence of float, default=None
            As in `predict`.
        budget : float or Budget, default=None
            As in `predict`.
        confidence_level : float, default=0.95
            Of every interval.

        Returns
        -------
        report : ExitReport
            Prints as a page of text or HTML; ``report.to_frame()`` is a data frame.

        Raises
        ------
        ValueError
            If data or arguments do not fit, or the budget cannot be met.
        """
        point = self._point(threshold, budget)
        y, X = labels_of(X, y), self._validate_rows(X)
        encoded = encode_labels(y, X, self.classes_)
        exits = None
        if point.quota is not None:
            exits = run(self.cascade_, X, point.thresholds, quota=point.quota).exits
        request = "" if point.request is None else point.request.description
        return ExitReport.from_table(
            self._tabulated(X),
            encoded,
            point.thresholds,
            self.costs_,
            exits=exits,
            classes=self.classes_,
            exit_names=self.exit_names_,
            weight=checked_weight(sample_weight, X),
            confidence_level=confidence_level,
            request=request,
            certified=point.certified,
            reason=point.reason,
        )

    def calibrate(
        self,
        X: Any,
        y: Any = None,
        operating_point: OperatingPoint | None = None,
        *,
        sample_weight: Any = None,
    ) -> Self:
        """Choose thresholds anew, on rows that the model was not fitted on.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        y : array-like of shape (n_samples,), default=None
            Labels among `classes_`. None takes those in the items of a torch Dataset.
        operating_point : OperatingPoint, default=None
            None: what the parameters of the estimator ask for.
        sample_weight : array-like of shape (n_samples,), default=None
            As in `fit`.

        Returns
        -------
        self : object
            With new `frontier_`, `operating_point_` and `thresholds_`. On an error nothing is
            changed.
        """
        check_is_fitted(self)
        y, X = labels_of(X, y), self._validate_rows(X)
        encoded = encode_labels(y, X, self.classes_)
        weight = None if sample_weight is None else checked_weight(sample_weight, X)
        table = self._tabulated(X)
        evidence = CalibrationData.from_table(table, encoded, self.costs_, weight, self.classes_)
        request = requested_point(self) if operating_point is None else operating_point
        if request is not None:
            if not isinstance(request, OperatingPoint):
                raise TypeError(
                    "'operating_point' must be an object such as Budget(0.4), with its "
                    f"parentheses; got {request!r}."
                )
            request._validate_params()
        point, frontier = choose_point(request, self.cascade_, evidence)
        self._set_point(point, frontier, remembered(evidence.scores))
        return self

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
            n_rows=len(recent),
            cost=float(self.costs_[exits].mean()),
            accuracy=np.nan,
            certified=None if point.certified is None else False,
            reason=f"Moved with the last {len(recent)} rows, without labels, to keep the cost.",
        )
        self._set_point(moved_point, replace(frontier, thresholds=moved), recent)
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

    def _label_table(self, X: Any) -> LabelTable:
        """Labels and scores of `exit_table`, without its memory."""
        check_is_fitted(self)
        return self._tabulated(self._validate_rows(X))

    def _tabulated(self, X: Any) -> LabelTable:
        return label_table(self.cascade_.network, self.cascade_.exit_rule, X)

    def _set_point(
        self, point: CalibratedPoint, frontier: Frontier | None, recent: np.ndarray
    ) -> None:
        # One operation, since an interrupt may come between any two.
        self.__dict__.update(
            operating_point_=point,
            thresholds_=point.thresholds,
            frontier_=frontier,
            _recent_scores=recent,
        )


def remembered(scores: np.ndarray) -> np.ndarray:
    """Scores of calibration samples in a random order, since the first are forgotten first."""
    order = np.random.RandomState(0).permutation(len(scores))[:REMEMBERED_ROWS]
    return scores[order]

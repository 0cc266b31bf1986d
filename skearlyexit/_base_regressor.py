"""What is asked of regressors with exits, besides what is asked of any estimator with exits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import Tags

from skearlyexit._base import BaseEarlyExit
from skearlyexit._data._sources import labels_of
from skearlyexit._data._weights import checked_weight, scaled
from skearlyexit._exit_table import PredictionTable
from skearlyexit._task._base import Task
from skearlyexit._task._regression import Regression
from skearlyexit.calibration import Budget


class BaseExitRegressor(RegressorMixin, BaseEarlyExit):
    """Base class of regressors with exits: values of targets, and R2."""

    n_outputs_: int
    _task: Regression
    _task_class: ClassVar[type[Task]] = Regression

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def predict(
        self,
        X: Any,
        *,
        threshold: float | Sequence[float] | None = None,
        budget: float | Budget | None = None,
        return_exits: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Predict the targets.

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
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            Predicted values, of the shape of y in `fit`.
        exits : ndarray of shape (n_samples,)
            Index of the exit of each sample, from 0 to ``n_exits_ - 1``. Only returned if
            `return_exits` is True.

        Raises
        ------
        ValueError
            If both `threshold` and `budget` are given, a threshold is negative, the budget cannot
            be met, or a budget is given and the model has not been calibrated.
        """
        return super().predict(X, threshold=threshold, budget=budget, return_exits=return_exits)

    def staged_predict(self, X: Any) -> Iterator[np.ndarray]:
        """Predict the targets at every exit.

        All exits are computed for all samples, whatever the thresholds are.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Samples, as in `predict`.

        Yields
        ------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            Values predicted at each exit, from the first exit to the last.
        """
        yield from super().staged_predict(X)

    def exit_table(self, X: Any) -> PredictionTable:
        """Compute the outputs of every exit for every sample.

        All exits are computed for all samples, whatever the thresholds are.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Samples, as in `predict`.

        Returns
        -------
        table : PredictionTable
            Predicted values and scores. ``table.exits(thresholds)`` returns the exits that
            `predict` returns under these thresholds.
        """
        table: PredictionTable = super().exit_table(X)
        return table

    def score(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        threshold: float | Sequence[float] | None = None,
        budget: float | Budget | None = None,
    ) -> float:
        """Return the coefficient of determination, R2, on the given samples and targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Test samples, as in `predict`.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), default=None
            True values. May be None only if it may be None in `fit`.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        threshold : float or sequence of float, default=None
            One threshold for all exits, or one for each exit but the last, to use in this call.
        budget : float or Budget, default=None
            Maximum mean cost per sample to use in this call, as in `predict`.

        Returns
        -------
        score : float
            R2 of ``predict(X)`` with respect to y, the mean of those of several targets.

        Raises
        ------
        ValueError
            As in `predict`.
        """
        y = labels_of(X, y)
        predicted = self.predict(X, threshold=threshold, budget=budget)
        weight = None if sample_weight is None else scaled(checked_weight(sample_weight, predicted))
        return float(r2_score(y, predicted, sample_weight=weight))

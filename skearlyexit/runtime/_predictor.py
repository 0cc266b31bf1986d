"""Predictions for single samples and small batches, without what an estimator adds to them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from skearlyexit._cascade._cascade import Cascade
from skearlyexit._task._base import Task
from skearlyexit.calibration import CalibratedPoint
from skearlyexit.runtime._driver import Answers, Run
from skearlyexit.runtime._executor import Executor, executor_of
from skearlyexit.runtime._onnx_session import Session
from skearlyexit.runtime._row_format import GivenFormat, RowFormat


@dataclass(frozen=True, eq=False)
class Predictor:
    """Predictions of a fitted estimator at a fixed operating point.

    It is returned by `to_predictor` of the estimator, and is for single samples and small
    batches inside a service: thresholds are looked up once, and samples are checked for shape,
    precision and finite values only. Nothing that is done to the estimator later changes it, and
    several threads may call its methods. It can be pickled, except with ``runtime="onnx"``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels. They cannot be changed. Only of classifiers.
    costs_ : ndarray of shape (n_exits,)
        Cumulative cost of exiting at each exit, in units of the cost of the plain network.
    thresholds_ : ndarray of shape (n_exits - 1,)
        Thresholds in use. They cannot be changed.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> X, y = make_classification(300, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"], random_state=0).fit(X, y)
    >>> predictor = clf.to_predictor(threshold=0.9)
    >>> labels, exits = predictor.predict(X[:1], return_exits=True)
    >>> bool((predictor.predict(X) == clf.predict(X, threshold=0.9)).all())
    True
    """

    costs_: np.ndarray
    thresholds_: np.ndarray
    _task: Task
    _row_format: RowFormat | GivenFormat
    _run: Callable[..., Answers]

    @cached_property
    def classes_(self) -> np.ndarray:
        """Class labels."""
        attributes = self._task.attributes()
        if "classes_" not in attributes:
            raise AttributeError("The predictor of a regressor has no classes.")
        return _constant(attributes["classes_"])

    def predict(
        self, X: np.ndarray, *, return_exits: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Predict class labels, or values of targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Samples of the shape seen in `fit`, as a dense array or data frame of finite numbers.
            An array of the precision of the network is not converted.
        return_exits : bool, default=False
            Whether to return the exit of each sample as well.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            Predicted labels or values.
        exits : ndarray of shape (n_samples,)
            Index of the exit of each sample. Only returned if `return_exits` is True.

        Raises
        ------
        ValueError
            If X is invalid, or outputs are NaN.
        """
        answers = self._run(self._row_format.checked(X), with_probabilities=False)
        predicted = self._task.decoded(answers.labels)
        return (predicted, answers.exits) if return_exits else predicted

    def predict_proba(
        self, X: np.ndarray, *, return_exits: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Predict class probabilities, those at the exit of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Samples, as in `predict`.
        return_exits : bool, default=False
            Whether to return the exit of each sample as well.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Class probabilities, in the order of `classes_`.
        exits : ndarray of shape (n_samples,)
            Index of the exit of each sample. Only returned if `return_exits` is True.

        Raises
        ------
        AttributeError
            If the predictor is that of a regressor.
        ValueError
            As in `predict`.
        """
        _ = self.classes_
        answers = self._run(self._row_format.checked(X), with_probabilities=True)
        assert answers.probabilities is not None
        return (answers.probabilities, answers.exits) if return_exits else answers.probabilities


@dataclass(frozen=True)
class _SessionRun:
    """A run of ONNX Runtime with thresholds, and one for a single sample, which is faster."""

    session: Session
    of_one: Session
    thresholds: np.ndarray

    def __call__(self, X: np.ndarray, *, with_probabilities: bool) -> Answers:
        session = self.of_one if len(X) == 1 else self.session
        return session.run(X, self.thresholds, with_probabilities=with_probabilities)


def own_predictor(
    cascade: Cascade,
    task: Task,
    point: CalibratedPoint,
    row_format: RowFormat | GivenFormat,
    executor: Callable[[Any], Executor] = executor_of,
) -> Predictor:
    """Predictor that executes a copy of a cascade with torch, or by calls of its estimators."""
    cascade, task = copy.deepcopy((cascade, task))
    thresholds = _constant(point.thresholds)
    run = Run.prepared(
        executor(cascade.network), cascade.exit_rule, thresholds, point.strict_budget
    )
    return Predictor(_constant(cascade.costs), thresholds, task, row_format, run)


def onnx_predictor(
    sessions: tuple[Session, Session],
    costs: np.ndarray,
    task: Task,
    point: CalibratedPoint,
    row_format: RowFormat,
) -> Predictor:
    """Predictor that executes a cascade with ONNX Runtime."""
    thresholds = _constant(point.thresholds)
    run = _SessionRun(*sessions, thresholds)
    return Predictor(_constant(costs), thresholds, copy.deepcopy(task), row_format, run)


def _constant(values: np.ndarray) -> np.ndarray:
    """Copy that cannot be changed."""
    values = values.copy()
    values.flags.writeable = False
    return values

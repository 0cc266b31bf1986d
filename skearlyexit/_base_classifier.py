"""What is asked of classifiers with exits, besides what is asked of any estimator with exits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import column_or_1d

from skearlyexit._base import PREDICTION_REQUEST, BaseEarlyExit
from skearlyexit._data._labels import check_labels
from skearlyexit._data._sources import labels_of
from skearlyexit._data._weights import checked_weight, scaled
from skearlyexit._task._base import Task
from skearlyexit._task._classification import Classification
from skearlyexit._utils._interrupts import quietly
from skearlyexit.calibration import Budget


class BaseExitClassifier(ClassifierMixin, BaseEarlyExit):
    """Base class of classifiers with exits: probabilities and accuracy."""

    classes_: np.ndarray
    _task: Classification
    _task_class: ClassVar[type[Task]] = Classification

    __metadata_request__predict_proba: ClassVar[dict[str, bool]] = PREDICTION_REQUEST
    __metadata_request__predict_log_proba: ClassVar[dict[str, bool]] = PREDICTION_REQUEST

    def predict_proba(
        self,
        X: Any,
        *,
        threshold: float | Sequence[float] | None = None,
        budget: float | Budget | None = None,
        return_exits: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Predict class probabilities.

        The probabilities of a sample are those predicted at its exit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Samples, as in `predict`.
        threshold : float or sequence of float, default=None
            One threshold for all exits, or one for each exit but the last, to use in this call.
        budget : float or Budget, default=None
            Maximum mean cost per sample to use in this call, as in `predict`.
        return_exits : bool, default=False
            Whether to return the exit of each sample as well.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Class probabilities, in the order of `classes_`. Where only labels are predicted, the
            predicted label has probability 1.
        exits : ndarray of shape (n_samples,)
            Index of the exit of each sample. Only returned if `return_exits` is True.

        Raises
        ------
        ValueError
            As in `predict`.
        """
        answers = self._run(X, self._point(threshold, budget), with_probabilities=True)
        assert answers.probabilities is not None
        return (answers.probabilities, answers.exits) if return_exits else answers.probabilities

    def predict_log_proba(
        self,
        X: Any,
        *,
        threshold: float | Sequence[float] | None = None,
        budget: float | Budget | None = None,
        return_exits: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Predict logarithms of class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Samples, as in `predict`.
        threshold : float or sequence of float, default=None
            One threshold for all exits, or one for each exit but the last, to use in this call.
        budget : float or Budget, default=None
            Maximum mean cost per sample to use in this call, as in `predict`.
        return_exits : bool, default=False
            Whether to return the exit of each sample as well.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
            Logarithms of the probabilities that `predict_proba` returns; ``-inf`` where a
            probability is 0.
        exits : ndarray of shape (n_samples,)
            Index of the exit of each sample. Only returned if `return_exits` is True.

        Raises
        ------
        ValueError
            As in `predict`.
        """
        probabilities, exits = self.predict_proba(
            X, threshold=threshold, budget=budget, return_exits=True
        )
        logarithms = quietly(lambda: np.log(probabilities), "divide")
        return (logarithms, exits) if return_exits else logarithms

    def staged_predict_proba(self, X: Any) -> Iterator[np.ndarray]:
        """Predict class probabilities at every exit.

        All exits are computed for all samples, whatever the thresholds are.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Samples, as in `predict`.

        Yields
        ------
        probabilities : ndarray of shape (n_samples, n_classes)
            Class probabilities predicted at each exit, from the first exit to the last.
        """
        yield from self.exit_table(X).probabilities.swapaxes(0, 1)

    def score(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        threshold: float | Sequence[float] | None = None,
        budget: float | Budget | None = None,
    ) -> float:
        """Return the accuracy on the given samples and labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Test samples, as in `predict`.
        y : array-like of shape (n_samples,), default=None
            True labels. May be None only if it may be None in `fit`.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        threshold : float or sequence of float, default=None
            One threshold for all exits, or one for each exit but the last, to use in this call.
        budget : float or Budget, default=None
            Maximum mean cost per sample to use in this call, as in `predict`.

        Returns
        -------
        score : float
            Accuracy of ``predict(X)`` with respect to y.

        Raises
        ------
        ValueError
            As in `predict`.
        """
        y = labels_of(X, y)
        check_labels(y)
        y = column_or_1d(y)
        labels = self.predict(X, threshold=threshold, budget=budget)
        weight = scaled(checked_weight(sample_weight, labels))
        return float(accuracy_score(y, labels, sample_weight=weight))

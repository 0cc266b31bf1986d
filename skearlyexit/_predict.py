"""What a classifier answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import column_or_1d

from skearlyexit._base import BaseEarlyExit
from skearlyexit._data._labels import check_labels
from skearlyexit._data._sources import labels_of
from skearlyexit._data._weights import checked_weight, scaled
from skearlyexit.calibration import Budget


class PredictMixin(ClassifierMixin, BaseEarlyExit):
    """Adds what is asked of a fitted classifier."""

    classes_: np.ndarray

    # Arguments of these methods are for this estimator wherever they are passed in.
    __metadata_request__predict: ClassVar[dict[str, bool]] = {
        "threshold": True,
        "budget": True,
        "return_exits": True,
    }
    __metadata_request__predict_proba = __metadata_request__predict
    __metadata_request__score: ClassVar[dict[str, bool]] = {"threshold": True, "budget": True}

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

    def score(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        threshold: float | Sequence[float] | None = None,
        budget: float | Budget | None = None,
    ) -> float:
        """Accuracy.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        y : array-like of shape (n_samples,), default=None
            None takes the labels in the items of a torch Dataset.
        sample_weight : array-like of shape (n_samples,), default=None
        threshold : float or sequence of float, default=None
            As in `predict`.
        budget : float or Budget, default=None
            As in `predict`.

        Returns
        -------
        score : float
        """
        y = labels_of(X, y)
        check_labels(y)
        y = column_or_1d(y)
        labels = self.predict(X, threshold=threshold, budget=budget)
        weight = scaled(checked_weight(sample_weight, labels))
        return float(accuracy_score(y, labels, sample_weight=weight))

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

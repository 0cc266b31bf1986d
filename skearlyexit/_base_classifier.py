"""What is asked of classifiers with exits, besides what is asked of any estimator with exits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import column_or_1d

from skearlyexit._base import BaseEarlyExit
from skearlyexit._data._labels import check_labels
from skearlyexit._data._sources import labels_of
from skearlyexit._data._weights import checked_weight, scaled
from skearlyexit.calibration import Budget


class BaseExitClassifier(ClassifierMixin, BaseEarlyExit):
    """Base class of classifiers with exits: their accuracy."""

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

"""Scikit-learn classifiers whose prediction for a sample does not depend on the other samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state

from skearlyexit._data._given import GivenRows, copied
from skearlyexit._determinism._estimator import (
    USUAL_CALLS,
    BatchInvariantEstimator,
    Calls,
    drawn_by_weight,
    fit_weighted,
    last_step,
    set_seeds,
)
from skearlyexit._determinism._random import isolated_random_state
from skearlyexit._onnx._estimators import add_estimator
from skearlyexit._onnx._graph import Graph
from skearlyexit._utils._interrupts import quietly
from skearlyexit._utils._warnings import warn


@dataclass
class BatchInvariantClassifier(BatchInvariantEstimator):
    """A fitted scikit-learn classifier whose predictions do not depend on the batch.

    Attributes
    ----------
    labels : ndarray of shape (n_known,)
        The ``classes_`` of the estimator, some of the labels or of their indices.
    columns : ndarray of shape (n_known,)
        Index of the class of each of these labels.
    n_classes : int
        Number of all classes, of which the estimator may not know some.
    """

    labels: np.ndarray
    columns: np.ndarray
    n_classes: int

    @classmethod
    def fit(
        cls,
        estimator: Any,
        X: np.ndarray | GivenRows,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        *,
        classes: np.ndarray,
        needs_probabilities: bool,
        seed: int,
        advice: str,
        calls: Calls = USUAL_CALLS,
    ) -> BatchInvariantClassifier:
        """Fit a clone of a classifier or pipeline.

        If probabilities are needed, a classifier without `predict_proba` is given probabilities by
        ``CalibratedClassifierCV(ensemble=False)``; classes with a single sample, for which this is
        impossible, are then omitted with a warning. A classifier whose `fit` does not support
        `sample_weight` is fitted on samples drawn by weight. Parameters `random_state` that are
        None are set to seeds derived from `seed`. `n_jobs` is set to 1 after fitting, which makes
        predictions reproducible. An estimator that fails with the labels is fitted on the integers
        0, 1, ... instead, which some require.

        Parameters
        ----------
        estimator : scikit-learn classifier or pipeline
        X : ndarray of shape (n_samples, n_features), float64, or GivenRows
        y : ndarray of shape (n_samples,)
            Labels among `classes`.
        sample_weight : ndarray of shape (n_samples,) or None
        classes : ndarray of shape (n_classes,)
        needs_probabilities : bool
        seed : int
        advice : str
            Advice of error messages if there are no probabilities.
        calls : Calls, default=Calls()
            How the fitted estimator is called.

        Returns
        -------
        fitted : BatchInvariantClassifier

        Raises
        ------
        ValueError
            If probabilities are needed and the classifier has neither `predict_proba` nor
            `decision_function`, or its ``classes_`` are not labels that it was fitted on.
        """
        rng = check_random_state(seed)
        estimator = clone(estimator)
        set_seeds(estimator, rng)
        X, y, weight = drawn_by_weight(estimator, X, y, sample_weight, rng)
        if needs_probabilities and _has_to_be_calibrated(estimator):
            keep = _can_be_calibrated(estimator, y, advice)
            X, y = X[keep], y[keep]
            weight = None if weight is None else weight[keep]
            estimator = _calibrated(estimator, cv=int(min(5, np.unique_counts(y).counts.min())))
        if np.all(y == y[0]):
            # Samples of a single class, as there may be in a small fold.
            estimator = DummyClassifier(strategy="prior")
        with isolated_random_state(int(rng.randint(np.iinfo(np.int32).max)), shared=True):
            fitted = cls._on_labels_it_takes(estimator, X, y, weight, classes, calls)
        if needs_probabilities and not hasattr(fitted.model, "predict_proba"):
            raise ValueError(
                f"{type(last_step(estimator)).__name__} has neither predict_proba nor "
                f"decision_function. {advice}"
            )
        return fitted

    @classmethod
    def _on_labels_it_takes(
        cls,
        estimator: Any,
        X: np.ndarray | GivenRows,
        y: np.ndarray,
        weight: np.ndarray | None,
        classes: np.ndarray,
        calls: Calls,
    ) -> BatchInvariantClassifier:
        """Fit on the labels, or on the integers 0, 1, ... if the estimator fails with them."""
        every, n_classes = np.arange(len(classes)), len(classes)
        try:
            fitted = cls._fitted(clone(estimator), X, y, weight, classes, every, n_classes)
            return fitted._tested(X, calls)
        except Exception:
            present, codes = np.unique(np.searchsorted(classes, y), return_inverse=True)
            if y.dtype.kind in "iu" and np.array_equal(classes[present], np.arange(len(present))):
                raise
            try:
                encoded = encode_class_weight(clone(estimator), classes, present)
                names = np.arange(len(present))
                fitted = cls._fitted(encoded, X, codes, weight, names, present, n_classes)
                return fitted._tested(X, calls)
            except Exception:
                pass  # the labels were not the cause
            raise

    @classmethod
    def _fitted(
        cls,
        estimator: Any,
        X: np.ndarray | GivenRows,
        y: np.ndarray,
        weight: np.ndarray | None,
        labels: np.ndarray,
        columns: np.ndarray,
        n_classes: int,
    ) -> BatchInvariantClassifier:
        """Fit the estimator on labels, or on indices of labels, and check that it predicts."""
        fit_weighted(estimator, X, y, weight)
        known = np.asarray(getattr(estimator, "classes_", np.unique(y))).tolist()
        positions = {label: i for i, label in enumerate(labels.tolist())}
        if len(set(known)) < len(known) or not set(known) <= set(positions):
            raise ValueError(
                f"{type(last_step(estimator)).__name__} was fitted on the labels "
                f"{np.unique(y)[:20].tolist()}, and its classes_ are {known[:20]}. A classifier "
                "must set classes_ to labels that it was fitted on, each once."
            )
        index = np.array([positions[label] for label in known], dtype=np.intp)
        return cls(estimator, labels[index], columns[index], n_classes)

    @classmethod
    def of_fitted(
        cls,
        estimator: Any,
        X: np.ndarray | GivenRows,
        classes: np.ndarray,
        calls: Calls,
    ) -> BatchInvariantClassifier:
        """Make it from a classifier that was fitted on all of these classes.

        Parameters
        ----------
        estimator : fitted classifier or pipeline
            Its parameters `n_jobs` are changed.
        X : ndarray of shape (n_samples, n_features), float64, or GivenRows
            Samples, with some of which it is tested whether predictions depend on other samples.
        classes : ndarray of shape (n_classes,)
            Sorted labels, which are the ``classes_`` of the estimator in any order.
        calls : Calls
            How the fitted estimator is called.

        Returns
        -------
        fitted : BatchInvariantClassifier
        """
        labels = np.asarray(estimator.classes_)
        columns = np.searchsorted(classes, labels)
        fitted = cls(estimator, labels, columns, len(classes))
        return fitted._tested(X, calls)

    def predict_proba(self, vectors: np.ndarray | GivenRows) -> np.ndarray:
        """Predict class probabilities, which are 0 or 1 for an estimator without `predict_proba`.

        Parameters
        ----------
        vectors : ndarray of shape (n_samples, n_features), float64, or GivenRows

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
        """
        return self.outputs(vectors)

    def _predict(self, vectors: np.ndarray | GivenRows) -> np.ndarray:
        given = copied(vectors)  # since the estimator may change its input in place
        probabilities = np.zeros((len(vectors), self.n_classes))
        if hasattr(self.model, "predict_proba"):
            found = np.array(self.model.predict_proba(given), dtype=np.float64)
            if found.shape != (len(vectors), len(self.labels)):
                raise ValueError(
                    f"predict_proba of {type(last_step(self.model)).__name__} must return one "
                    f"column for each of its {len(self.labels)} classes. Got an array of shape "
                    f"{found.shape} for {len(vectors)} samples."
                )
            probabilities[:, self.columns] = _normalized(found)
            return probabilities
        predicted = np.asarray(self.model.predict(given))
        is_label = predicted[:, None] == self.labels
        if not np.all(is_label.any(axis=1)):
            raise ValueError(
                f"predict of {type(last_step(self.model)).__name__} must return labels among its "
                f"classes, {self.labels[:20].tolist()}. Got {np.unique(predicted)[:20].tolist()}."
            )
        probabilities[np.arange(len(vectors)), self.columns[is_label.argmax(axis=1)]] = 1.0
        return probabilities

    def onnx(self, graph: Graph, vectors: str, example: np.ndarray, what: str) -> str:
        columns = np.zeros((len(self.columns), self.n_classes))
        columns[np.arange(len(columns)), self.columns] = 1.0
        if len(columns) == 1:  # a class that is the only one has probability 1
            n_rows = graph.op("Shape", vectors, start=0, end=1)
            shape = graph.op("Concat", n_rows, graph.constant([self.n_classes]), axis=0)
            return graph.op("Expand", graph.constant(columns), shape)
        known = add_estimator(
            graph, vectors, self.model, "predict_proba", self._examples(example), what
        )
        # The sums of a forest in single precision can be below 0.
        known = graph.op("Max", known, graph.constant(0.0))
        return graph.op("MatMul", known, graph.constant(columns))


def _normalized(probabilities: np.ndarray) -> np.ndarray:
    """Normalize probabilities, whose sums may differ from 1 by 1e-7 in single precision."""
    total = np.ascontiguousarray(probabilities).sum(axis=1)
    off = np.abs(total - 1) > 1e-13
    if off.any():
        # If the sum is not positive, the probabilities are not valid.
        by = np.where(total > 0, total, np.nan)[off, None]
        probabilities[off] = quietly(lambda: probabilities[off] / by, "invalid")
    return probabilities


def encode_class_weight(estimator: Any, classes: np.ndarray, present: np.ndarray) -> Any:
    """Replace the labels in every `class_weight`, at any depth, by their indices.

    Parameters
    ----------
    estimator : estimator
        Changed in place, including the grids of a search over `class_weight`.
    classes : ndarray of shape (n_classes,)
    present : ndarray of shape (n_present,)
        Indices of the classes that are numbered, in order. Weights of other classes are removed.

    Returns
    -------
    estimator : estimator
        The same object.

    Raises
    ------
    KeyError
        If there is a weight for a label that is not among the classes.
    """
    index = dict.fromkeys(classes.tolist())
    index |= {label: i for i, label in enumerate(classes[present].tolist())}

    def encoded(name: str, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(encoded(name, each) for each in value)
        if not isinstance(value, dict):
            return value
        if name.rpartition("__")[2] == "class_weight":
            weights = {index[label]: each for label, each in value.items()}
            weights.pop(None, None)
            return weights
        return {key: encoded(str(key), each) for key, each in value.items()}

    names = ("class_weight", "param_grid", "param_distributions")
    for name, value in estimator.get_params(deep=True).items():
        if name.rpartition("__")[2] in names:
            estimator.set_params(**{name: encoded(name, value)})
    return estimator


def _has_to_be_calibrated(estimator: Any) -> bool:
    last = last_step(estimator)
    return hasattr(last, "decision_function") and not hasattr(last, "predict_proba")


def _can_be_calibrated(estimator: Any, y: np.ndarray, advice: str) -> np.ndarray:
    """Mask of the samples whose class has enough samples for calibration."""
    name = type(last_step(estimator)).__name__
    _, index, counts = np.unique(y, return_inverse=True, return_counts=True)
    keep = (counts >= 2)[index]
    if not keep.any():
        raise ValueError(
            f"{name} has no predict_proba and cannot be calibrated, since every class has a "
            f"single sample. {advice}"
        )
    if not keep.all():
        warn(
            f"{name} has no predict_proba, and {np.sum(counts < 2)} of {len(counts)} classes have "
            f"a single sample, too few to calibrate it: they are left out. {advice}"
        )
    return keep


def _calibrated(estimator: Any, cv: int) -> Any:
    """Wrap a classifier, or the last step of a pipeline, for calibration."""
    if not isinstance(estimator, Pipeline):
        return CalibratedClassifierCV(estimator, cv=cv, ensemble=False)
    name, last = estimator.steps[-1]
    return estimator.set_params(**{name: _calibrated(last, cv)})

"""Predictions of a cascade that was exported to ONNX."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np

from skearlyexit._utils._interrupts import quietly
from skearlyexit.calibration import Budget, Frontier, Threshold
from skearlyexit.calibration._budget import look_up
from skearlyexit.runtime._driver import Answers
from skearlyexit.runtime._onnx_session import Session
from skearlyexit.runtime._row_format import RowFormat


class OnnxCascade:
    """Classifier or regressor with early exits that ONNX Runtime executes.

    The file is one that `to_onnx` of `EarlyExitClassifier`, `EarlyExitRegressor`,
    `CascadeClassifier` or `CascadeRegressor` has written. Stages or estimators after the exit of a
    sample are not computed for it. Several threads may call the methods of one object. From a file
    that was written with ``single_sample=True``, samples are predicted one by one, at its
    thresholds only.

    Parameters
    ----------
    path : str or path-like
        Path of the file.
    n_threads : int, default=None
        Number of threads on which an operation is computed. None is the default of ONNX Runtime,
        one for each core.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels. Only of classifiers.
    exit_names_ : list of str
        Name of each exit.
    costs_ : ndarray of shape (n_exits,)
        Cumulative cost of exiting at each exit, in units of the cost of the plain network.
    thresholds_ : ndarray of shape (n_exits - 1,)
        Default thresholds.
    frontier_ : Frontier or None
        Thresholds for all budgets. None if the model was not calibrated.
    metadata_ : dict of str to object
        All metadata of the file, such as the versions of the packages that wrote it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If ``onnxruntime`` is not installed.
    ValueError
        If the file is not one that `to_onnx` has written.

    Notes
    -----
    Probabilities and values are those of the model up to rounding in single precision, and so are
    labels and exits, unless two probabilities, or a score and a threshold, differ by less than
    that. A tree, as an estimator or in a policy, may take another branch where a feature and the
    value that it is compared with differ by less than that.

    Examples
    --------
    >>> from tempfile import NamedTemporaryFile
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.runtime import OnnxCascade
    >>> X, y = make_classification(300, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"], random_state=0).fit(X, y)
    >>> with NamedTemporaryFile(suffix=".onnx") as file:
    ...     clf.to_onnx(file.name)
    ...     cascade = OnnxCascade(file.name)
    >>> labels, exits = cascade.predict(X, threshold=0.9, return_exits=True)
    >>> bool((labels == clf.predict(X, threshold=0.9)).all())
    True
    """

    exit_names_: list[str]
    costs_: np.ndarray
    thresholds_: np.ndarray
    frontier_: Frontier | None
    metadata_: dict[str, Any]

    def __init__(self, path: str | os.PathLike[str], *, n_threads: int | None = None) -> None:
        if n_threads is not None and (
            not isinstance(n_threads, Integral) or isinstance(n_threads, bool) or n_threads < 1
        ):
            raise ValueError(f"'n_threads' must be a positive integer or None; got {n_threads!r}.")
        self._path, self._n_threads = os.fspath(path), n_threads
        if not os.path.isfile(path):
            raise FileNotFoundError(f"There is no file {os.fspath(path)!r}.")
        self._session = Session(os.fspath(path), n_threads)
        metadata = self._session.metadata
        if "predicted_dtype" not in metadata:
            raise ValueError(
                f"{os.fspath(path)!r} was not written by to_onnx: it lacks its metadata. Export "
                "the fitted model, and give that file."
            )
        self.metadata_ = metadata
        self.exit_names_ = metadata["exit_names"]
        self.costs_ = np.asarray(metadata["costs"])
        self.thresholds_ = _thresholds(metadata["thresholds"])
        frontier = metadata["frontier"]
        self.frontier_ = frontier and Frontier(
            _thresholds(frontier["thresholds"]),
            *(np.asarray(frontier[key]) for key in ("costs", "accuracies", "shares")),
        )
        self._row_format = RowFormat(
            tuple(metadata["row_shape"]), np.dtype(metadata["dtype"]), metadata["feature_names"]
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Sessions cannot be pickled; the file is opened again.
        return _opened, (self._path, self._n_threads)

    @cached_property
    def classes_(self) -> np.ndarray:
        """Class labels."""
        if "classes" not in self.metadata_:
            raise AttributeError("The file is that of a regressor, which has no classes.")
        return np.asarray(self.metadata_["classes"], dtype=self.metadata_["predicted_dtype"])

    @property
    def n_exits_(self) -> int:
        """Number of exits, including the last one."""
        return len(self.exit_names_)

    def predict(
        self,
        X: Any,
        *,
        threshold: float | Sequence[float] | None = None,
        budget: float | Budget | None = None,
        return_exits: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Predict class labels, or values of targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Samples of the shape seen in `fit`, as a dense array or data frame of finite numbers.
        threshold : float or sequence of float, default=None
            One threshold for all exits, or one for each exit but the last, instead of
            `thresholds_`.
        budget : float or Budget, default=None
            Maximum mean cost per sample, as in `EarlyExitClassifier.predict`. It must not be
            strict.
        return_exits : bool, default=False
            Whether to return the exit of each sample as well.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            Predicted labels, or values in the units and of the shape of y in `fit`.
        exits : ndarray of shape (n_samples,)
            Index of the exit of each sample. Only returned if `return_exits` is True.

        Raises
        ------
        ValueError
            If X or an argument is invalid, or outputs are NaN. If a threshold or a budget is given,
            and those of the file are fixed.
        """
        answers = self._run(X, threshold, budget)
        predicted = self._decoded(answers.labels)
        return (predicted, answers.exits) if return_exits else predicted

    def predict_proba(
        self,
        X: Any,
        *,
        threshold: float | Sequence[float] | None = None,
        budget: float | Budget | None = None,
        return_exits: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Predict class probabilities; see `predict`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Samples, as in `predict`.
        threshold : float or sequence of float, default=None
            Thresholds, as in `predict`.
        budget : float or Budget, default=None
            Maximum mean cost per sample, as in `predict`.
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
            If the file is that of a regressor.
        ValueError
            As in `predict`.
        """
        _ = self.classes_
        answers = self._run(X, threshold, budget, with_probabilities=True)
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
        """Predict logarithms of class probabilities; see `predict`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Samples, as in `predict`.
        threshold : float or sequence of float, default=None
            Thresholds, as in `predict`.
        budget : float or Budget, default=None
            Maximum mean cost per sample, as in `predict`.
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
        AttributeError
            If the file is that of a regressor.
        ValueError
            As in `predict`.
        """
        probabilities, exits = self.predict_proba(
            X, threshold=threshold, budget=budget, return_exits=True
        )
        logarithms = quietly(lambda: np.log(probabilities), "divide")
        return (logarithms, exits) if return_exits else logarithms

    def _run(
        self, X: Any, threshold: Any, budget: Any, *, with_probabilities: bool = False
    ) -> Answers:
        """Predictions and exits of all samples."""
        thresholds = self._thresholds(threshold, budget)
        return self._answers(X, thresholds, with_probabilities=with_probabilities)

    def _answers(self, X: Any, thresholds: np.ndarray, *, with_probabilities: bool) -> Answers:
        """Predictions and exits at thresholds that `_thresholds` returned."""
        rows = self._row_format.checked(X)
        return self._session.run(rows, thresholds, with_probabilities=with_probabilities)

    def _decoded(self, predicted: np.ndarray) -> np.ndarray:
        """Predictions of a run in the precision that `predict` returns."""
        return predicted.astype(self.metadata_["predicted_dtype"], copy=False)

    def _thresholds(self, threshold: Any, budget: Any) -> np.ndarray:
        """Thresholds for the arguments of a prediction."""
        if self._session.is_single and not (threshold is None and budget is None):
            raise ValueError(
                "'threshold' and 'budget' must be None: the file was written by to_onnx with "
                f"single_sample=True, and its thresholds are fixed. They are {self.thresholds_}. "
                "Write another file for others, or one with single_sample=False."
            )
        if threshold is not None and budget is not None:
            raise ValueError("At most one of 'threshold' and 'budget' may be given; got both.")
        if threshold is not None:
            return Threshold(threshold).fixed_thresholds(self.n_exits_)
        if budget is None:
            return self.thresholds_
        if self.frontier_ is None:
            raise ValueError(
                "A budget needs calibration samples, and the model was exported without any. "
                "Calibrate it before it is exported, or give a threshold."
            )
        unit, plain = self.metadata_["cost_unit"], self.metadata_["plain_cost"]
        point = look_up(budget, self.frontier_, self.costs_, unit, plain)
        if point.strict_budget is not None:
            raise ValueError(
                "A strict budget requires the scores of all samples at an exit, which an exported "
                "cascade does not return. Give a budget that is not strict."
            )
        return point.thresholds


def _thresholds(stored: Any) -> np.ndarray:
    """Thresholds of a file, where 2 stands for infinity."""
    thresholds = np.asarray(stored, dtype=np.float64)
    return np.where(thresholds >= 2, np.inf, thresholds)


def _opened(path: str, n_threads: int | None) -> OnnxCascade:
    return OnnxCascade(path, n_threads=n_threads)

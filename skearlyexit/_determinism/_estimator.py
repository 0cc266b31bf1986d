"""Scikit-learn estimators whose prediction for a sample does not depend on the other samples."""

from __future__ import annotations

import pickle
from abc import ABCMeta, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import sklearn
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.calibration import _CalibratedClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils.sparsefuncs import mean_variance_axis
from sklearn.utils.validation import has_fit_parameter

from skearlyexit._data._given import GivenRows, copied
from skearlyexit._determinism._layers import GROUP
from skearlyexit._determinism._threads import on_single_blas_thread
from skearlyexit._onnx._graph import Graph

#: Number of samples in each call of an estimator whose predictions depend on it.
FIXED_ROWS = 256
#: Number of samples from which mean and standard deviation of the features are computed, and of
#: those that are drawn with them to compare a conversion.
N_FOR_MOMENTS, N_DRAWN = 256, 64


@dataclass(frozen=True)
class Calls:
    """How an estimator is to be called.

    Attributes
    ----------
    largest : int, default=1024
        Largest number of samples in a call.
    batch_invariant : bool, default=True
        Whether predictions are not to depend on the batch. If they may, the estimator is called
        with the samples as they come, and on any number of threads.
    """

    largest: int = 1024
    batch_invariant: bool = True


USUAL_CALLS = Calls()


@dataclass
class BatchInvariantEstimator(metaclass=ABCMeta):
    """A fitted scikit-learn estimator whose predictions do not depend on the batch.

    The estimator runs on one thread and is called with a multiple of 16 samples. Since matrix
    libraries choose a kernel by the size of the product, and kernels differ in the order of their
    sums, an estimator whose predictions differ between small and large calls is always called with
    the same number of samples.

    Attributes
    ----------
    model : fitted estimator
    calls : Calls, default=Calls()
        How it is called. For the largest call it is tested that predictions are the same.
    fixed_rows : bool, default=False
        Whether the estimator is always called with the same number of samples.
    moments : tuple of ndarray of shape (n_features,), or None
        Mean and standard deviation of the features. None if they are not known to be numbers.
    """

    model: Any
    calls: Calls = field(default=USUAL_CALLS, kw_only=True)
    fixed_rows: bool = field(default=False, kw_only=True)
    moments: tuple[np.ndarray, np.ndarray] | None = field(default=None, kw_only=True)

    @abstractmethod
    def _predict(self, vectors: np.ndarray | GivenRows) -> np.ndarray:
        """Outputs of shape (n_samples, n_outputs), by one call of the estimator."""

    @abstractmethod
    def onnx(self, graph: Graph, vectors: str, example: np.ndarray, what: str) -> str:
        """Add `outputs` to a graph in the ONNX format.

        Parameters
        ----------
        graph : Graph
            Builder of the graph.
        vectors : str
            Name of the vectors, shape (n_samples, n_features).
        example : ndarray of shape (n_samples, n_features)
            Several vectors, on which results are compared.
        what : str
            Name of the estimator in errors.

        Returns
        -------
        outputs : str
            Name of the outputs, shape (n_samples, n_outputs), double precision.

        Raises
        ------
        ExportError
            If the estimator cannot be converted.
        """

    def _tested(self, X: np.ndarray | GivenRows, calls: Calls) -> Self:
        """The same, running in one job, after a test of the sizes of calls."""
        run_in_one_job(self.model)
        self.model = as_stored(self.model)
        self.calls = calls
        self.moments = _moments(X)
        self.fixed_rows = calls.batch_invariant and self._depends_on_others(X)
        return self

    def _examples(self, example: np.ndarray) -> np.ndarray:
        """Vectors on which a conversion is compared: the given ones, and some like those of `fit`.

        Far from the samples of `fit`, the predictions of many estimators are constant, so that a
        conversion that is wrong would not be noticed.
        """
        if self.moments is None:
            return example
        mean, deviation = self.moments
        drawn = np.random.default_rng(0).standard_normal((N_DRAWN, len(mean)))
        return np.concatenate([example, mean + deviation * drawn])

    def outputs(self, vectors: np.ndarray | GivenRows) -> np.ndarray:
        """Compute the outputs of the estimator.

        Parameters
        ----------
        vectors : ndarray of shape (n_samples, n_features), float64, or GivenRows

        Returns
        -------
        outputs : ndarray of shape (n_samples, n_outputs)
        """
        n_rows = len(vectors)
        largest = self.calls.largest
        if not self.calls.batch_invariant:
            starts = range(0, n_rows, largest)
            return np.concatenate([self._predict(vectors[i : i + largest]) for i in starts])
        vectors = padded(vectors, n_rows + -n_rows % GROUP)
        n_call = FIXED_ROWS if self.fixed_rows else largest
        parts = [vectors[i : i + n_call] for i in range(0, len(vectors), n_call)]
        outputs = on_single_blas_thread(
            lambda: [self._predict_padded(part, n_call) for part in parts]
        )
        return np.concatenate(outputs)[:n_rows]

    def _predict_padded(self, vectors: np.ndarray | GivenRows, n_call: int) -> np.ndarray:
        n_rows = len(vectors)
        return self._predict(padded(vectors, n_call if self.fixed_rows else n_rows))[:n_rows]

    def _depends_on_others(self, vectors: np.ndarray | GivenRows) -> bool:
        """Whether predictions differ between small and large calls, be it in the last bits."""
        few = vectors[np.arange(64) % len(vectors)]

        def predictions() -> tuple[np.ndarray, list[np.ndarray]]:
            in_many = self._predict(few[np.arange(self.calls.largest) % len(few)])
            return in_many, [self._predict(few[i : i + GROUP]) for i in range(0, len(few), GROUP)]

        in_many, by_few = on_single_blas_thread(predictions)
        return not np.array_equal(in_many[: len(few)], np.concatenate(by_few))


def _moments(X: np.ndarray | GivenRows) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean and standard deviation of the features of some samples, if these are numbers."""
    rows: Any = X[np.linspace(0, len(X) - 1, min(len(X), N_FOR_MOMENTS)).astype(int)]
    rows = rows.content if isinstance(rows, GivenRows) else rows
    if sparse.issparse(rows):  # which may have too many columns for a dense array
        rows = rows.tocsr().astype(np.float64)
        mean, variance = mean_variance_axis(rows, axis=0)
        return (mean, np.sqrt(variance)) if np.isfinite(rows.data).all() else None
    try:
        values = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    if values.ndim != 2 or not np.isfinite(values).all():
        return None
    return values.mean(axis=0), values.std(axis=0)


def padded(rows: Any, n_rows: int) -> Any:
    """Pad to a number of samples by repeating the first.

    Parameters
    ----------
    rows : ndarray or GivenRows of shape (n, ...)
    n_rows : int

    Returns
    -------
    rows : ndarray or GivenRows of shape (n_rows, ...)
        The same object if there is nothing to pad.
    """
    if len(rows) == n_rows:
        return rows
    index = np.zeros(n_rows, dtype=np.intp)
    index[: len(rows)] = np.arange(len(rows))
    return rows[index]


def set_seeds(estimator: Any, rng: np.random.RandomState) -> None:
    """Set every `random_state` that is None, at any depth."""
    for key, value in sorted(estimator.get_params(deep=True).items()):
        if value is None and (key == "random_state" or key.endswith("__random_state")):
            estimator.set_params(**{key: int(rng.randint(np.iinfo(np.int32).max))})


def as_stored(estimator: Any) -> Any:
    """The estimator after pickling, which may change the memory layout of its arrays.

    Matrix kernels depend on the layout, and a pickled model must predict the same.

    Parameters
    ----------
    estimator : object
        Estimator, or a collection of some.

    Returns
    -------
    estimator : object
        A copy, or the same object if it cannot be pickled.
    """
    try:
        return pickle.loads(pickle.dumps(estimator))
    except (pickle.PicklingError, AttributeError, TypeError):
        return estimator  # it cannot be pickled


def run_in_one_job(value: Any, seen: set[int] | None = None) -> None:
    """Set `n_jobs` of a fitted estimator, and of all estimators among its attributes, to 1.

    Parameters
    ----------
    value : object
        Estimator, or an attribute of one. It is changed.
    seen : set of int, default=None
        Identities of the objects that have been visited.
    """
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, BaseEstimator | _CalibratedClassifier):
        if hasattr(value, "n_jobs"):
            value.n_jobs = 1
        parts: Any = vars(value).values()
    elif isinstance(value, dict):
        parts = value.values()
    elif isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype == "O"):
        parts = value
    else:
        return
    for part in parts:
        run_in_one_job(part, seen)


def last_step(estimator: Any) -> Any:
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    return estimator


def takes_weights(estimator: Any) -> bool:
    """Whether `fit` of an estimator, or of the last step of a pipeline, supports weights."""
    return bool(has_fit_parameter(last_step(estimator), "sample_weight"))


def drawn_by_weight(
    estimator: Any, X: Any, y: np.ndarray, weight: np.ndarray | None, rng: np.random.RandomState
) -> tuple[Any, np.ndarray, np.ndarray | None]:
    """X, y and weights for `fit`. If it takes no weights, the samples are drawn by weight."""
    if weight is None or takes_weights(estimator):
        return X, y, weight
    rows = rng.choice(len(y), size=len(y), p=weight / weight.sum())
    return X[rows], y[rows], None


def fit_weighted(
    estimator: Any, X: np.ndarray | GivenRows, y: np.ndarray, weight: np.ndarray | None
) -> None:
    """Fit with weights, which a pipeline expects under the name of its last step."""
    X = copied(X)  # since some estimators change their input in place
    if weight is None:
        estimator.fit(X, y)
        return
    weight = weight.copy()
    path, last = [], estimator
    while isinstance(last, Pipeline):
        name, last = last.steps[-1]
        path.append(name)
    # The weights are passed on directly, also if the user has enabled metadata routing.
    with sklearn.config_context(enable_metadata_routing=False):
        estimator.fit(X, y, **{"__".join([*path, "sample_weight"]): weight})

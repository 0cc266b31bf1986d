"""Heads that are scikit-learn estimators, fitted on the embeddings of a trained network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval

from skearlyexit._data._targets import Targets
from skearlyexit._determinism._classifier import BatchInvariantClassifier
from skearlyexit._determinism._estimator import BatchInvariantEstimator
from skearlyexit._determinism._regressor import BatchInvariantRegressor
from skearlyexit._onnx._convert import insert_module
from skearlyexit._onnx._graph import Graph
from skearlyexit.costs import CostInput
from skearlyexit.heads._base import FittedHead, Head, PooledModule, RegressionExit
from skearlyexit.heads._linear import LinearHead

_ADVICE = "Give a head with predict_proba, or policy='patience', which needs none."


def add_finite(
    graph: Graph, vectors: str, steady: BatchInvariantEstimator, example: np.ndarray, what: str
) -> str:
    """As `steady.onnx`, with NaN for vectors that are not finite, which some models accept."""
    found = steady.onnx(graph, vectors, example, what)
    none = graph.cast(graph.op("Sub", vectors, vectors), np.float64)  # 0, or NaN
    none = graph.op("ReduceSum", none, graph.constant([1]), keepdims=1)
    return graph.op("Add", found, none)


@dataclass
class EstimatorExit(FittedHead):
    """A fitted scikit-learn classifier as a head.

    Attributes
    ----------
    steady : BatchInvariantClassifier
        Calls the classifier.
    """

    steady: BatchInvariantClassifier

    def predict_proba(self, vectors: torch.Tensor) -> np.ndarray:
        """Probabilities, which are 0 or 1 without `predict_proba`; see `FittedHead`."""
        return _outputs(self.steady, vectors)

    def cost_input(self, embedding: torch.Tensor) -> CostInput:
        """Input of the cost measurement, with estimator and pooling; see `FittedHead`."""
        return replace(super().cost_input(embedding), pooling=self.pooling)

    def onnx(self, graph: Graph, embedding: str, example: torch.Tensor) -> str:
        return _add_pooled(graph, embedding, self, self.steady, example)

    def to(self, device: torch.device | str) -> None:
        """Move the pooling to a device; the estimator runs on the CPU."""
        self.pooling.to(device)


@dataclass
class EstimatorRegression(RegressionExit):
    """A fitted scikit-learn regressor as a head, which predicts in the units of the user.

    Attributes
    ----------
    steady : BatchInvariantRegressor
        Calls the regressor.
    """

    steady: BatchInvariantRegressor

    def outputs(self, vectors: torch.Tensor) -> np.ndarray:
        """Standardized predictions; see `FittedHead.outputs`."""
        return _outputs(self.steady, vectors)

    def cost_input(self, embedding: torch.Tensor) -> CostInput:
        """Input of the cost measurement, with estimator and pooling; see `FittedHead`."""
        return replace(super().cost_input(embedding), pooling=self.pooling)

    def onnx(self, graph: Graph, embedding: str, example: torch.Tensor) -> str:
        return _add_pooled(graph, embedding, self, self.steady, example)

    def to(self, device: torch.device | str) -> None:
        """Move the pooling to a device; the estimator runs on the CPU."""
        self.pooling.to(device)


def _add_pooled(
    graph: Graph,
    embedding: str,
    head: FittedHead,
    steady: BatchInvariantEstimator,
    example: torch.Tensor,
) -> str:
    """Add pooling and estimator of a head to a graph; see `FittedHead.onnx`."""
    (vectors,) = insert_module(graph, [embedding], head.pooling, example, "A pooling")
    with torch.no_grad():
        pooled = head.pooling(example).numpy()
    return add_finite(graph, vectors, steady, pooled, f"The head {type(head.model).__name__}")


def _outputs(steady: BatchInvariantEstimator, vectors: torch.Tensor) -> np.ndarray:
    """Outputs of an estimator, NaN for samples whose vectors are not finite."""
    rows = vectors.to("cpu", torch.float64).numpy()
    if np.isfinite(rows.sum()):
        return steady.outputs(rows)
    # For one such sample some estimators raise an error, and others treat NaN as missing.
    finite = np.isfinite(rows).all(axis=1, keepdims=True)
    return np.where(finite, steady.outputs(np.where(finite, rows, 0.0)), np.nan)


class EstimatorHead(Head):
    """Head that is a scikit-learn classifier or regressor, fitted on pooled embeddings.

    While the network is trained, a linear head is used instead. The estimator is then fitted on
    the embeddings of the training samples.

    Parameters
    ----------
    estimator : scikit-learn classifier, regressor or pipeline
        The estimator, which is cloned: a classifier for `EarlyExitClassifier`, and a regressor for
        `EarlyExitRegressor`, which is fitted on the targets in their own units. Parameters
        `random_state` that are None are set to seeds derived from the `random_state` of the
        early-exit estimator. `n_jobs` is set to 1 after fitting, which makes predictions
        reproducible.
    pooling : {"quarters", "average", "flatten"} or torch.nn.Module, default="quarters"
        Maps embeddings to vectors. ``"quarters"`` is `QuarterPooling`, ``"average"`` is
        `GlobalAveragePooling`, and ``"flatten"`` keeps all values. A torch module is copied and
        trained with the network and the linear head, and its output is flattened.
    cross_fit : int, default=None
        Number of folds for cross-fitting the embeddings. If None, the classifier is fitted on
        embeddings of samples that the network was trained on, whose classes are separated better
        than those of new samples. With k folds, k further networks are trained for each network
        (the final one, and those of the calibration folds), each on all folds but one. The
        embeddings that each of them computes for its omitted fold are mapped to the embedding space
        of the network in question by least squares, and the classifier is fitted on these. Heads
        with the same number of folds share the further networks.

    Notes
    -----
    If the policy needs probabilities, a classifier without `predict_proba` is given probabilities
    by ``CalibratedClassifierCV(ensemble=False)``. Classes with a single sample, for which this is
    impossible, are then omitted with a warning. A classifier whose `fit` does not support
    `sample_weight` is fitted on samples that are drawn with probabilities proportional to their
    weights.

    The classifier is fitted on the original labels, which are then its ``classes_``. Parameters
    that refer to labels, such as `class_weight`, have their usual meaning. If this `fit` fails, as
    it does for classifiers that require the labels 0, ..., n_classes - 1, the classifier is fitted
    on the indices of the labels, which then also replace the keys of `class_weight`. Its
    ``classes_`` are then indices of ``classes_`` of the early-exit classifier.

    In experiments, cross-fitted embeddings improved the ranking of samples by the confidence of
    decision trees on two data sets. Otherwise they did not help, and sometimes reduced the
    accuracy; see the user guide.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skearlyexit import EarlyExitClassifier, EstimatorHead, MLPBackbone
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"],
    ...     head=EstimatorHead(DecisionTreeClassifier(max_depth=4)), calibration=None,
    ...     max_epochs=2, random_state=0).fit(X, y)
    >>> [type(head.model).__name__ for head in clf.cascade_.network.heads]
    ['DecisionTreeClassifier', 'DecisionTreeClassifier']
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "cross_fit": [Interval(Integral, 2, None, closed="left"), None]
    }
    is_neural = False

    def __init__(
        self,
        estimator: Any,
        *,
        pooling: str | torch.nn.Module = "quarters",
        cross_fit: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.pooling = pooling
        self.cross_fit = cross_fit

    def build(self, embedding: torch.Tensor, n_classes: int) -> PooledModule:
        return LinearHead(pooling=self.pooling).build(embedding, n_classes)

    def fit(
        self,
        module: PooledModule,
        embeddings: np.ndarray | None,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        *,
        classes: np.ndarray,
        needs_probabilities: bool,
        seed: int,
    ) -> FittedHead:
        assert embeddings is not None
        with self._naming_embeddings(embeddings):
            steady = BatchInvariantClassifier.fit(
                self.estimator,
                embeddings,
                classes[y],
                sample_weight,
                classes=classes,
                needs_probabilities=needs_probabilities,
                seed=seed,
                advice=_ADVICE,
            )
        return EstimatorExit(steady.model, module.pooling, steady)

    def fit_regression(
        self,
        module: PooledModule,
        embeddings: np.ndarray | None,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        *,
        targets: Targets,
        seed: int,
    ) -> RegressionExit:
        assert embeddings is not None
        with self._naming_embeddings(embeddings):
            steady = BatchInvariantRegressor.fit(
                self.estimator, embeddings, y, sample_weight, targets=targets, seed=seed
            )
        return EstimatorRegression(steady.model, module.pooling, steady)

    @contextmanager
    def _naming_embeddings(self, embeddings: np.ndarray) -> Iterator[None]:
        """Add to errors raised inside that they are about embeddings."""
        try:
            yield
        except Exception as error:
            error.add_note(
                f"The error was raised in fitting {type(self.estimator).__name__} as a head, on "
                f"embeddings of the network of shape {embeddings.shape} and not on X."
            )
            raise

"""Base classes of heads, before and after fitting."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator

from skearlyexit._data._targets import Targets
from skearlyexit._determinism._in_place import keeping_input
from skearlyexit._determinism._softmax import largest_of
from skearlyexit._onnx._graph import ExportError, Graph
from skearlyexit._onnx._modules import add_in_turn, converts
from skearlyexit.costs import CostInput
from skearlyexit.heads._pooling import takes_any_layout, taking_any_layout


class PooledModule(torch.nn.Module):
    """Pooling, followed by a module on vectors. Neither changes its input in place.

    Parameters
    ----------
    pooling, body : torch.nn.Module
        A module that may change its input in place is called with a copy.

    Notes
    -----
    **Shape**: embeddings (n, ...) to logits (n, n_classes).
    """

    def __init__(self, pooling: torch.nn.Module, body: torch.nn.Module) -> None:
        super().__init__()
        self.pooling = keeping_input(taking_any_layout(pooling))
        self.body = keeping_input(body)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        return self.body(self.pooling(embedding))


@converts(PooledModule)
def _(module: PooledModule, graph: Graph, tensor: str, example: torch.Tensor) -> str:
    return add_in_turn(graph, [module.pooling, module.body], tensor, example)


@dataclass
class FittedHead(metaclass=ABCMeta):
    """Base class of fitted heads, which predict at the exits.

    Embeddings are pooled batch by batch, while they are in the cache, and without other samples
    than those of interest where that gives the same result. The vectors are then padded to a
    multiple of 16 samples, and those of several batches are passed to `outputs` together.

    Parameters
    ----------
    model : torch.nn.Module or fitted scikit-learn estimator
        The model of the head.
    pooling : torch.nn.Module
        Maps the embeddings of a stage to vectors of shape (n, n_features).

    Attributes
    ----------
    rows_per_call : int, default=1024
        Number of samples for which the time of a call as such is small, a multiple of 16. If there
        are enough samples, calls have at least as many.

    Examples
    --------
    >>> import torch
    >>> from skearlyexit.heads import FittedHead
    >>> class Softened(FittedHead):  # softmax with a temperature of 2
    ...     def predict_proba(self, vectors):
    ...         return torch.softmax(self.model(vectors).double() / 2, dim=1).numpy()
    ...     def to(self, device):
    ...         self.model.to(device)
    >>> head = Softened(model=torch.nn.Identity(), pooling=torch.nn.Flatten())
    >>> head.predict_proba(head.pool(torch.tensor([[[0.0], [4.0]]]))).round(2)
    array([[0.12, 0.88]])
    """

    model: Any
    pooling: torch.nn.Module
    rows_per_call: ClassVar[int] = 1024

    @property
    def has_logits(self) -> bool:
        """Whether the probabilities in `onnx` are the softmax of those of `onnx_logits`."""
        return False

    def pool(self, embedding: torch.Tensor) -> torch.Tensor:
        """Map embeddings to vectors.

        Parameters
        ----------
        embedding : Tensor of shape (n, ...)
            Embeddings of the samples.

        Returns
        -------
        vectors : Tensor of shape (n, n_features)
            Pooled embeddings.
        """
        if not takes_any_layout(self.pooling):
            embedding = embedding.contiguous()
        vectors: torch.Tensor = self.pooling(embedding)
        return vectors

    @abstractmethod
    def predict_proba(self, vectors: torch.Tensor) -> np.ndarray:
        """Predict class probabilities.

        Parameters
        ----------
        vectors : Tensor of shape (n, n_features)
            Pooled embeddings of the samples. Their number is a multiple of 16, which makes the
            result for a sample independent of the other samples.

        Returns
        -------
        probabilities : ndarray of shape (n, n_classes), float64
            Probability of each class.
        """

    def outputs(self, vectors: torch.Tensor) -> np.ndarray:
        """Compute what the exit rule sees of this head.

        The default implementation returns the class probabilities.

        Parameters
        ----------
        vectors : Tensor of shape (n, n_features)
            Pooled embeddings of the samples, as in `predict_proba`.

        Returns
        -------
        outputs : ndarray of shape (n, n_outputs), float64
            Class probabilities, or in regression values of the targets, standardized as in the
            training.
        """
        return self.predict_proba(vectors)

    def predict_largest(self, vectors: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Predict the most probable class, and its probability.

        Parameters
        ----------
        vectors : Tensor of shape (n, n_features)
            Pooled embeddings of the samples, as in `predict_proba`.

        Returns
        -------
        labels : ndarray of shape (n,)
            Index of the first class with the largest probability.
        probabilities : ndarray of shape (n,), float64
            Largest probability, to the last bit that of `outputs`. NaN or negative if any
            probability is.
        """
        return largest_of(self.outputs(vectors))

    def outputs_of_one(self, vectors: torch.Tensor) -> np.ndarray:
        """Compute `outputs` for a single sample.

        Parameters
        ----------
        vectors : Tensor of shape (n, n_features)
            Pooled embeddings of the sample, followed by copies of it if batches are padded.

        Returns
        -------
        outputs : ndarray of shape (1, n_outputs), float64
            Those of `outputs` for the sample, to the last bit.
        """
        return self.outputs(vectors)[:1]

    def cost_input(self, embedding: torch.Tensor) -> CostInput:
        """Return the input of the measurement of the cost of this head.

        Parameters
        ----------
        embedding : Tensor of shape (n, ...)
            Embeddings of a few samples.

        Returns
        -------
        part : CostInput
            The head, with these embeddings as its input.
        """

        def run(rows: torch.Tensor) -> None:
            self.outputs(self.pool(rows))

        return CostInput(run, embedding, self.model)

    def onnx(self, graph: Graph, embedding: str, example: torch.Tensor) -> str:
        """Add this head to a graph in the ONNX format.

        Parameters
        ----------
        graph : Graph
            Builder of the graph.
        embedding : str
            Name of the embeddings, shape (n, ...).
        example : Tensor of shape (n_samples, ...)
            Embeddings of several samples, on which the results of a conversion are compared.

        Returns
        -------
        outputs : str
            Name of the class probabilities, or in regression of the standardized values of the
            targets, shape (n, n_outputs), double precision.

        Raises
        ------
        ExportError
            If the head cannot be converted.
        """
        raise ExportError(f"A head {type(self).__name__} cannot be converted to ONNX.")

    def onnx_logits(self, graph: Graph, embedding: str, example: torch.Tensor) -> str:
        """Add this head without its softmax to a graph; only if `has_logits` is True.

        Parameters
        ----------
        graph, embedding, example
            As in `onnx`.

        Returns
        -------
        logits : str
            Name of the logits, shape (n, n_classes), in the precision of the network.

        Raises
        ------
        ExportError
            If the head cannot be converted.
        """
        raise ExportError(f"A head {type(self).__name__} cannot be converted to logits in ONNX.")

    @abstractmethod
    def to(self, device: torch.device | str) -> None:
        """Move the torch modules of this head to a device.

        Parameters
        ----------
        device : torch.device or str
            The device.
        """


class Head(BaseEstimator, metaclass=ABCMeta):
    """Base class of heads before fitting.

    Attributes
    ----------
    is_neural : bool
        Whether the module returned by `build` is the head itself. If False, that module replaces
        the head only while the network is trained, and `fit` fits the head on the embeddings of
        the trained network.
    is_own : bool, default=False
        Whether the head is the network's own classifier. `build` is then not called.
    cross_fit : int or None, default=None
        Number of folds in which the embeddings for `fit` are cross-fitted; see `EstimatorHead`. If
        None, they are those of the samples that the network was trained on.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, LinearHead, MLPBackbone
    >>> from skearlyexit.heads import Head
    >>> class Watched(Head):  # a linear head that prints what it was fitted for
    ...     is_neural = True
    ...     def build(self, embedding, n_classes):
    ...         return LinearHead().build(embedding, n_classes)
    ...     def fit(self, module, embeddings, y, sample_weight, *, classes, **options):
    ...         print("classes", classes)
    ...         return LinearHead().fit(module)
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"], head=Watched(), calibration=None,
    ...     max_epochs=1, random_state=0).fit(X, y)
    classes [0 1]
    classes [0 1]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {}
    is_neural: ClassVar[bool]
    is_own: ClassVar[bool] = False
    cross_fit: int | None = None

    @abstractmethod
    def build(self, embedding: torch.Tensor, n_classes: int) -> PooledModule:
        """Build a new module that maps embeddings to logits.

        Parameters
        ----------
        embedding : Tensor of shape (n, ...)
            Embeddings of a few samples, which determine the shape of the input.
        n_classes : int
            Number of classes, or of targets in regression.

        Returns
        -------
        module : PooledModule
            Pooling, followed by a module that returns one logit per class, or one value per target.
        """

    @abstractmethod
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
        """Fit the head.

        Parameters
        ----------
        module : PooledModule
            Module returned by `build`, after the training of the network.
        embeddings : ndarray of shape (n_samples, n_features), float64, or None
            Pooled embeddings of the training samples. None for neural heads.
        y : ndarray of shape (n_samples,)
            Classes of the training samples, as indices of `classes`.
        sample_weight : ndarray of shape (n_samples,) or None
            Weights of the training samples.
        classes : ndarray of shape (n_classes,)
            Class labels.
        needs_probabilities : bool
            Whether the policy needs probabilities rather than labels only.
        seed : int
            Seed of random numbers.

        Returns
        -------
        head : FittedHead
            The fitted head.
        """

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
        """Fit the head for a regression.

        The default implementation raises an error.

        Parameters
        ----------
        module : PooledModule
            Module returned by `build`, after the training of the network.
        embeddings : ndarray of shape (n_samples, n_features), float64, or None
            Pooled embeddings of the training samples. None for neural heads.
        y : ndarray of shape (n_samples, n_targets)
            Standardized targets of the training samples.
        sample_weight : ndarray of shape (n_samples,) or None
            Weights of the training samples.
        targets : Targets
            Mean and scale of the targets.
        seed : int
            Seed of random numbers.

        Returns
        -------
        head : RegressionExit
            The fitted head.

        Raises
        ------
        ValueError
            If the head supports classification only.
        """
        raise ValueError(
            f"The head {type(self).__name__} predicts classes only. Give another head for a "
            "regression, such as 'linear' or 'mlp', or define its method fit_regression."
        )


class RegressionExit(FittedHead):
    """Base class of fitted heads that predict values of targets.

    Parameters
    ----------
    model : torch.nn.Module or fitted scikit-learn estimator
        The model of the head.
    pooling : torch.nn.Module
        Maps the embeddings of a stage to vectors of shape (n, n_features).

    Examples
    --------
    >>> import torch
    >>> from skearlyexit.heads import RegressionExit
    >>> class Halved(RegressionExit):  # values nearer to the mean, which is 0
    ...     def outputs(self, vectors):
    ...         return self.model(vectors).double().numpy() / 2
    ...     def to(self, device):
    ...         self.model.to(device)
    >>> head = Halved(model=torch.nn.Identity(), pooling=torch.nn.Flatten())
    >>> head.outputs(head.pool(torch.tensor([[[3.0]]])))
    array([[1.5]])
    """

    @abstractmethod
    def outputs(self, vectors: torch.Tensor) -> np.ndarray:
        """Values of the targets, standardized as in the training; see `FittedHead`."""

    def predict_proba(self, vectors: torch.Tensor) -> np.ndarray:
        """Raise a TypeError, since there are no classes."""
        raise TypeError(f"{type(self).__name__} predicts values of targets, and no classes.")

"""Heads that are neural networks, before and after fitting."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch

from skearlyexit._determinism._layers import Normalized, with_padding
from skearlyexit._determinism._softmax import largest_of_softmax, softmax, softmax_of_one
from skearlyexit._onnx._convert import add_softmax, insert_module
from skearlyexit._onnx._graph import Graph
from skearlyexit.heads._base import FittedHead, Head, PooledModule, RegressionExit
from skearlyexit.heads._pooling import resolve_pooling


class NeuralRegression(RegressionExit):
    """A trained module that returns standardized values of the targets.

    Parameters
    ----------
    model : PooledModule
        The module, with the pooling.
    pooling : torch.nn.Module
        The pooling of the module.
    """

    rows_per_call: ClassVar[int] = 64

    def outputs(self, vectors: torch.Tensor) -> np.ndarray:
        """Values of the last layer; see `FittedHead.outputs`."""
        return self.model.body(vectors).to("cpu", torch.float64).numpy()

    def onnx(self, graph: Graph, embedding: str, example: torch.Tensor) -> str:
        return graph.cast(_add_module(graph, embedding, self.model, example), np.float64)

    def to(self, device: torch.device | str) -> None:
        """Move the module to a device."""
        self.model.to(device)


class NeuralExit(FittedHead):
    """A trained module that returns logits.

    Parameters
    ----------
    model : PooledModule
        The module, with the pooling.
    pooling : torch.nn.Module
        The pooling of the module.
    """

    rows_per_call: ClassVar[int] = 64

    @property
    def has_logits(self) -> bool:
        return type(self).onnx is NeuralExit.onnx  # a derived class may convert something else

    def predict_proba(self, vectors: torch.Tensor) -> np.ndarray:
        """Softmax of the logits; see `FittedHead.predict_proba`."""
        return softmax(self.model.body(vectors).cpu().numpy())

    @property
    def is_softmax(self) -> bool:
        """Whether the probabilities are the softmax of the logits; a derived class may differ."""
        cls = type(self)
        return cls.predict_proba is NeuralExit.predict_proba and cls.outputs is FittedHead.outputs

    def predict_largest(self, vectors: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Largest value of the softmax; see `FittedHead.predict_largest`."""
        if not self.is_softmax:
            return super().predict_largest(vectors)
        return largest_of_softmax(self.model.body(vectors).cpu().numpy())

    def outputs_of_one(self, vectors: torch.Tensor) -> np.ndarray:
        """Softmax of the logits of a single sample; see `FittedHead.outputs_of_one`."""
        if not self.is_softmax:
            return super().outputs_of_one(vectors)
        return softmax_of_one(self.model.body(vectors).cpu().numpy()[:1])

    def onnx(self, graph: Graph, embedding: str, example: torch.Tensor) -> str:
        return add_softmax(graph, self.onnx_logits(graph, embedding, example))

    def onnx_logits(self, graph: Graph, embedding: str, example: torch.Tensor) -> str:
        return _add_module(graph, embedding, self.model, example)

    def to(self, device: torch.device | str) -> None:
        """Move the module to a device."""
        self.model.to(device)


class NeuralHead(Head):
    """Base class of heads that are torch modules and are trained with the network.

    A subclass must define `body`, the module that follows pooling and normalization.

    Parameters
    ----------
    pooling : {"quarters", "average", "flatten"} or torch.nn.Module, default="quarters"
        Maps embeddings to vectors. ``"quarters"`` is `QuarterPooling`, ``"average"`` is
        `GlobalAveragePooling`, and ``"flatten"`` keeps all values. A torch module is copied and
        trained with the network, and its output is flattened.
    normalize : bool or None, default=None
        Whether batch normalization is applied to the vectors. None applies it if embeddings have
        more than one axis, such as those of images: their means are small and differ in scale,
        which slows down the training. After training, the normalization is merged into the first
        layer of the head and has no cost.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from torch import nn
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.backbones import PaddedLinear
    >>> from skearlyexit.heads import NeuralHead
    >>> class TanhHead(NeuralHead):
    ...     def body(self, n_features, n_classes):
    ...         return nn.Sequential(
    ...             PaddedLinear(n_features, 32), nn.Tanh(), PaddedLinear(32, n_classes))
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"], head=TanhHead(), calibration=None,
    ...     max_epochs=2, random_state=0)
    >>> clf.fit(X, y).cost_table_.head_costs  # 16 x 32 + 32 x 2
    array([576., 576.])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {"normalize": ["boolean", None]}
    is_neural = True

    def __init__(
        self, *, pooling: str | torch.nn.Module = "quarters", normalize: bool | None = None
    ) -> None:
        self.pooling = pooling
        self.normalize = normalize

    @abstractmethod
    def body(self, n_features: int, n_classes: int) -> torch.nn.Sequential:
        """Build the module that maps pooled vectors to logits.

        Parameters
        ----------
        n_features : int
            Size of the vectors.
        n_classes : int
            Number of classes, or of targets in regression.

        Returns
        -------
        body : torch.nn.Sequential
            Module that maps vectors of shape (n, n_features) to logits of shape (n, n_classes). Its
            first layer must be a `PaddedLinear`. If it is of a derived class, parametrized or has
            hooks, normalization is not merged into it.
        """

    def build(self, embedding: torch.Tensor, n_classes: int) -> PooledModule:
        pooling = resolve_pooling(self.pooling)
        n_features = pooling(embedding).shape[1]
        body = self.body(n_features, n_classes)
        normalize = embedding.ndim > 2 if self.normalize is None else self.normalize
        return PooledModule(pooling, Normalized(n_features, body) if normalize else body)

    def fit(self, module: PooledModule, *args: Any, **kwargs: Any) -> FittedHead:
        """Return a copy of the trained module, with its normalization in the first layer.

        Parameters
        ----------
        module : PooledModule
            Module returned by `build`, after the training of the network.
        *args, **kwargs
            Ignored.

        Returns
        -------
        head : FittedHead
            The fitted head.
        """
        module = _for_prediction(module)
        return NeuralExit(module, module.pooling)

    def fit_regression(self, module: PooledModule, *args: Any, **kwargs: Any) -> RegressionExit:
        """Return a copy of the trained module for a regression; see `fit`.

        Parameters
        ----------
        module : PooledModule
            Module returned by `build`, after the training of the network.
        *args, **kwargs
            Ignored.

        Returns
        -------
        head : RegressionExit
            The fitted head.
        """
        module = _for_prediction(module)
        return NeuralRegression(module, module.pooling)


def _add_module(
    graph: Graph, embedding: str, module: torch.nn.Module, example: torch.Tensor
) -> str:
    """Add a module to a graph; name of its outputs, in the precision of the network."""
    what = f"A head {type(module).__name__}"
    (outputs,) = insert_module(graph, [embedding], module, example, what)
    return outputs


def _for_prediction(module: PooledModule) -> PooledModule:
    """Copy of a trained module, with its normalization in the first layer if this is possible."""
    if isinstance(module.body, Normalized) and module.body.can_be_folded:
        module = PooledModule(module.pooling, module.body.folded()).eval()
    return with_padding(module)

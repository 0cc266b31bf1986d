"""What a head is, before and after fitting."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator

from skearlyexit._determinism._in_place import keeping_input
from skearlyexit._determinism._layers import Normalized
from skearlyexit.costs import CostInput
from skearlyexit.heads._pooling import resolve_pooling


class PooledModule(torch.nn.Module):
    """Pooling, then a module on vectors; neither writes into what it is called with.

    Parameters
    ----------
    pooling, body : torch.nn.Module
        One that may write into its input is called with a copy.

    Notes
    -----
    **Shape**: embedding (n, ...) to logits (n, n_classes).
    """

    def __init__(self, pooling: torch.nn.Module, body: torch.nn.Module) -> None:
        super().__init__()
        self.pooling = keeping_input(pooling)
        self.body = keeping_input(body)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        return self.body(self.pooling(embedding))


@dataclass
class FittedHead(metaclass=ABCMeta):
    """A head that answers.

    Attributes
    ----------
    model : torch.nn.Module or fitted scikit-learn estimator
    pooling : torch.nn.Module
        From the embedding of a stage to vectors of shape (n, n_features).

    Examples
    --------
    >>> import torch
    >>> from skearlyexit.heads import FittedHead
    >>> class Softened(FittedHead):  # answers at a temperature of 2
    ...     def predict_proba(self, embedding):
    ...         logits = self.model(self.pooling(embedding)).double()
    ...         return torch.softmax(logits / 2, dim=1).numpy()
    ...     def to(self, device):
    ...         self.model.to(device)
    >>> head = Softened(model=torch.nn.Identity(), pooling=torch.nn.Flatten())
    >>> head.predict_proba(torch.tensor([[0.0, 4.0]])).round(2)
    array([[0.12, 0.88]])
    """

    model: Any
    pooling: torch.nn.Module

    @abstractmethod
    def predict_proba(self, embedding: torch.Tensor) -> np.ndarray:
        """Class probabilities.

        Parameters
        ----------
        embedding : Tensor of shape (n, ...)
            n a multiple of 16, which keeps the answer for a row free of the rows beside it.

        Returns
        -------
        probabilities : ndarray of shape (n, n_classes), float64
        """

    def part(self, embedding: torch.Tensor) -> CostInput:
        """Input of the measurement of its cost, on a few embeddings."""
        return CostInput(self.predict_proba, embedding, self.model)

    @abstractmethod
    def to(self, device: torch.device | str) -> None:
        """Move what torch owns of it."""


class Head(BaseEstimator, metaclass=ABCMeta):
    """Recipe for a head.

    Attributes
    ----------
    is_neural : bool
        Whether the module of `build` is the head itself. If not, that module only stands in its
        place while the network is trained, and `fit` makes the head from frozen embeddings.
    is_own : bool
        Whether the network's own classifier takes its place, and `build` is not called.
    cross_fit : int or None
        Number of folds in which those embeddings are cross-fitted; None takes the embeddings of
        rows that the network has seen.

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
        """New module from embeddings like the given one to one logit per class.

        Parameters
        ----------
        embedding : Tensor of shape (n, ...)
            A few embeddings, for their shape.
        n_classes : int

        Returns
        -------
        module : PooledModule
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
        """Make the head that answers.

        Parameters
        ----------
        module : PooledModule
            What `build` returned, trained.
        embeddings : ndarray of shape (n_samples, n_features), float64, or None
            Pooled embeddings of the training rows; None for neural heads.
        y : ndarray of shape (n_samples,)
            Indices of classes.
        sample_weight : ndarray of shape (n_samples,) or None
        classes : ndarray of shape (n_classes,)
            Labels that they stand for.
        needs_probabilities : bool
            Whether the policy reads more than labels.
        seed : int
        """


class NeuralExit(FittedHead):
    """A trained module that answers with logits."""

    def predict_proba(self, embedding: torch.Tensor) -> np.ndarray:
        """Softmax of the logits; see `FittedHead.predict_proba`."""
        # In double precision, in which probabilities add up to 1 as numpy and scikit-learn ask.
        logits = self.model(embedding).to("cpu", torch.float64)
        return torch.softmax(logits, dim=1).numpy()

    def to(self, device: torch.device | str) -> None:
        """Move the module."""
        self.model.to(device)


class NeuralHead(Head):
    """Head that is trained with the network.

    Parameters
    ----------
    pooling : {"average", "flatten"} or torch.nn.Module, default="average"
        From embeddings to vectors; see `resolve_pooling`.
    normalize : bool or None, default=None
        Whether the vectors are standardized by batch normalization, which costs nothing once the
        head is trained, since its first layer then does it too. Averages over an image are small
        and differ much in scale, so that a head learns slowly without. Vectors gain little by it,
        and with extreme weights a head that is trained for a few steps only learns to tell rows
        apart by chance. None: what is pooled is standardized, and vectors are not.

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
        self, *, pooling: str | torch.nn.Module = "average", normalize: bool | None = None
    ) -> None:
        self.pooling = pooling
        self.normalize = normalize

    @abstractmethod
    def body(self, n_features: int, n_classes: int) -> torch.nn.Sequential:
        """New chain from vectors (n, n_features) to logits (n, n_classes).

        A `PaddedLinear` is the first of it.
        """

    def build(self, embedding: torch.Tensor, n_classes: int) -> PooledModule:
        """Pooling, normalization and body; see `Head.build`."""
        pooling = resolve_pooling(self.pooling)
        n_features = pooling(embedding).shape[1]
        body = self.body(n_features, n_classes)
        normalize = embedding.ndim > 2 if self.normalize is None else self.normalize
        return PooledModule(pooling, Normalized(n_features, body) if normalize else body)

    def fit(self, module: PooledModule, *args: Any, **kwargs: Any) -> FittedHead:
        """Return the trained module, its normalization folded; see `Head.fit`."""
        if isinstance(module.body, Normalized):
            module = PooledModule(module.pooling, module.body.folded()).eval()
        return NeuralExit(module, module.pooling)

"""The network's own classifier as a head."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from skearlyexit.heads._base import FittedHead, Head, PooledModule, RegressionExit
from skearlyexit.heads._neural import NeuralExit, NeuralRegression


class OwnHead(Head):
    """Head that is the network's own classifier, which is part of the network already."""

    is_neural = True
    is_own: ClassVar[bool] = True

    def build(self, embedding: torch.Tensor, n_classes: int) -> PooledModule:
        """Raise a NotImplementedError, since the classifier is not built."""
        raise NotImplementedError("The network's own classifier comes with the network.")

    def fit(self, module: PooledModule, *args: Any, **kwargs: Any) -> FittedHead:
        """Return the classifier unchanged; see `Head.fit`."""
        return NeuralExit(module, module.pooling)

    def fit_regression(self, module: PooledModule, *args: Any, **kwargs: Any) -> RegressionExit:
        """Return the last layer unchanged; see `Head.fit_regression`."""
        return NeuralRegression(module, module.pooling)

"""The classifier that a network brings."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from skearlyexit.heads._base import FittedHead, Head, NeuralExit, PooledModule


class OwnHead(Head):
    """The network's own classifier, which is not built but taken from the network."""

    is_neural = True
    is_own: ClassVar[bool] = True

    def build(self, embedding: torch.Tensor, n_classes: int) -> PooledModule:
        """Nothing that could be built; see `Head.build`."""
        raise NotImplementedError("The network's own classifier comes with the network.")

    def fit(self, module: PooledModule, *args: Any, **kwargs: Any) -> FittedHead:
        """Return the classifier as it is; see `Head.fit`."""
        return NeuralExit(module, module.pooling)

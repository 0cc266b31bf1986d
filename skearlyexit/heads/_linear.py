"""A linear head."""

from __future__ import annotations

import torch

from skearlyexit._determinism._layers import PaddedLinear
from skearlyexit.heads._base import NeuralHead


class LinearHead(NeuralHead):
    """One linear layer on the pooled embedding.

    Parameters
    ----------
    pooling : {"average", "flatten"} or torch.nn.Module, default="average"
        From embeddings to vectors.
    normalize : bool or None, default=None
        Whether batch normalization standardizes the vectors. None: where they are pooled; see
        `NeuralHead`.
    """

    def body(self, n_features: int, n_classes: int) -> torch.nn.Sequential:
        """Linear layer; see `NeuralHead.body`."""
        return torch.nn.Sequential(PaddedLinear(n_features, n_classes))

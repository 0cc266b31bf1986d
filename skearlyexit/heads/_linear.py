"""A linear head."""

from __future__ import annotations

import torch

from skearlyexit._determinism._layers import PaddedLinear
from skearlyexit.heads._neural import NeuralHead


class LinearHead(NeuralHead):
    """Head that is a linear layer on the pooled embedding.

    Parameters
    ----------
    pooling : {"quarters", "average", "flatten"} or torch.nn.Module, default="quarters"
        Maps embeddings to vectors. ``"quarters"`` is `QuarterPooling`, ``"average"`` is
        `GlobalAveragePooling`, and ``"flatten"`` keeps all values. A torch module is copied and
        trained with the network, and its output is flattened.
    normalize : bool or None, default=None
        Whether batch normalization is applied to the vectors. None applies it if embeddings have
        more than one axis, such as those of images; see `NeuralHead`.

    Examples
    --------
    >>> import torch
    >>> from skearlyexit import LinearHead
    >>> maps = torch.zeros(2, 8, 4, 4)  # two embeddings of 8 channels and 4 x 4 positions
    >>> for pooling in ("quarters", "average", "flatten"):
    ...     module = LinearHead(pooling=pooling).build(maps, n_classes=3)
    ...     print(tuple(module.pooling(maps).shape), tuple(module(maps).shape))
    (2, 32) (2, 3)
    (2, 8) (2, 3)
    (2, 128) (2, 3)
    """

    def body(self, n_features: int, n_classes: int) -> torch.nn.Sequential:
        return torch.nn.Sequential(PaddedLinear(n_features, n_classes))

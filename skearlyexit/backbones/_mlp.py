"""A residual multi-layer perceptron."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval

from skearlyexit._determinism._layers import PaddedLinear, Standardize, round_up
from skearlyexit.backbones._base import Backbone, Network
from skearlyexit.backbones._chain import Chain


class _ResidualBlock(torch.nn.Module):
    """A residual block, ``x + W2 dropout(relu(W1 batchnorm(x)))``."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.branch = torch.nn.Sequential(
            torch.nn.BatchNorm1d(width),
            torch.nn.Linear(width, hidden),
            torch.nn.ReLU(),
            *([torch.nn.Dropout(dropout)] if dropout else []),
            torch.nn.Linear(hidden, width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.branch(x)


class MLPBackbone(Backbone):
    """Multi-layer perceptron with residual blocks.

    The network is a linear layer, the stem, followed by residual blocks
    ``x + W2 relu(W1 batchnorm(x))``. Blocks are named ``"stem"``, ``"block1"``, ``"block2"``, and
    so on.

    The input is standardized feature by feature, with the mean and standard deviation of the
    training samples. Samples with several axes are flattened first.

    Parameters
    ----------
    n_blocks : int, default=8
        Number of residual blocks.
    width : int, default=128
        Size of the embeddings, rounded up to a multiple of 16.
    hidden : int, default=128
        Number of hidden units of each residual block, rounded up to a multiple of 16.
    dropout : float, default=0.0
        Dropout rate of the hidden units.

    Examples
    --------
    >>> import numpy as np
    >>> MLPBackbone(n_blocks=2).build(np.zeros((4, 3), dtype=np.float32), n_classes=2).names
    ['stem', 'block1', 'block2']
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_blocks": [Interval(Integral, 0, None, closed="left")],
        "width": [Interval(Integral, 1, None, closed="left")],
        "hidden": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self, n_blocks: int = 8, *, width: int = 128, hidden: int = 128, dropout: float = 0.0
    ) -> None:
        self.n_blocks = n_blocks
        self.width = width
        self.hidden = hidden
        self.dropout = dropout

    def build(self, X: np.ndarray, n_classes: int) -> Network:
        width, hidden = round_up(self.width), round_up(self.hidden)
        n_features = math.prod(X.shape[1:])
        standardize = Standardize(X, lambda rows: rows.reshape(len(rows), -1))
        stem = torch.nn.Sequential(torch.nn.Flatten(), standardize, PaddedLinear(n_features, width))
        blocks = [_ResidualBlock(width, hidden, self.dropout) for _ in range(self.n_blocks)]
        names = ["stem", *(f"block{i + 1}" for i in range(self.n_blocks))]
        return Chain([stem, *blocks], names=names, standardize=standardize)

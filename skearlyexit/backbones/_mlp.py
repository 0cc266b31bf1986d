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

#: Maximum number of samples of a batch in which the same units are dropped.
N_SHARING = 8


class _ResidualBlock(torch.nn.Module):
    """A residual block, ``x + W2 dropout(relu(W1 batchnorm(x)))``.

    Scale and shift of the normalization would be redundant before W1. So would the bias of W2,
    since later blocks subtract the mean and heads have a bias.
    """

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.branch = torch.nn.Sequential(
            torch.nn.BatchNorm1d(width, affine=False),
            torch.nn.Linear(width, hidden),
            torch.nn.ReLU(),
            *([Dropout(dropout)] if dropout else []),
            torch.nn.Linear(hidden, width, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.branch(x)


class Dropout(torch.nn.Module):
    """Dropout in which up to eight samples of a batch have the same units dropped.

    The dropout of torch draws a random number for each value, which takes a quarter of the time of
    a training step of a small network.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        n_patterns = (len(x) + N_SHARING - 1) // N_SHARING
        # Not in the precision of x: with 8 bits, a rate of 0.01 would be 0.012.
        kept = torch.rand(n_patterns, *x.shape[1:], device=x.device).ge_(self.rate).to(x.dtype)
        factor = kept.mul_(1 / (1 - self.rate)).repeat(N_SHARING, *[1] * (x.ndim - 1))
        return x * factor[: len(x)]

    def extra_repr(self) -> str:
        return f"p={self.rate}"


class SmoothClip(torch.nn.Module):
    """Compresses values smoothly to at most a limit, ``x / sqrt(1 + (x / limit)**2)``.

    Square root and division are rounded correctly, so that the result for a sample does not depend
    on the batch.
    """

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / torch.sqrt(1 + torch.square(x / self.limit))


class MLPBackbone(Backbone):
    """Multi-layer perceptron with residual blocks.

    The network is a linear layer, the stem, followed by residual blocks
    ``x + W2 relu(W1 batchnorm(x))``. Blocks are named ``"stem"``, ``"block1"``, ``"block2"``, and
    so on.

    The input is standardized feature by feature, with the mean and standard deviation of the
    training samples. Samples with several axes are flattened first. If `smooth_clip` is given,
    standardized values x are then replaced by ``x / sqrt(1 + (x / smooth_clip)**2)``, which reduces
    the influence of outliers and of indicators of rare categories.

    Parameters
    ----------
    n_blocks : int, default=6
        Number of residual blocks.
    width : int, default=64
        Size of the embeddings, rounded up to a multiple of 16.
    hidden : int, default=128
        Number of hidden units of each residual block, rounded up to a multiple of 16.
    dropout : float, default=0.15
        Dropout rate of the hidden units. Up to eight samples of a batch have the same units
        dropped.
    smooth_clip : float or None, default=3.0
        Limit of the absolute values of standardized features. None does not limit them.

    References
    ----------
    Smooth clipping: Holzmüller, Grinsztajn, Steinwart, "Better by default: strong pre-tuned MLPs
    and boosted trees on tabular data", NeurIPS 2024.

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
        "smooth_clip": [Interval(Real, 0, None, closed="neither"), None],
    }

    def __init__(
        self,
        n_blocks: int = 6,
        *,
        width: int = 64,
        hidden: int = 128,
        dropout: float = 0.15,
        smooth_clip: float | None = 3.0,
    ) -> None:
        self.n_blocks = n_blocks
        self.width = width
        self.hidden = hidden
        self.dropout = dropout
        self.smooth_clip = smooth_clip

    def build(self, X: np.ndarray, n_classes: int) -> Network:
        width, hidden = round_up(self.width), round_up(self.hidden)
        n_features = math.prod(X.shape[1:])
        standardize = Standardize(X, lambda rows: rows.reshape(len(rows), -1))
        prepare: list[torch.nn.Module] = [torch.nn.Flatten(), standardize]
        if self.smooth_clip is not None:
            prepare.append(SmoothClip(self.smooth_clip))
        stem = torch.nn.Sequential(*prepare, PaddedLinear(n_features, width))
        blocks = [_ResidualBlock(width, hidden, self.dropout) for _ in range(self.n_blocks)]
        names = ["stem", *(f"block{i + 1}" for i in range(self.n_blocks))]
        return Chain([stem, *blocks], names=names, standardize=standardize)

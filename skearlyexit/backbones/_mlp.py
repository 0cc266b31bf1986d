"""A residual multi-layer perceptron."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit._determinism._layers import (
    Mergeable,
    PaddedLinear,
    Standardize,
    round_up,
    scale_and_shift,
)
from skearlyexit._onnx._graph import Graph
from skearlyexit._onnx._modules import UnknownModuleError, constant, converts
from skearlyexit.backbones._base import Backbone, Network
from skearlyexit.backbones._chain import Chain

#: Maximum number of samples of a batch in which the same units are dropped.
N_SHARING = 8

#: By default, features have periodic functions if there are few of them: 16 functions each, but
#: at most 128 in all. With 16 features or more, a linear first exit is accurate enough, and the
#: last exit can become less accurate.
MAX_FREQUENCIES, MAX_PERIODIC, FEW_FEATURES = 16, 128, 12


class _ResidualBlock(Mergeable):
    """A residual block, ``x + W2 dropout(relu(W1 batchnorm(x)))``.

    Scale and shift of the normalization would be redundant before W1. So would the bias of W2,
    since later blocks subtract the mean and heads have a bias.
    """

    merged_weight: torch.Tensor | None
    merged_bias: torch.Tensor | None

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__("merged_weight", "merged_bias")  # of W1 with the normalization
        self.branch = torch.nn.Sequential(
            torch.nn.BatchNorm1d(width, affine=False),
            torch.nn.Linear(width, hidden),
            torch.nn.ReLU(),
            *([Dropout(dropout)] if dropout else []),
            torch.nn.Linear(hidden, width, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training or self.merged_weight is None:
            return x + self.branch(x)
        last: Any = self.branch[-1]
        hidden = F.linear(x, self.merged_weight, self.merged_bias).relu_()
        return F.linear(hidden, last.weight).add_(x)

    @torch.no_grad()
    def merge(self) -> None:
        norm: Any = self.branch[0]
        first: Any = self.branch[1]
        scale, shift = scale_and_shift(norm)
        self.merged_weight, self.merged_bias = (
            first.weight * scale,
            first.bias + first.weight @ shift,
        )


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
        factor = kept.mul_(1 / (1 - self.rate)).expand(N_SHARING, *kept.shape)
        if len(x) % N_SHARING:
            return x * factor.flatten(0, 1)[: len(x)]
        return (x.reshape(factor.shape) * factor).reshape(x.shape)  # the factor is not copied

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
        return x / torch.square(x / self.limit).add_(1).sqrt_()


class PeriodicFeatures(torch.nn.Module):
    """Appends periodic functions of each feature, ``cos(2 pi (w x + b))``, with trained w and b.

    Parameters
    ----------
    n_features : int
        Number of features.
    n_frequencies : int
        Number of functions of each feature.
    scale : float
        Standard deviation of the initial w. The initial b are uniform in [0, 1).

    Notes
    -----
    **Shape**: (n, n_features) to (n, n_features * (1 + n_frequencies)).
    """

    def __init__(self, n_features: int, n_frequencies: int, scale: float) -> None:
        super().__init__()
        self.frequency = torch.nn.Parameter(scale * torch.randn(n_features, n_frequencies))
        self.shift = torch.nn.Parameter(torch.rand(n_features, n_frequencies))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        phase = x.unsqueeze(-1) * self.frequency + self.shift
        return torch.cat([x, torch.cos(2 * math.pi * phase).flatten(1)], dim=1)


class MLPBackbone(Backbone):
    """Multi-layer perceptron with residual blocks.

    The network is a linear layer, the stem, followed by residual blocks
    ``x + W2 relu(W1 batchnorm(x))``. Blocks are named ``"stem"``, ``"block1"``, ``"block2"``, and
    so on.

    The input is standardized feature by feature, with the mean and standard deviation of the
    training samples. Samples with several axes are flattened first. If `smooth_clip` is given,
    standardized values x are then replaced by ``x / sqrt(1 + (x / smooth_clip)**2)``, which reduces
    the influence of outliers and of indicators of rare categories. If there are few features,
    periodic functions of each value, ``cos(2 pi (w x + b))`` with trained w and b, are appended.
    They make the exits more accurate, most of all the first one, whose head would otherwise be
    linear in the features.

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
    n_frequencies : int or "auto", default="auto"
        Number of periodic functions of each feature. ``"auto"`` is 16, or 10 to 14 for 9 to 12
        features, and 0 for more. They increase the number of operations of the stem.
    frequency_scale : float, default=0.1
        Standard deviation of the initial frequencies w. The larger it is, the less smooth is the
        dependence on a feature.

    References
    ----------
    Periodic functions: Gorishniy, Rubachev, Babenko, "On embeddings for numerical features in
    tabular deep learning", NeurIPS 2022.

    Smooth clipping: Holzmüller, Grinsztajn, Steinwart, "Better by default: strong pre-tuned MLPs
    and boosted trees on tabular data", NeurIPS 2024.

    Examples
    --------
    >>> import numpy as np
    >>> MLPBackbone(n_blocks=2).build(np.zeros((4, 3), dtype=np.float32), n_classes=2).names
    ['stem', 'block1', 'block2']
    """

    # With 1,000 samples, it is less accurate than AdamW on most tables, and slower.
    muon_from: ClassVar[int | None] = 4000
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_blocks": [Interval(Integral, 0, None, closed="left")],
        "width": [Interval(Integral, 1, None, closed="left")],
        "hidden": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "smooth_clip": [Interval(Real, 0, None, closed="neither"), None],
        "n_frequencies": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "frequency_scale": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        n_blocks: int = 6,
        *,
        width: int = 64,
        hidden: int = 128,
        dropout: float = 0.15,
        smooth_clip: float | None = 3.0,
        n_frequencies: int | str = "auto",
        frequency_scale: float = 0.1,
    ) -> None:
        self.n_blocks = n_blocks
        self.width = width
        self.hidden = hidden
        self.dropout = dropout
        self.smooth_clip = smooth_clip
        self.n_frequencies = n_frequencies
        self.frequency_scale = frequency_scale

    def build(self, X: np.ndarray, n_classes: int) -> Network:
        width, hidden = round_up(self.width), round_up(self.hidden)
        n_features = math.prod(X.shape[1:])
        standardize = Standardize(X, lambda rows: rows.reshape(len(rows), -1))
        prepare: list[torch.nn.Module] = [torch.nn.Flatten(), standardize]
        if self.smooth_clip is not None:
            prepare.append(SmoothClip(self.smooth_clip))
        n_frequencies = self._n_frequencies(n_features)
        if n_frequencies:
            prepare.append(PeriodicFeatures(n_features, n_frequencies, self.frequency_scale))
            n_features *= 1 + n_frequencies
        stem = torch.nn.Sequential(*prepare, PaddedLinear(n_features, width))
        blocks = [_ResidualBlock(width, hidden, self.dropout) for _ in range(self.n_blocks)]
        names = ["stem", *(f"block{i + 1}" for i in range(self.n_blocks))]
        return Chain([stem, *blocks], names=names, standardize=standardize, batch_invariant=True)

    def _n_frequencies(self, n_features: int) -> int:
        """Number of periodic functions of each feature."""
        if not isinstance(self.n_frequencies, str):
            return self.n_frequencies
        if n_features > FEW_FEATURES:
            return 0
        return min(MAX_FREQUENCIES, MAX_PERIODIC // n_features)


@converts(Dropout)
def _(module: Dropout, graph: Graph, tensor: str, example: torch.Tensor) -> str:
    return tensor


@converts(SmoothClip)
def _(module: SmoothClip, graph: Graph, tensor: str, example: torch.Tensor) -> str:
    limit, one = (graph.constant(example.numpy().dtype.type(each)) for each in (module.limit, 1))
    share = graph.op("Div", tensor, limit)
    root = graph.op("Sqrt", graph.op("Add", graph.op("Mul", share, share), one))
    return graph.op("Div", tensor, root)


@converts(PeriodicFeatures)
def _(module: PeriodicFeatures, graph: Graph, tensor: str, example: torch.Tensor) -> str:
    each = graph.op("Unsqueeze", tensor, graph.constant([2]))
    full_turns = 2 * math.pi
    phase = graph.op("Mul", each, constant(graph, full_turns * module.frequency))
    phase = graph.op("Add", phase, constant(graph, full_turns * module.shift))
    periodic = graph.op("Flatten", graph.op("Cos", phase), axis=1)
    return graph.op("Concat", tensor, periodic, axis=1)


@converts(_ResidualBlock)
def _(block: _ResidualBlock, graph: Graph, tensor: str, example: torch.Tensor) -> str:
    if block.merged_weight is None or block.merged_bias is None:
        raise UnknownModuleError("a block that is not merged")
    last: Any = block.branch[-1]
    weight, bias = (constant(graph, each) for each in (block.merged_weight, block.merged_bias))
    hidden = graph.op("Relu", graph.op("Gemm", tensor, weight, bias, transB=1))
    return graph.op("Gemm", hidden, constant(graph, last.weight), tensor, transB=1)

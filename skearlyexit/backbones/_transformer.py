"""A transformer encoder for vectors and time series."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.utils._param_validation import Interval

from skearlyexit._determinism._layers import PaddedLinear, Standardize, round_up
from skearlyexit.backbones._base import Backbone, Network
from skearlyexit.backbones._chain import Chain
from skearlyexit.backbones._series import SeriesInput, check_series, mask_check
from skearlyexit.backbones._stage import Block


class _FeatureTokens(torch.nn.Module):
    """Token for each feature: a learned vector times the standardized value, plus a learned bias.

    Notes
    -----
    **Shape**: (n, n_features) to tokens (n, n_features, width) and None, since there is no mask.
    """

    def __init__(self, X: np.ndarray, width: int) -> None:
        super().__init__()
        self.standardize = Standardize(X)
        bound = 1 / math.sqrt(width)
        shape = X.shape[1], width
        self.weight = torch.nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.bias = torch.nn.Parameter(torch.empty(shape).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self.standardize(x)[:, :, None] * self.weight + self.bias, None


class _PointTokens(torch.nn.Module):
    """Token for each time point: a linear map of the channels, plus the encoded position.

    Notes
    -----
    **Shape**: (n, n_channels, length) to tokens (n, length, width) and a mask (n, 1, length) or
    None.
    """

    positions: torch.Tensor

    def __init__(self, X: np.ndarray, masked: bool, width: int) -> None:
        super().__init__()
        self.entry = SeriesInput(X, masked)
        self.standardize = self.entry.standardize
        self.map = PaddedLinear(self.entry.n_channels, width)
        self.register_buffer("positions", encode_positions(X.shape[2], width))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        values, mask = self.entry(x)
        return self.map(values.transpose(1, 2)) + self.positions, mask


def encode_positions(length: int, width: int) -> torch.Tensor:
    """Positional encoding of Vaswani et al., of shape (length, width)."""
    frequencies = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1).float()


class _Stem(Block):
    """Converts samples to tokens, and adds the CLS token and padding.

    Notes
    -----
    **Shape**: samples to tokens (n, n_tokens, width), together with the mask (n, 1, n_tokens) if
    there is one. The embedding is the normalized mean of the tokens of a sample, since the CLS
    token does not depend on them yet.
    """

    def __init__(self, tokens: torch.nn.Module, width: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.cls = torch.nn.Parameter(torch.randn(width) * 0.02)

    def forward(self, carry: torch.Tensor) -> tuple[Any, torch.Tensor]:
        tokens, mask = self.tokens(carry)
        n, length, width = tokens.shape
        if mask is None:
            embedding = tokens.mean(dim=1)
        else:
            observed = torch.where(mask.transpose(1, 2) > 0, tokens, 0)
            embedding = observed.sum(dim=1) / mask.sum(dim=2).clamp_min(1)
        n_zeros = round_up(length + 1) - length - 1
        cls = self.cls.expand(n, 1, width)
        tokens = F.pad(torch.cat([cls, tokens], dim=1), (0, 0, 0, n_zeros))
        embedding = F.layer_norm(embedding, (width,))
        if mask is None:
            return tokens, embedding
        mask = F.pad(F.pad(mask, (1, 0), value=1.0), (0, n_zeros))
        return (tokens, mask), embedding


class _EncoderBlock(Block):
    """Encoder block with layer normalization before the attention and before the perceptron.

    Parameters
    ----------
    width, hidden, n_heads : int
    dropout : float
    n_tokens : int
        Number of tokens without padding, including the CLS token. It is used if there is no mask.

    Notes
    -----
    **Shape**: tokens (n, at least n_tokens, width), together with the mask if there is one, to the
    same. The embedding is the normalized CLS token.
    """

    present: torch.Tensor

    def __init__(
        self, width: int, hidden: int, n_heads: int, dropout: float, n_tokens: int
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.attention_norm = torch.nn.LayerNorm(width)
        self.attention_in = torch.nn.Linear(width, 3 * width)
        self.attention_out = torch.nn.Linear(width, width)
        self.perceptron = torch.nn.Sequential(
            torch.nn.LayerNorm(width),
            torch.nn.Linear(width, hidden),
            torch.nn.ReLU(),
            torch.nn.Dropout(dropout),
            torch.nn.Linear(hidden, width),
        )
        self.dropout = torch.nn.Dropout(dropout)
        self.register_buffer("present", torch.arange(round_up(n_tokens))[None, None] < n_tokens)

    def forward(self, carry: Any) -> tuple[Any, torch.Tensor]:
        tokens, mask = carry if isinstance(carry, tuple) else (carry, None)
        present = self.present if mask is None else mask > 0
        tokens = tokens + self.dropout(self._attend(self.attention_norm(tokens), present))
        tokens = tokens + self.dropout(self.perceptron(tokens))
        embedding = F.layer_norm(tokens[:, 0], tokens.shape[2:])
        return (tokens if mask is None else (tokens, mask)), embedding

    def _attend(self, tokens: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        mixed = self.attention_in(tokens).unflatten(2, (3, self.n_heads, -1))
        queries, keys, values = mixed.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=present[:, None],
            dropout_p=self.dropout.p if self.training else 0.0,
        )
        return self.attention_out(attended.transpose(1, 2).flatten(2))


class TransformerBackbone(Backbone):
    """Transformer encoder for vectors and time series.

    Each feature of a vector becomes a token. For series, each time point becomes a token, to which
    the encoding of its position is added. The first block, the stem, computes these tokens and adds
    a CLS token. Each of the following blocks consists of self-attention and a perceptron, with
    layer normalization before both. Blocks are named ``"stem"``, ``"block1"``, ``"block2"``, and so
    on.

    The embedding is the normalized CLS token; that of the stem is the normalized mean of the other
    tokens.

    The input is standardized, with the mean and standard deviation of each feature or channel in
    the training samples.

    Parameters
    ----------
    n_blocks : int, default=4
        Number of encoder blocks.
    width : int, default=64
        Size of tokens and embeddings, rounded up to a multiple of 16.
    n_heads : int, default=4
        Number of attention heads. It must divide the rounded `width`.
    hidden : int, default=128
        Number of hidden units of the perceptrons, rounded up to a multiple of 16.
    dropout : float, default=0.0
        Dropout rate of the attention weights, of the hidden units of the perceptrons, and of the
        outputs of attention and perceptrons.
    masked : bool, default=False
        Whether samples are series whose last channel is a mask, as returned by `pad_series`. The
        prediction for a sample then does not depend on its padding, to which no token attends.

    Notes
    -----
    **Shape**: samples (n_features,) or (n_channels, n_timepoints), embeddings (width,).

    Padding is added up to a multiple of 16 tokens, which makes the results identical for every
    number of threads.

    References
    ----------
    Vaswani et al., "Attention is all you need", NeurIPS 2017. Tokens of features: Gorishniy et al.,
    "Revisiting deep learning models for tabular data", NeurIPS 2021. Layer normalization before
    attention and perceptron: Xiong et al., "On layer normalization in the transformer
    architecture", ICML 2020.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.zeros((4, 5), dtype=np.float32)
    >>> TransformerBackbone(n_blocks=2).build(X, n_classes=2).names
    ['stem', 'block1', 'block2']
    """

    muon_from: ClassVar[int | None] = 0
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_blocks": [Interval(Integral, 0, None, closed="left")],
        "width": [Interval(Integral, 1, None, closed="left")],
        "n_heads": [Interval(Integral, 1, None, closed="left")],
        "hidden": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "masked": ["boolean"],
    }

    def __init__(
        self,
        n_blocks: int = 4,
        *,
        width: int = 64,
        n_heads: int = 4,
        hidden: int = 128,
        dropout: float = 0.0,
        masked: bool = False,
    ) -> None:
        self.n_blocks = n_blocks
        self.width = width
        self.n_heads = n_heads
        self.hidden = hidden
        self.dropout = dropout
        self.masked = masked

    def build(self, X: np.ndarray, n_classes: int) -> Network:
        width, hidden = round_up(self.width), round_up(self.hidden)
        if width % self.n_heads:
            raise ValueError(
                "The 'n_heads' parameter of TransformerBackbone must divide its width, which is "
                f"{width}, width={self.width!r} rounded up to a multiple of 16. Got {self.n_heads} "
                "heads instead."
            )
        tokens: _FeatureTokens | _PointTokens
        if X.ndim == 2 and not self.masked:
            tokens = _FeatureTokens(X, width)
        else:
            check_series(X, masked=self.masked, name="TransformerBackbone")
            tokens = _PointTokens(X, self.masked, width)
        n_tokens = 1 + X.shape[-1]
        blocks = [
            _EncoderBlock(width, hidden, self.n_heads, self.dropout, n_tokens)
            for _ in range(self.n_blocks)
        ]
        names = ["stem", *(f"block{i + 1}" for i in range(self.n_blocks))]
        stem = _Stem(tokens, width)
        check = mask_check(self.masked, "TransformerBackbone")
        return Chain(
            [stem, *blocks],
            names=names,
            standardize=tokens.standardize,
            check=check,
            batch_invariant=True,
        )

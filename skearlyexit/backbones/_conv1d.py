"""A residual convolutional network for time series."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit._determinism._layers import CumulativeBatchNorm, round_up
from skearlyexit.backbones._base import Backbone, Network
from skearlyexit.backbones._chain import Chain
from skearlyexit.backbones._series import SeriesInput, check_series, mask_check
from skearlyexit.backbones._stage import Block

#: Number of time points from which on an automatic stride is 2, and least number that a larger one
#: leaves.
MANY_POINTS, LEAST_POINTS = 128, 256


class _Normalized(torch.nn.Module):
    """Convolution, then batch normalization with the statistics of the observed time points.

    Notes
    -----
    **Shape**: (n, n_in, length) and a mask of shape (n, 1, length / stride) or None, to
    (n, n_out, length / stride). The values of the output at padded points are arbitrary.
    """

    def __init__(self, n_in: int, n_out: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.convolution = torch.nn.Conv1d(
            n_in, n_out, kernel_size, stride=stride, padding=kernel_size // 2, bias=False
        )
        self.normalization = CumulativeBatchNorm(n_out)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        x = self._convolve(x)
        if mask is None or not self.training:
            return self.normalization(x)
        observed = mask[:, 0] > 0
        points = x.transpose(1, 2)
        normalized = torch.zeros_like(points)
        normalized[observed] = self.normalization(points[observed])
        return normalized.transpose(1, 2)

    def _convolve(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve, with additional zeros after the end if the kernel is wider than the input.

        For such short inputs torch uses matrix products whose last bits depend on the other samples
        of the batch.
        """
        n_positions = -(-x.shape[2] // self.stride)
        n_missing = self.convolution.kernel_size[0] // 2 - n_positions
        if n_missing <= 0:
            return self.convolution(x)
        return self.convolution(F.pad(x, (0, self.stride * n_missing)))[:, :, :n_positions]


class _Stem(Block):
    """Standardization, and a convolution.

    Notes
    -----
    **Shape**: series of shape (n, n_channels, length) to (n, width, length / stride), together with
    the mask if there is one.
    """

    def __init__(self, entry: SeriesInput, width: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.entry = entry
        self.stride = stride
        self.map = _Normalized(entry.n_channels, width, kernel_size, stride)

    def forward(self, carry: torch.Tensor) -> tuple[Any, torch.Tensor]:
        x, mask = self.entry(carry)
        mask = _strided(mask, self.stride)
        return _output(torch.relu(self.map(x, mask)), mask)


class _ResidualBlock(Block):
    """Two convolutions with a shortcut connection.

    Notes
    -----
    **Shape**: (n, n_in, length) to (n, n_out, length / stride), together with the mask if there is
    one.
    """

    def __init__(self, n_in: int, n_out: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.first = _Normalized(n_in, n_out, kernel_size, stride)
        self.second = _Normalized(n_out, n_out, kernel_size)
        # A block starts as the identity, which gives a higher accuracy with few training samples.
        torch.nn.init.zeros_(self.second.normalization.weight)
        self.shortcut = None
        if stride != 1 or n_in != n_out:
            self.shortcut = _Normalized(n_in, n_out, 1, stride)

    def forward(self, carry: Any) -> tuple[Any, torch.Tensor]:
        x, mask = carry if isinstance(carry, tuple) else (carry, None)
        mask = _strided(mask, self.stride)
        branch = _emptied(torch.relu(self.first(x, mask)), mask)
        branch = self.second(branch, mask)
        shortcut = x if self.shortcut is None else self.shortcut(x, mask)
        return _output(torch.relu(shortcut + branch), mask)


def _strided(mask: torch.Tensor | None, stride: int) -> torch.Tensor | None:
    """Mask of the outputs of a convolution: that of the points at which the kernel is centered."""
    return None if mask is None else mask[:, :, ::stride]


def _emptied(x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Set the padding to zero, as convolutions do after the end of a series."""
    return x if mask is None else x * mask


def _output(x: torch.Tensor, mask: torch.Tensor | None) -> tuple[Any, torch.Tensor]:
    """Carry, and an embedding whose mean over all positions is the mean over the observed ones."""
    if mask is None:
        return x, x
    x = x * mask
    n_observed = mask.sum(dim=2, keepdim=True).clamp_min(1)
    return (x, mask), x * (x.shape[2] / n_observed)


class Conv1DBackbone(Backbone):
    """Residual convolutional network for time series.

    The network is a convolution, the stem, followed by groups of residual blocks of two
    convolutions each. Blocks are named ``"stem"``, ``"group1.block1"``, ``"group1.block2"``, and so
    on.

    The input is standardized channel by channel, with the mean and standard deviation of the
    training samples.

    Parameters
    ----------
    widths : sequence of int, default=(32, 64, 128)
        Number of channels of each group of blocks, rounded up to a multiple of 16. Every group
        after the first halves the length of the series.
    n_blocks : int, default=2
        Number of residual blocks in each group.
    kernel_size : int, default=5
        Size of the convolution kernels, an odd number of time points. That of the first
        convolution may be larger, see `stem_stride`.
    stem_stride : int or "auto", default="auto"
        Stride of the first convolution, whose kernel has at least ``2 * stem_stride + 1`` points. A
        stride of 2 reduces the cost of the network to about one half. ``"auto"`` is 1 for less than
        128 time points, otherwise the largest power of 2 that leaves at least 256 of them, or 2.
    masked : bool, default=False
        Whether the last channel of X is a mask, as returned by `pad_series`. The prediction for a
        sample then does not depend on its padding, if the heads use the default average pooling.

    Notes
    -----
    **Shape**: samples (n_channels, n_timepoints), embeddings (width, n_positions).

    With a mask, padded points do not enter the statistics of the batch normalization. Embeddings
    are zero in the padding, and scaled such that their mean over all positions is the mean over the
    observed ones.

    References
    ----------
    Wang, Yan, Oates, "Time series classification from scratch with deep neural networks: a strong
    baseline", IJCNN 2017. Initialization of the residual branches with zeros: Goyal et al.,
    "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.zeros((4, 3, 20), dtype=np.float32)
    >>> Conv1DBackbone((16, 32), n_blocks=1).build(X, n_classes=2).names
    ['stem', 'group1.block1', 'group2.block1']
    """

    muon_from: ClassVar[int | None] = 0
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "widths": ["array-like"],
        "n_blocks": [Interval(Integral, 1, None, closed="left")],
        "kernel_size": [Interval(Integral, 1, None, closed="left")],
        "stem_stride": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "masked": ["boolean"],
    }

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128),
        *,
        n_blocks: int = 2,
        kernel_size: int = 5,
        stem_stride: int | str = "auto",
        masked: bool = False,
    ) -> None:
        self.widths = widths
        self.n_blocks = n_blocks
        self.kernel_size = kernel_size
        self.stem_stride = stem_stride
        self.masked = masked

    def _check_sizes(self) -> None:
        if not len(self.widths) or any(not isinstance(w, Integral) or w < 1 for w in self.widths):
            raise ValueError(
                "The 'widths' parameter of Conv1DBackbone must hold at least one positive integer. "
                f"Got {self.widths!r} instead."
            )
        if self.kernel_size % 2 == 0:
            raise ValueError(
                "The 'kernel_size' parameter of Conv1DBackbone must be odd, so that a kernel has a "
                f"center. Got {self.kernel_size!r} instead."
            )

    def _stem_stride(self, n_timepoints: int) -> int:
        if self.stem_stride != "auto":
            return int(self.stem_stride)
        if n_timepoints < MANY_POINTS:
            return 1
        return max(2, 2 ** int(np.log2(max(1, n_timepoints // LEAST_POINTS))))

    def build(self, X: np.ndarray, n_classes: int) -> Network:
        self._check_sizes()
        check_series(X, masked=self.masked, name="Conv1DBackbone")
        widths = [round_up(width) for width in self.widths]
        n_channels = widths[0]
        entry = SeriesInput(X, self.masked)
        stem_stride = self._stem_stride(X.shape[2])
        # Kernels at neighboring positions overlap.
        kernel_size = max(self.kernel_size, 2 * stem_stride + 1)
        blocks: list[torch.nn.Module] = [_Stem(entry, n_channels, kernel_size, stem_stride)]
        names = ["stem"]
        for group, width in enumerate(widths):
            for index in range(self.n_blocks):
                stride = 2 if group > 0 and index == 0 else 1
                blocks.append(_ResidualBlock(n_channels, width, self.kernel_size, stride))
                names.append(f"group{group + 1}.block{index + 1}")
                n_channels = width
        check = mask_check(self.masked, "Conv1DBackbone")
        return Chain(
            blocks, names=names, standardize=entry.standardize, check=check, batch_invariant=True
        )

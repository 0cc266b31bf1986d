"""Layers whose result for a row does not depend on the rows beside it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from skearlyexit._data._chunks import channel_moments

#: Matrix kernels treat rows, and terms of a product, in groups of up to this many. A group that is
#: not full is summed in another order, which shows in the last bits.
GROUP = 16

#: Of the mean of a channel: a standard deviation below it is of few digits in single precision.
COARSE = 2**11 * float(np.finfo(np.float32).eps)


def round_up(n: int) -> int:
    """Smallest multiple of `GROUP` that is at least `n`."""
    return -(-n // GROUP) * GROUP


class PaddedLinear(torch.nn.Module):
    """Linear layer whose widths are filled up to multiples of 16 with zeros.

    With an odd inner width the last bits of a row's result depend on how many rows are computed
    together, and with an odd outer width above 16 on the number of threads too. The zeros change no
    result and get no gradient; as they are multiplied, they count as operations.

    Parameters
    ----------
    in_features, out_features : int

    Notes
    -----
    **Shape**: (n, in_features) to (n, out_features). Initialized as ``torch.nn.Linear``.

    Examples
    --------
    >>> import torch
    >>> from skearlyexit.backbones import PaddedLinear
    >>> layer = PaddedLinear(20, 3)
    >>> tuple(layer.weight.shape), tuple(layer(torch.zeros(5, 20)).shape)
    ((3, 32), (5, 3))
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.n_zeros = round_up(in_features) - in_features
        # A single group of outputs is not shared out among threads.
        self.n_more = round_up(out_features) - out_features if out_features > GROUP else 0
        bound = 1 / math.sqrt(in_features)
        weight = torch.empty(out_features, in_features).uniform_(-bound, bound)
        self.weight = torch.nn.Parameter(F.pad(weight, (0, self.n_zeros)))
        self.bias = torch.nn.Parameter(torch.empty(out_features).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, in_features) to (n, out_features)."""
        if self.n_zeros:
            x = F.pad(x, (0, self.n_zeros))
        if not self.n_more:
            return F.linear(x, self.weight, self.bias)
        # Parameters keep their shape, so that the zeros are neither learned nor stored.
        weight, bias = (
            F.pad(self.weight, (0, 0, 0, self.n_more)),
            F.pad(self.bias, (0, self.n_more)),
        )
        return F.linear(x, weight, bias)[..., : self.out_features].contiguous()


class CumulativeBatchNorm(torch.nn.BatchNorm1d):
    """Batch normalization whose running statistics start as the mean over the batches so far.

    They are right after a single step; torch's own start at 0 and 1, of which a third is left after
    ten steps, all that a few dozen rows may take.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(input)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        return F.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=True,
            momentum=max(0.1, 1 / int(self.num_batches_tracked)),
            eps=self.eps,
        )


class Normalized(torch.nn.Module):
    """Batch normalization of vectors, then a chain that begins with a `PaddedLinear`.

    Parameters
    ----------
    n_features : int
    body : torch.nn.Sequential

    Notes
    -----
    **Shape**: (n, n_features) to what the body returns.
    """

    #: Whatever the body does: the normalization hands it an array of its own.
    keeps_input: ClassVar[bool] = True

    def __init__(self, n_features: int, body: torch.nn.Sequential) -> None:
        super().__init__()
        self.normalization = CumulativeBatchNorm(n_features)
        self.body = body

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.body(self.normalization(vectors))

    @torch.no_grad()
    def folded(self) -> torch.nn.Sequential:
        """Chain whose first layer does the trained normalization too, in evaluation mode."""
        trained = self.normalization
        assert trained.running_mean is not None
        assert trained.running_var is not None
        scale = trained.weight / torch.sqrt(trained.running_var + trained.eps)
        shift = trained.bias - trained.running_mean * scale
        body = copy.deepcopy(self.body)
        linear: Any = body[0]
        weight = linear.weight[:, : len(scale)]  # without the padding
        linear.bias += weight @ shift
        weight *= scale
        return body.eval()


class Standardize(torch.nn.Module):
    """Subtracts the mean of each channel and divides by its standard deviation.

    Parameters
    ----------
    X : ndarray or StreamedRows of shape (n_samples, n_channels, ...)
        Rows that the statistics are taken from, once; axes after the second are averaged over.
        A channel that never changes is only centred.
    arrange : callable, default=None
        Brings some of the rows into that shape, where X is of another.

    Attributes
    ----------
    is_coarse : bool
        Whether rounding to single precision would move values of a channel by more than some
        ten-thousandths of their standard deviation, as with numbers far from zero.
    may_be_coarse : bool
        The same, counting channels that never change: in X as it is given, they may have been
        rounded already.

    Notes
    -----
    **Shape**: (n, n_channels, ...) to the same. Rows in double precision, in a network in single
    precision, are centered before they are rounded.
    """

    mean: torch.Tensor
    rest: torch.Tensor
    scale: torch.Tensor

    def __init__(self, X: Any, arrange: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        super().__init__()
        mean, deviation, n_values = channel_moments(X, arrange)
        # What rounding leaves of the deviation of a constant channel is no deviation.
        digits = max(10 * np.finfo(X.dtype).eps, n_values * np.finfo(np.float64).eps)
        varies = deviation > digits * np.abs(mean)
        scale = np.where(varies, deviation, 1.0)
        near = deviation < COARSE * np.abs(mean)
        self.is_coarse, self.may_be_coarse = bool((near & varies).any()), bool(near.any())
        # What is lost of the mean where the network is in single precision.
        rest = mean - mean.astype(np.float32)
        self.register_buffer("mean", torch.from_numpy(mean.astype(X.dtype)))
        self.register_buffer("rest", torch.from_numpy(rest.astype(X.dtype)))
        self.register_buffer("scale", torch.from_numpy(scale.astype(X.dtype)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, n_channels, ...) to the same shape."""
        centered = x - self.mean
        if x.dtype == self.mean.dtype:
            return centered / self.scale
        return ((centered - self.rest) / self.scale).to(self.mean.dtype)

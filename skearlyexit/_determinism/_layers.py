"""Layers whose output for a sample does not depend on the other samples of the batch."""

from __future__ import annotations

import copy
import math
from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self, TypeGuard, TypeVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch.nn.modules.batchnorm import _BatchNorm

from skearlyexit._data._chunks import channel_moments
from skearlyexit._onnx._graph import Graph
from skearlyexit._onnx._modules import converts, is_changed

#: Matrix kernels process rows, and terms of a product, in groups of up to this size. An incomplete
#: group is summed in another order, which changes the last bits.
GROUP = 16

#: Share of the mean of a channel below which its standard deviation has few digits in single
#: precision.
COARSE = 2**11 * float(np.finfo(np.float32).eps)


Module = TypeVar("Module", bound=torch.nn.Module)


def round_up(n: int) -> int:
    """Smallest multiple of `GROUP` that is at least `n`."""
    return -(-n // GROUP) * GROUP


class PaddedLinear(torch.nn.Module):
    """Linear layer that pads its widths with zeros to multiples of 16.

    Without padding, the last bits of the output of a linear layer depend on the number of samples
    in the batch if `in_features` is not a multiple of 16, and on the number of threads if
    `out_features` is larger than 16 and not a multiple of it. The zeros do not change the output
    otherwise, are not trained, and count as operations. In training mode, the outputs are not
    padded.

    Parameters
    ----------
    in_features : int
        Size of the input vectors.
    out_features : int
        Size of the output vectors.

    Notes
    -----
    **Shape**: (n, in_features) to (n, out_features). The weights are initialized in the same way as
    those of ``torch.nn.Linear``.

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
        # A single group of outputs is computed by one thread.
        self.n_more = round_up(out_features) - out_features if out_features > GROUP else 0
        bound = 1 / math.sqrt(in_features)
        weight = torch.empty(out_features, in_features).uniform_(-bound, bound)
        self.weight = torch.nn.Parameter(F.pad(weight, (0, self.n_zeros)))
        self.bias = torch.nn.Parameter(torch.empty(out_features).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer.

        Parameters
        ----------
        x : Tensor of shape (n, in_features)
            Input vectors.

        Returns
        -------
        output : Tensor of shape (n, out_features)
            Output vectors.
        """
        if self.n_zeros:
            x = F.pad(x, (0, self.n_zeros))
        weight: torch.Tensor = self.weight
        bias: torch.Tensor = self.bias
        if bias.size(0) == self.out_features:  # not by `len`, which torch computes in Python
            if not self.n_more or self.training:  # the last bits do not matter in training
                return F.linear(x, weight, bias)
            weight, bias = self._padded()
        return F.linear(x, weight, bias).narrow(-1, 0, self.out_features).contiguous()

    def _padded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Parameters with zeros for further outputs, which are neither trained nor stored."""
        zeros = self.n_more
        return F.pad(self.weight, (0, 0, 0, zeros)), F.pad(self.bias, (0, zeros))


def with_padding(module: Module) -> Module:
    """Copy of a trained module whose layers `PaddedLinear` have all their zeros stored.

    To pad the parameters in each call would take longer than the product of a few samples. Layers
    of derived classes or with hooks, which may use their parameters otherwise, still do.
    """
    module = copy.deepcopy(module)
    for layer in module.modules():
        if _is_plain(layer) and len(layer.bias) == layer.out_features:
            weight, bias = layer._padded()
            layer.weight = torch.nn.Parameter(weight.detach(), layer.weight.requires_grad)
            layer.bias = torch.nn.Parameter(bias.detach(), layer.bias.requires_grad)
    return module


def _is_plain(layer: torch.nn.Module) -> TypeGuard[PaddedLinear]:
    """Whether a layer is a `PaddedLinear` that computes nothing but the product."""
    return type(layer) is PaddedLinear and not is_changed(layer)


class Convolution(torch.nn.Conv2d):
    """Convolution whose result for a sample does not depend on the others, nor on its position.

    For a single small image on the CPU, torch uses another algorithm than for several, which
    changes the last bits. In double precision with channels last, they depend on where the image
    begins in memory.
    """

    def _conv_forward(
        self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        if self.training or torch.compiler.is_compiling() or input.device.type != "cpu":
            return super()._conv_forward(input, weight, bias)
        if input.dtype != torch.float32 or not torch.backends.mkldnn.is_available():
            return super()._conv_forward(_channels_first(input), _channels_first(weight), bias)
        if len(input) > 1:
            return super()._conv_forward(input, weight, bias)
        assert isinstance(self.padding, tuple)
        return torch.mkldnn_convolution(
            input, weight, bias, self.padding, self.stride, self.dilation, self.groups
        )


def _channels_first(tensor: torch.Tensor) -> torch.Tensor:
    """The same values with the strides of channels first, also if there is a single channel.

    By the strides, torch takes a tensor of a single channel for one with channels last.
    """
    return tensor.contiguous().view(-1).view(tensor.shape)


def to_layers_of_torch(module: torch.nn.Module) -> None:
    """Replace the layers inside a module that make results the same in any batch, which takes time.

    Parameters
    ----------
    module : torch.nn.Module
        Module whose layers `PaddedLinear` and `Convolution` become those of torch, in place.
        Layers of derived classes or with hooks are kept: they may compute something else.
    """
    for parent in list(module.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) in _OF_TORCH and not is_changed(layer):
                setattr(parent, name, _OF_TORCH[type(layer)](layer))


def _unpadded(layer: PaddedLinear) -> torch.nn.Linear:
    n_out, n_in = layer.out_features, layer.in_features
    linear = torch.nn.Linear(n_in, n_out, device="meta").train(layer.training)
    linear.weight = torch.nn.Parameter(layer.weight[:n_out, :n_in].detach().clone())
    linear.bias = torch.nn.Parameter(layer.bias[:n_out].detach().clone())
    return linear


def _convolution_of_torch(layer: Any) -> torch.nn.Conv2d:
    own = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
    found = torch.nn.Conv2d(
        layer.in_channels, layer.out_channels, layer.kernel_size, **own, device="meta"
    )
    found.weight, found.bias = layer.weight, layer.bias
    return found.train(layer.training)


#: Functions that return the layer of torch, by the class of the layer.
_OF_TORCH: dict[type, Callable[[Any], torch.nn.Module]] = {
    PaddedLinear: _unpadded,
    Convolution: _convolution_of_torch,
}


class CumulativeBatchNorm(torch.nn.BatchNorm1d):
    """Batch normalization whose running statistics are the mean over the first batches.

    They are thus valid after a single step. Those of torch start at 0 and 1, of which a third
    remains after ten steps, and the training on a few dozen samples may have no more steps.
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
            momentum=self.rate,
            eps=self.eps,
        )

    @property
    def rate(self) -> float:
        """Weight of the current batch in the running statistics; with momentum None, their mean."""
        assert self.num_batches_tracked is not None
        cumulative = 1 / int(self.num_batches_tracked)
        return cumulative if self.momentum is None else max(self.momentum, cumulative)


def scale_and_shift(trained: _BatchNorm) -> tuple[torch.Tensor, torch.Tensor]:
    """What a trained normalization multiplies its input by, and then adds to it."""
    assert trained.running_mean is not None
    assert trained.running_var is not None
    weight, bias = (trained.weight, trained.bias) if trained.affine else (1.0, 0.0)
    scale = weight / torch.sqrt(trained.running_var + trained.eps)
    return scale, bias - trained.running_mean * scale


class Mergeable(torch.nn.Module, metaclass=ABCMeta):
    """Base class of blocks whose layers are merged after the training, which saves time.

    Parameters
    ----------
    *names : str
        Names of the merged weights, which are None until they are computed. They are not part of
        the ``state_dict``, and not used in the mode of training.
    """

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names_of_merged = names
        for name in names:
            self.register_buffer(name, None, persistent=False)

    @abstractmethod
    def merge(self) -> None:
        """Compute the merged weights of the trained block.

        The parameters stay as they are. They must not be changed by other means than training.
        """

    def train(self, mode: bool = True) -> Self:
        """Set the mode; merged weights last until the block is in the mode of training."""
        if mode or self.training:  # in which those of another network may have been copied
            for name in self.names_of_merged:
                setattr(self, name, None)
        return super().train(mode)


class Normalized(torch.nn.Module):
    """Batch normalization of vectors, followed by a chain that begins with a `PaddedLinear`.

    Parameters
    ----------
    n_features : int
    body : torch.nn.Sequential

    Notes
    -----
    **Shape**: (n, n_features) to the output of the body.
    """

    #: Also if the body changes its input in place, which is the output of the normalization.
    keeps_input: ClassVar[bool] = True

    def __init__(self, n_features: int, body: torch.nn.Sequential) -> None:
        super().__init__()
        self.normalization = CumulativeBatchNorm(n_features)
        self.body = body

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.body(self.normalization(vectors))

    @property
    def can_be_folded(self) -> bool:
        """Whether the first layer computes nothing but the product."""
        return _is_plain(self.body[0])

    @torch.no_grad()
    def folded(self) -> torch.nn.Sequential:
        """Body in evaluation mode, with the trained normalization merged into its first layer."""
        scale, shift = scale_and_shift(self.normalization)
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
        Training samples, from which the statistics are computed. They are means over samples and
        over all axes after the second. A constant channel is only centered.
    arrange : callable, default=None
        Reshapes samples to that shape, if X has another.

    Attributes
    ----------
    is_coarse : bool
        Whether rounding to single precision changes values of a channel by more than a few
        ten-thousandths of the standard deviation, as for values far from zero.
    may_be_coarse : bool
        Same as `is_coarse`, but True for constant channels as well, which may be constant because X
        was rounded before.

    Notes
    -----
    **Shape**: (n, n_channels, ...) to the same shape. If the input is in double precision and the
    network in single precision, the input is centered before it is rounded.
    """

    mean: torch.Tensor
    rest: torch.Tensor
    scale: torch.Tensor

    def __init__(self, X: Any, arrange: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        super().__init__()
        mean, deviation, n_values = channel_moments(X, arrange)
        # Rounding errors of a constant channel do not count as a deviation.
        digits = max(10 * np.finfo(X.dtype).eps, n_values * np.finfo(np.float64).eps)
        varies = deviation > digits * np.abs(mean)
        scale = np.where(varies, deviation, 1.0)
        near = deviation < COARSE * np.abs(mean)
        self.is_coarse, self.may_be_coarse = bool((near & varies).any()), bool(near.any())
        # Part of the mean that is lost if the network is in single precision.
        rest = mean - mean.astype(np.float32)
        self.register_buffer("mean", torch.from_numpy(mean.astype(X.dtype)))
        self.register_buffer("rest", torch.from_numpy(rest.astype(X.dtype)))
        self.register_buffer("scale", torch.from_numpy(scale.astype(X.dtype)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Standardize samples of shape (n, n_channels, ...)."""
        centered = x - self.mean
        if x.dtype == self.mean.dtype:
            return centered / self.scale
        return ((centered - self.rest) / self.scale).to(self.mean.dtype)


@converts(Standardize)
def _(module: Standardize, graph: Graph, tensor: str, example: torch.Tensor) -> str:
    dtype = example.numpy().dtype
    mean, rest, scale = (
        graph.constant(each.numpy().astype(dtype))
        for each in (module.mean, module.rest, module.scale)
    )
    centered = graph.op("Sub", tensor, mean)
    if example.dtype == module.mean.dtype:
        return graph.op("Div", centered, scale)
    standardized = graph.op("Div", graph.op("Sub", centered, rest), scale)
    return graph.cast(standardized, module.mean.numpy().dtype)

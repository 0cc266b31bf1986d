"""A small residual convolutional network for images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit._determinism._layers import (
    Convolution,
    Mergeable,
    Standardize,
    round_up,
    scale_and_shift,
)
from skearlyexit._onnx._graph import Graph
from skearlyexit._onnx._modules import UnknownModuleError, add_convolution, add_in_turn, converts
from skearlyexit.backbones._base import Backbone, Network
from skearlyexit.backbones._chain import Chain
from skearlyexit.backbones._images import (
    DATA_FORMATS,
    ImageLayout,
    Images,
    checked_image_shape,
    seems_channels_last,
)

#: Pixels of a side from which the first convolution has a stride of 2 by default.
LARGE_SIDE = 24
#: Pixels of the longer side from which on images of a single row may rather be series.
LONG_SIDE = 16


class _ResidualBlock(Mergeable):
    """Two 3x3 convolutions with a shortcut connection.

    After the training, the normalizations are merged into the convolutions before them.
    """

    weight1: torch.Tensor | None

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__("weight1", "bias1", "weight2", "bias2", "weight0", "bias0")
        self.branch = torch.nn.Sequential(
            Convolution(n_in, n_out, 3, stride=stride, padding=1, bias=False),
            torch.nn.BatchNorm2d(n_out),
            torch.nn.ReLU(),
            Convolution(n_out, n_out, 3, padding=1, bias=False),
            torch.nn.BatchNorm2d(n_out),
        )
        self.shortcut: torch.nn.Module = torch.nn.Identity()
        if stride != 1 or n_in != n_out:
            self.shortcut = torch.nn.Sequential(
                Convolution(n_in, n_out, 1, stride=stride, bias=False),
                torch.nn.BatchNorm2d(n_out),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training or self.weight1 is None:
            return torch.relu(self.shortcut(x) + self.branch(x))
        branch: Any = self.branch
        shortcut: Any = self.shortcut
        hidden = branch[0]._conv_forward(x, self.weight1, self.bias1).relu_()
        output = branch[3]._conv_forward(hidden, self.weight2, self.bias2)
        if self.weight0 is not None:
            x = shortcut[0]._conv_forward(x, self.weight0, self.bias0)
        result: torch.Tensor = output.add_(x).relu_()
        return result

    @torch.no_grad()
    def merge(self) -> None:
        branch: Any = self.branch
        shortcut: Any = self.shortcut
        self.weight1, self.bias1 = _merged(*branch[:2])
        self.weight2, self.bias2 = _merged(*branch[3:])
        if isinstance(shortcut, torch.nn.Sequential):
            self.weight0, self.bias0 = _merged(*shortcut)


def _merged(layer: Any, norm: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of a convolution with the normalization after it."""
    scale, shift = scale_and_shift(norm)
    weight = layer.weight * scale[:, None, None, None]
    return weight.to(memory_format=torch.channels_last), shift


class _Stem(Mergeable):
    """Reshapes samples to images, standardizes them, and applies the first convolution.

    Its output has the channels last in memory, and so have those of all blocks, which takes less
    time on the CPU, in training as in prediction.
    """

    weight: torch.Tensor | None
    bias: torch.Tensor

    def __init__(self, images: Images, standardize: Standardize, layer: Convolution) -> None:
        super().__init__("weight", "bias")
        self.images = images
        self.standardize = standardize
        self.layer = layer
        self.norm = torch.nn.BatchNorm2d(layer.out_channels)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        images = self.standardize(self.images(rows))
        if not self.training and self.weight is not None:
            return self.layer._conv_forward(images, self.weight, self.bias).relu_()
        output = torch.relu(self.norm(self.layer(images)))
        return output.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def merge(self) -> None:
        self.weight, self.bias = _merged(self.layer, self.norm)

    def arranged(self, rows: torch.Tensor) -> torch.Tensor:
        """Samples as images of shape (n, channels, height, width)."""
        return self.images(rows)


class CNNBackbone(Backbone):
    """Residual convolutional network for small images.

    The network is a ResNet as He et al. use it for CIFAR-10: a convolution, the stem, followed by
    groups of residual blocks. Blocks are named ``"stem"``, ``"group1.block1"``,
    ``"group1.block2"``, and so on.

    The input is standardized channel by channel, with the mean and standard deviation of the
    training samples.

    Parameters
    ----------
    widths : sequence of int, default=(16, 32, 64)
        Number of channels of each group of blocks, rounded up to a multiple of 16. Every group
        after the first halves the height and the width.
    n_blocks : int, default=2
        Number of residual blocks in each group.
    stem_stride : int or "auto", default="auto"
        Stride of the first convolution. A stride of 2 reduces the cost of the network to about a
        quarter. ``"auto"`` is 2 if both sides of the images have at least 24 pixels, and 1
        otherwise.
    image_shape : tuple of int or None, default=None
        Shape of an image, ``(channels, height, width)``, ``(height, width, channels)`` or
        ``(height, width)``, for samples that are flattened images. If None, each sample must have
        one of these shapes.
    data_format : {"auto", "channels_first", "channels_last"}, default="auto"
        Which axis of an image holds the channels. ``"auto"`` chooses the last axis, and `fit`
        issues a warning, if the last axis is of length 1, 3 or 4, the first axis is not, and the
        second axis is not as long as the last; otherwise it chooses the first axis.

    References
    ----------
    He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.zeros((4, 64), dtype=np.float32)
    >>> CNNBackbone((8, 16), n_blocks=1, image_shape=(8, 8)).build(X, n_classes=10).names
    ['stem', 'group1.block1', 'group2.block1']
    """

    muon_from: ClassVar[int | None] = 0
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "widths": ["array-like"],
        "n_blocks": [Interval(Integral, 1, None, closed="left")],
        "stem_stride": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "image_shape": [tuple, list, None],
        "data_format": [StrOptions(set(DATA_FORMATS))],
    }

    def __init__(
        self,
        widths: Sequence[int] = (16, 32, 64),
        *,
        n_blocks: int = 2,
        stem_stride: int | str = "auto",
        image_shape: tuple[int, ...] | None = None,
        data_format: str = "auto",
    ) -> None:
        self.widths = widths
        self.n_blocks = n_blocks
        self.stem_stride = stem_stride
        self.image_shape = image_shape
        self.data_format = data_format

    def _layout(self, row_shape: tuple[int, ...]) -> ImageLayout:
        """Layout of the images that samples of a shape hold."""
        shape = row_shape
        if self.image_shape is not None:
            shape = checked_image_shape(self.image_shape)
        if len(shape) not in (2, 3):
            raise ValueError(
                "CNNBackbone needs images of shape (channels, height, width) or (height, width, "
                f"channels); got samples of shape {row_shape} and "
                f"image_shape={self.image_shape!r}. Give image_shape for flattened images."
            )
        if math.prod(shape) != math.prod(row_shape):
            raise ValueError(
                f"CNNBackbone got image_shape={self.image_shape!r}, {math.prod(shape)} pixels, "
                f"but samples of shape {row_shape}, {math.prod(row_shape)} values."
            )
        if len(row_shape) == 3 and _long_axes(row_shape) != _long_axes(shape):
            raise ValueError(
                f"CNNBackbone got image_shape={self.image_shape!r}, but samples that are images of "
                f"shape {row_shape}. Leave image_shape out; data_format sets which axis holds the "
                "channels."
            )
        if len(shape) == 2:
            return ImageLayout((1, *shape), channels_last=False)
        if self.data_format == "auto":
            return ImageLayout(shape, seems_channels_last(shape))
        return ImageLayout(shape, self.data_format == "channels_last")

    def _notice(self, layout: ImageLayout) -> str:
        """Warning that samples may be no images, or have channels first, or an empty string."""
        sides = layout.shape[:2] if layout.channels_last else layout.shape[1:]
        if self.data_format == "auto" and min(sides) == 1 and max(sides) >= LONG_SIDE:
            return (
                f"Samples are taken for images of {sides[0]} x {sides[1]} pixels. If they are "
                "series, give backbone=Conv1DBackbone() or RecurrentBackbone(), and else "
                "CNNBackbone(data_format='channels_first') or 'channels_last'."
            )
        if not (self.data_format == "auto" and layout.channels_last):
            return ""
        height, width, n_channels = layout.shape
        return (
            f"Images of shape {layout.shape} are taken for {height} x {width} pixels with "
            f"{n_channels} channels, which come last. Give "
            "backbone=CNNBackbone(data_format='channels_last') if that is right, and "
            "'channels_first' if not."
        )

    def _checked_widths(self) -> Sequence[int]:
        if not len(self.widths) or any(not isinstance(w, Integral) or w < 1 for w in self.widths):
            raise ValueError(
                "The 'widths' parameter of CNNBackbone must hold at least one positive integer. "
                f"Got {self.widths!r} instead."
            )
        return self.widths

    def build(self, X: np.ndarray, n_classes: int) -> Network:
        layout = self._layout(X.shape[1:])
        widths = [round_up(width) for width in self._checked_widths()]
        n_channels = widths[0]
        stem_stride = self.stem_stride
        if stem_stride == "auto":
            sides = layout.shape[:2] if layout.channels_last else layout.shape[1:]
            stem_stride = 2 if min(sides) >= LARGE_SIDE else 1
        standardize = Standardize(X, layout.arrange)
        stem = _Stem(
            Images(layout),
            standardize,
            Convolution(
                layout.n_channels, n_channels, 3, stride=int(stem_stride), padding=1, bias=False
            ),
        )
        blocks: list[torch.nn.Module] = [stem]
        names = ["stem"]
        for group, width in enumerate(widths):
            for index in range(self.n_blocks):
                stride = 2 if group > 0 and index == 0 else 1
                blocks.append(_ResidualBlock(n_channels, width, stride))
                names.append(f"group{group + 1}.block{index + 1}")
                n_channels = width
        return Chain(
            blocks,
            names=names,
            standardize=standardize,
            notice=self._notice(layout),
            batch_invariant=True,
        )


def _long_axes(shape: tuple[int, ...]) -> list[int]:
    return [n for n in shape if n > 1]


@converts(_ResidualBlock)
def _(block: _ResidualBlock, graph: Graph, tensor: str, example: torch.Tensor) -> str:
    if block.weight1 is None:
        raise UnknownModuleError("a block that is not merged")
    branch: Any = block.branch
    shortcut: Any = block.shortcut
    inner = add_convolution(graph, branch[0], tensor, block.weight1, block.bias1)
    output = add_convolution(graph, branch[3], graph.op("Relu", inner), block.weight2, block.bias2)
    if block.weight0 is not None:
        tensor = add_convolution(graph, shortcut[0], tensor, block.weight0, block.bias0)
    return graph.op("Relu", graph.op("Add", output, tensor))


@converts(_Stem)
def _(stem: _Stem, graph: Graph, tensor: str, example: torch.Tensor) -> str:
    if stem.weight is None:
        raise UnknownModuleError("a stem that is not merged")
    images = add_in_turn(graph, [stem.images, stem.standardize], tensor, example)
    return graph.op("Relu", add_convolution(graph, stem.layer, images, stem.weight, stem.bias))

"""Layout of images: which axis holds the channels."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral

import numpy as np
import torch

from skearlyexit._onnx._graph import Graph
from skearlyexit._onnx._modules import converts, reshaped

#: Numbers of channels of common images: gray, color, and color with transparency.
USUAL_CHANNELS = (1, 3, 4)

DATA_FORMATS = ("auto", "channels_first", "channels_last")


def seems_channels_last(shape: tuple[int, ...]) -> bool:
    """Whether the last axis of an image probably holds the channels.

    Feature maps such as (512, 1, 1) are excluded.
    """
    if len(shape) != 3 or shape[1] == shape[2]:
        return False
    return shape[2] in USUAL_CHANNELS and shape[0] not in USUAL_CHANNELS


def checked_image_shape(image_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Check the shape of an image, and return it as a tuple of two or three positive integers."""
    shape = tuple(image_shape)
    if len(shape) not in (2, 3) or any(not isinstance(n, Integral) or n < 1 for n in shape):
        raise ValueError(
            "The 'image_shape' parameter of CNNBackbone must be two or three positive integers, "
            f"(height, width) or (channels, height, width). Got {image_shape!r} instead."
        )
    return tuple(int(n) for n in shape)


class ImageLayout:
    """Layout of images, and the conversion to the shape (channels, height, width).

    Parameters
    ----------
    shape : tuple of int
        (channels, height, width) or (height, width, channels).
    channels_last : bool
        Whether the shape is the latter.
    """

    def __init__(self, shape: tuple[int, ...], channels_last: bool) -> None:
        self.shape, self.channels_last = shape, channels_last

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return self.shape[2 if self.channels_last else 0]

    def arrange(self, rows: np.ndarray) -> np.ndarray:
        """Reshape samples of any shape to (n, channels, height, width)."""
        images = rows.reshape(len(rows), *self.shape)
        if not self.channels_last:
            return images
        # Contiguous in memory, since sums in another order differ in the last bits.
        images = np.moveaxis(images, -1, 1)
        return images.reshape(len(rows), -1).reshape(images.shape)


class Images(torch.nn.Module):
    """Reshapes samples of any shape to images.

    Parameters
    ----------
    layout : ImageLayout
        Layout of the images that the samples hold.

    Notes
    -----
    **Shape**: (n, ...) to (n, channels, height, width).
    """

    def __init__(self, layout: ImageLayout) -> None:
        super().__init__()
        self.layout = layout

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        images = rows.flatten(1).unflatten(1, self.layout.shape)
        if not self.layout.channels_last:
            return images
        # Convolutions of tensors in another memory order differ in the last bits. A call of
        # `contiguous` is not enough: with one channel, a tensor is contiguous in either order.
        images = images.movedim(-1, 1)
        return images.flatten(1).unflatten(1, images.shape[1:])


@converts(Images)
def _(module: Images, graph: Graph, tensor: str, example: torch.Tensor) -> str:
    images = reshaped(graph, tensor, module.layout.shape)
    return (
        graph.op("Transpose", images, perm=[0, 3, 1, 2]) if module.layout.channels_last else images
    )


def notice_of_convolutions(modules: Iterable[torch.nn.Module], shape: tuple[int, ...]) -> str:
    """Warning that a network seems to take the height of images for their channels.

    Parameters
    ----------
    modules : iterable of torch.nn.Module
        All modules of the network, in order.
    shape : tuple of int
        Shape of a sample.

    Returns
    -------
    notice : str
        Empty if the samples do not look like images with the channels on the last axis.
    """
    if not seems_channels_last(shape):
        return ""
    first = next((each for each in modules if isinstance(each, torch.nn.Conv2d)), None)
    if first is None or first.in_channels != shape[0]:
        return ""
    return (
        f"The first convolution of the backbone reads samples of shape {shape} as {shape[0]} "
        f"channels of {shape[1]} x {shape[2]} pixels.{hint_of_channels(shape)}"
    )


def hint_of_channels(shape: tuple[int, ...]) -> str:
    """Advice for samples that look like images with the channels on the last axis, else empty."""
    if not seems_channels_last(shape):
        return ""
    return (
        " If the last axis holds the channels, give np.moveaxis(X, -1, 1): torch networks take "
        "images with channels first, and get the samples unchanged."
    )

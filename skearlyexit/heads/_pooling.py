"""Pooling, which maps embeddings of any shape to vectors."""

from __future__ import annotations

import copy
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812

from skearlyexit._determinism._in_place import keeping_input
from skearlyexit._onnx._graph import Graph
from skearlyexit._onnx._modules import converts


class GlobalAveragePooling(torch.nn.Module):
    """Global average pooling: the mean over all axes after the channels.

    Embeddings that are vectors are returned unchanged.

    Notes
    -----
    **Shape**: (n, channels, ...) to (n, channels).

    Examples
    --------
    >>> import torch
    >>> from skearlyexit.heads import GlobalAveragePooling
    >>> GlobalAveragePooling()(torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]]))
    tensor([[3.]])
    >>> GlobalAveragePooling()(torch.zeros(5, 8)).shape
    torch.Size([5, 8])
    """

    #: Whether embeddings may have their channels last in memory.
    any_layout: ClassVar[bool] = True

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Compute the mean of each channel.

        Parameters
        ----------
        embedding : Tensor of shape (n, channels, ...)
            Embeddings.

        Returns
        -------
        vectors : Tensor of shape (n, channels)
            Mean of each channel.
        """
        return embedding if embedding.ndim == 2 else embedding.flatten(2).mean(dim=2)


class QuarterPooling(GlobalAveragePooling):
    """Mean over each quarter of a feature map.

    A head then sees roughly where in an image something is, which a global mean hides. Quarters of
    maps of odd size overlap. Embeddings that are not maps, or maps with a side of 1, are pooled by
    `GlobalAveragePooling`.

    Notes
    -----
    **Shape**: (n, channels, height, width) to (n, 4 channels), and (n, channels, ...) to
    (n, channels) otherwise.

    Examples
    --------
    >>> import torch
    >>> from skearlyexit.heads import QuarterPooling
    >>> maps = torch.arange(16.0).view(1, 1, 4, 4)
    >>> QuarterPooling()(maps)
    tensor([[ 2.5000,  4.5000, 10.5000, 12.5000]])
    >>> QuarterPooling()(torch.zeros(5, 8)).shape
    torch.Size([5, 8])
    """

    any_layout: ClassVar[bool] = True

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Compute the means of each channel.

        Parameters
        ----------
        embedding : Tensor of shape (n, channels, ...)
            Embeddings.

        Returns
        -------
        vectors : Tensor of shape (n, 4 channels) or (n, channels)
            Means of each channel.
        """
        if embedding.ndim != 4 or min(embedding.shape[2:]) < 2:
            return super().forward(embedding)
        return F.adaptive_avg_pool2d(embedding, 2).flatten(1)


class InOrder(torch.nn.Module):
    """Returns a tensor with the axes in their order in memory."""

    any_layout: ClassVar[bool] = True

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        return embedding.contiguous()


def takes_any_layout(pooling: torch.nn.Module) -> bool:
    """Whether a pooling takes embeddings whose channels are last in memory.

    `view` in a module of the user does not, which may also be derived from one of ours.
    """
    first = pooling[0] if type(pooling) is torch.nn.Sequential and len(pooling) else pooling
    return bool(vars(type(first)).get("any_layout", False))


def taking_any_layout(pooling: torch.nn.Module) -> torch.nn.Module:
    """Pooling for embeddings whose channels may be last in memory."""
    return pooling if takes_any_layout(pooling) else torch.nn.Sequential(InOrder(), pooling)


_POOLINGS = {
    "average": GlobalAveragePooling,
    "quarters": QuarterPooling,
    "flatten": torch.nn.Flatten,
}


def resolve_pooling(pooling: str | torch.nn.Module) -> torch.nn.Module:
    """New pooling module for a value of the parameter `pooling`.

    Parameters
    ----------
    pooling : {"average", "quarters", "flatten"} or torch.nn.Module
        Global average pooling, means of the quarters of a map, all values, or a module given by the
        user. The latter is copied, and its output is flattened. If it may change its input in
        place, it is called with a copy.

    Returns
    -------
    module : torch.nn.Module

    Raises
    ------
    ValueError
        If it is none of these.
    """
    if isinstance(pooling, torch.nn.Module):
        own = torch.nn.Sequential(copy.deepcopy(pooling), torch.nn.Flatten())
        return keeping_input(taking_any_layout(own))
    if pooling not in _POOLINGS:
        raise ValueError(
            f"The 'pooling' of a head must be one of {sorted(_POOLINGS)} or a torch module. "
            f"Got {pooling!r} instead."
        )
    return _POOLINGS[pooling]()


@converts(InOrder)
def _(module: InOrder, graph: Graph, tensor: str, example: torch.Tensor) -> str:
    return tensor


@converts(GlobalAveragePooling)
def _add_mean(
    module: GlobalAveragePooling, graph: Graph, tensor: str, example: torch.Tensor
) -> str:
    if example.ndim == 2:
        return tensor
    axes = graph.constant(list(range(2, example.ndim)))
    return graph.op("ReduceMean", tensor, axes, keepdims=0)


@converts(QuarterPooling)
def _(module: QuarterPooling, graph: Graph, tensor: str, example: torch.Tensor) -> str:
    sides = example.shape[2:]
    if example.ndim != 4 or min(sides) < 2:
        return _add_mean(module, graph, tensor, example)
    # Quarters of a side of odd length have its middle in common.
    kernel, strides = [-(-side // 2) for side in sides], [side // 2 for side in sides]
    quarters = graph.op("AveragePool", tensor, kernel_shape=kernel, strides=strides)
    return graph.op("Flatten", quarters, axis=1)

"""Pooling, which maps embeddings of any shape to vectors."""

from __future__ import annotations

import copy

import torch

from skearlyexit._determinism._in_place import keeping_input


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


_POOLINGS = {"average": GlobalAveragePooling, "flatten": torch.nn.Flatten}


def resolve_pooling(pooling: str | torch.nn.Module) -> torch.nn.Module:
    """New pooling module for a value of the parameter `pooling`.

    Parameters
    ----------
    pooling : {"average", "flatten"} or torch.nn.Module
        Global average pooling, all values, or a module given by the user. The latter is copied, and
        its output is flattened. If it may change its input in place, it is called with a copy.

    Returns
    -------
    module : torch.nn.Module

    Raises
    ------
    ValueError
        If it is none of these.
    """
    if isinstance(pooling, torch.nn.Module):
        return keeping_input(torch.nn.Sequential(copy.deepcopy(pooling), torch.nn.Flatten()))
    if pooling not in _POOLINGS:
        raise ValueError(
            f"The 'pooling' of a head must be one of {sorted(_POOLINGS)} or a torch module. "
            f"Got {pooling!r} instead."
        )
    return _POOLINGS[pooling]()

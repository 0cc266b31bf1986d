"""From embeddings of any shape to vectors."""

from __future__ import annotations

import copy

import torch

from skearlyexit._determinism._in_place import keeping_input


class GlobalAveragePooling(torch.nn.Module):
    """Mean over every axis after the channels; vectors stay as they are.

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
        """Map (n, channels, ...) to (n, channels)."""
        return embedding if embedding.ndim == 2 else embedding.flatten(2).mean(dim=2)


_POOLINGS = {"average": GlobalAveragePooling, "flatten": torch.nn.Flatten}


def resolve_pooling(pooling: str | torch.nn.Module) -> torch.nn.Module:
    """New pooling module.

    Parameters
    ----------
    pooling : {"average", "flatten"} or torch.nn.Module
        The global average over positions, all values as they are, or a module of the user's, which
        is copied, and whose output is flattened; its weights are learned with the network. It is
        called with a copy of the embedding if it may write into it.

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

"""Logits of a network that ends in probabilities."""

from __future__ import annotations

import torch

PROBABILITIES = (torch.nn.Softmax, torch.nn.LogSoftmax)
#: Modules that may follow a classifier without being a layer of their own.
NO_LAYERS = (torch.nn.Dropout, torch.nn.Flatten, torch.nn.Identity)


class Log(torch.nn.Module):
    """Logits of probabilities."""

    def forward(self, probabilities: torch.Tensor) -> torch.Tensor:
        return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


def are_probabilities(output: torch.Tensor) -> bool:
    """Whether all rows are at least 0 and add up to 1."""
    ones = torch.ones(len(output), dtype=output.dtype)
    return bool((output >= 0).all()) and torch.allclose(output.sum(dim=1), ones, atol=1e-4)

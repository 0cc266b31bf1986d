"""Conversion of the outputs of a network to logits."""

from __future__ import annotations

import torch

PROBABILITIES = (torch.nn.Softmax, torch.nn.LogSoftmax)
#: Modules after which the last layer with weights is still recognized as the classifier.
NO_LAYERS = (torch.nn.Dropout, torch.nn.Flatten, torch.nn.Identity)


class Log(torch.nn.Module):
    """Logarithm of probabilities, which are valid logits."""

    def forward(self, probabilities: torch.Tensor) -> torch.Tensor:
        return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


def are_probabilities(output: torch.Tensor) -> bool:
    """Whether all outputs are at least 0, and those of each sample sum to 1."""
    ones = torch.ones(len(output), dtype=output.dtype)
    return bool((output >= 0).all()) and torch.allclose(output.sum(dim=1), ones, atol=1e-4)

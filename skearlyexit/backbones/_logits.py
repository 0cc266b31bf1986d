"""Outputs of a network: their conversion to logits, and whether there are enough of them."""

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


def notice_of_outputs(shape: tuple[int, ...], n_outputs: int) -> str:
    """Warning that a network without a classifier may have one for fewer classes.

    Parameters
    ----------
    shape : tuple of int
        Shape of what the network returns.
    n_outputs : int
        Number of classes, or of targets in regression.

    Returns
    -------
    notice : str
        Empty if the network returns at least as many values for a sample.
    """
    if len(shape) != 2 or shape[1] >= n_outputs:
        return ""
    return (
        f"The network given as backbone returns {shape[1]} values for a sample, and {n_outputs} "
        "outputs are needed. It is taken for a network without a classifier, and a head is added "
        f"after these values. If its last layer is the classifier, give it {n_outputs} outputs."
    )

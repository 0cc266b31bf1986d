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
    """Warning that the last layer of a network may be a classifier for fewer classes.

    Parameters
    ----------
    shape : tuple of int
        Shape of what the last layer returns.
    n_outputs : int
        Number of classes, or of targets in regression.

    Returns
    -------
    notice : str
        Empty if the layer has at least as many outputs.
    """
    if len(shape) != 2 or shape[1] >= n_outputs:
        return ""
    return (
        f"The last layer of the network given as backbone has outputs of size {shape[1]}, and "
        f"{n_outputs} are needed. It is not taken for the classifier, and a head is added after "
        f"it. If it is the classifier, give it {n_outputs} outputs."
    )

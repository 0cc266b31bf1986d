"""Means over batches whose last samples may have no labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from skearlyexit.training._loss import Target


def all_weights(target: Target, n_rows: int) -> torch.Tensor | None:
    """Weights of all samples of a batch.

    Parameters
    ----------
    target : sequence of Tensor of shape (n_labeled,)
        ``(y,)`` or ``(y, sample_weight)``.
    n_rows : int
        Number of samples with and without labels.

    Returns
    -------
    weight : Tensor of shape (n_rows,) or None
        Sample weights, which are 1 for the samples without labels at the end. None if all are 1.
    """
    if len(target) == 1:
        return None
    return F.pad(target[1], (0, n_rows - len(target[1])), value=1.0)


def mean_over_rows(values: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """Mean over samples of weight times value.

    The mean weight of all training samples is 1, rather than that of the batch.

    Parameters
    ----------
    values : Tensor of shape (n,)
        Value of each sample.
    weight : Tensor of shape (n,) or None
        Sample weights. If None, all are 1.
    """
    return values.mean() if weight is None else (values * weight).mean()


def pair_error(
    found: torch.Tensor, wanted: torch.Tensor, weight: torch.Tensor | None
) -> torch.Tensor:
    """Mean squared error over pairs of samples, weighted by the product of their weights.

    Parameters
    ----------
    found, wanted : Tensor of shape (n, n)
        Values of all pairs, and their targets.
    weight : Tensor of shape (n,) or None
        Sample weights. If None, all are 1.
    """
    if weight is None:
        return F.mse_loss(found, wanted)
    return (weight @ (found - wanted).square() @ weight) / found.numel()

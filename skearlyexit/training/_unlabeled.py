"""Weights of the rows of a batch whose last rows may have no labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from skearlyexit.training._loss import Target


def all_weights(target: Target, n_rows: int) -> torch.Tensor | None:
    """Weights of all rows, those without labels at the end weighing 1; None if all weigh 1.

    Parameters
    ----------
    target : (y,) or (y, sample_weight)
        Of shape (n_labeled,).
    n_rows : int
        Rows with and without labels.

    Returns
    -------
    weight : Tensor of shape (n_rows,) or None
    """
    if len(target) == 1:
        return None
    return F.pad(target[1], (0, n_rows - len(target[1])), value=1.0)


def mean_over_rows(values: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """Mean of weight times value, over rows.

    Weights are relative to a mean of 1 over all training rows, not over those of the batch.

    Parameters
    ----------
    values : Tensor of shape (n,)
    weight : Tensor of shape (n,) or None
    """
    return values.mean() if weight is None else (values * weight).mean()


def pair_error(
    found: torch.Tensor, wanted: torch.Tensor, weight: torch.Tensor | None
) -> torch.Tensor:
    """Mean squared error over pairs of rows, each weighing the product of its two rows' weights.

    Parameters
    ----------
    found, wanted : Tensor of shape (n, n)
    weight : Tensor of shape (n,) or None
    """
    if weight is None:
        return F.mse_loss(found, wanted)
    return (weight @ (found - wanted).square() @ weight) / found.numel()

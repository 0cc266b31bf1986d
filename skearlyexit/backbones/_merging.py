"""One embedding from those of several views of a sample."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch

from skearlyexit._determinism._layers import PaddedLinear

#: Ways to merge embeddings.
MERGES = ("max", "mean", "concat")


class Merge(torch.nn.Module):
    """Merges tensors of the same shape, one for each view, value by value.

    Parameters
    ----------
    how : {"max", "mean", "concat"}
        Largest value or mean of the views that are present; or all values, one view after the other
        on the first axis after the samples, with zeros for views that are missing.

    Notes
    -----
    **Shape**: tensors (n, channels, ...), and which views are present, (n, n_views) or None, to
    (n, channels, ...) or (n, n_views * channels, ...).

    Views are added one by one, since the order in which a reduction over an axis adds may depend on
    the number of samples.
    """

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, parts: Sequence[torch.Tensor], present: torch.Tensor | None) -> torch.Tensor:
        if self.how == "max":
            return reduce(torch.maximum, _filled(parts, present, float("-inf")))
        filled = _filled(parts, present, 0.0)
        if self.how == "concat":
            return torch.cat(filled, dim=1)
        total = reduce(torch.add, filled)
        if present is None:
            return total / len(filled)
        return total / _like(present.sum(dim=1), total).to(total.dtype)

    def extra_repr(self) -> str:
        return repr(self.how)


class MergeCarry(torch.nn.Module):
    """Merges what each view passes on to a tensor of the same shape.

    With ``"concat"``, a linear map from the channels of all views to those of one follows. It
    starts as the mean of the views, so that the layers behind it are given what they would be given
    from one view.

    Parameters
    ----------
    how : {"max", "mean", "concat"}
    n_views, n_channels : int
    has_mask : bool
        Whether the last tensor of the carry says which views are present.

    Notes
    -----
    **Shape**: tuple of tensors (n, n_channels, ...), one for each view, to (n, n_channels, ...).
    """

    def __init__(self, how: str, n_views: int, n_channels: int, *, has_mask: bool) -> None:
        super().__init__()
        self.merge = Merge(how)
        self.has_mask = has_mask
        self.map: PaddedLinear | None = None
        if how == "concat":
            self.map = PaddedLinear(n_views * n_channels, n_channels)
            with torch.no_grad():
                self.map.bias.zero_()
                self.map.weight.zero_()
                mean = torch.eye(n_channels).repeat(1, n_views) / n_views
                self.map.weight[:, : n_views * n_channels] = mean

    def forward(self, carry: tuple[torch.Tensor, ...]) -> torch.Tensor:
        parts, present = (carry[:-1], carry[-1]) if self.has_mask else (carry, None)
        merged = self.merge(parts, present)
        if self.map is None:
            return merged
        mapped: torch.Tensor = self.map(merged.movedim(1, -1))
        return mapped.movedim(-1, 1)


def _filled(
    parts: Sequence[torch.Tensor], present: torch.Tensor | None, value: float
) -> list[torch.Tensor]:
    """Tensors, with a value instead of all those of views that are missing."""
    if present is None:
        return list(parts)
    return [torch.where(_like(present[:, i], part), part, value) for i, part in enumerate(parts)]


def _like(of_rows: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """One value for each sample, with as many axes as a tensor has."""
    return of_rows.reshape(-1, *[1] * (tensor.ndim - 1))

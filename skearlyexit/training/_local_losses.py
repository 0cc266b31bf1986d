"""Losses of a stage that require no labels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from skearlyexit.training._local_error import embedding_similarities
from skearlyexit.training._loss import ExitLoss, Target
from skearlyexit.training._unlabeled import all_weights, mean_over_rows, pair_error


class LocalLoss(ExitLoss):
    """Weighted sum of the cross-entropy of an exit and of a loss that requires no labels.

    Parameters
    ----------
    share : float
        Weight of the latter loss, in [0, 1]. With 1, there are no logits.
    """

    def __init__(self, share: float) -> None:
        super().__init__([1.0])
        self.share = share

    def forward(self, outputs: Sequence[torch.Tensor], target: Target) -> torch.Tensor:
        """Compute the loss of a batch.

        Parameters
        ----------
        outputs : sequence of Tensor
            ``(logits, made, wanted)`` or ``(made, wanted)``, where `made` is computed from the
            embeddings, of shape (n, ...), and `wanted` are the standardized inputs, of shape
            (n, n_values).
        target : sequence of Tensor
            ``(y,)`` or ``(y, sample_weight)``. Further samples have no labels and the weight 1.

        Returns
        -------
        loss : Tensor of shape ()
            Loss of the batch.
        """
        *logits, made, wanted = outputs
        missed = self.share * self.missed(made, wanted, all_weights(target, len(made)))
        return missed + (1 - self.share) * super().forward(logits, target) if logits else missed

    @abstractmethod
    def missed(
        self, made: torch.Tensor, wanted: torch.Tensor, weight: torch.Tensor | None
    ) -> torch.Tensor:
        """Loss that requires no labels."""


class ReconstructionLoss(LocalLoss):
    """Mean squared error of the reconstructed inputs, which have variance 1."""

    def missed(
        self, made: torch.Tensor, wanted: torch.Tensor, weight: torch.Tensor | None
    ) -> torch.Tensor:
        """Mean squared error; `made` is of shape (n, n_values), too."""
        return mean_over_rows((made - wanted).square().mean(dim=1), weight)


class SimilarityMatchingLoss(LocalLoss):
    """Difference between the similarities of the embeddings and those of the inputs."""

    def missed(
        self, made: torch.Tensor, wanted: torch.Tensor, weight: torch.Tensor | None
    ) -> torch.Tensor:
        """Mean squared difference of cosines over all pairs; see `embedding_similarities`."""
        directions = F.normalize(wanted, dim=1)
        return pair_error(embedding_similarities(made), directions @ directions.T, weight)


LOCAL_LOSSES: dict[str, type[LocalLoss]] = {
    "reconstruction": ReconstructionLoss,
    "similarity": SimilarityMatchingLoss,
}


def floating(carry: Any) -> list[torch.Tensor]:
    """Tensors of a carry with floating-point numbers, of shape (n, n_channels, ...).

    Raises
    ------
    ValueError
        If there is no such tensor.
    """
    parts = list(carry) if isinstance(carry, tuple | list) else [carry]
    found = [part for part in parts if part.is_floating_point() and part.numel()]
    if not found:
        kinds = [f"{part.dtype} of shape {tuple(part.shape)}" for part in parts]
        raise ValueError(
            "A local loss compares the embeddings with the inputs of a stage, which must contain "
            f"floating-point numbers. Got a stage with the inputs {kinds}. Give local=None."
        )
    return [part[:, None] if part.ndim == 1 else part for part in found]


class StandardizedParts(torch.nn.Module):
    """Concatenated floating-point tensors of a carry, with standardized channels.

    Parameters
    ----------
    passes : iterable of carries
        Batches of samples, from which means and variances are computed. A constant channel is
        centered only.

    Notes
    -----
    **Shape**: carry of n rows to (n, n_values).
    """

    def __init__(self, passes: Iterable[Any]) -> None:
        super().__init__()
        shifts: list[torch.Tensor] = []
        sums: list[list[Any]] = []
        for carry in passes:
            # Channels first, and shifted close to 0, where squares are accurate.
            parts = [part.detach().double().transpose(0, 1).flatten(1) for part in floating(carry)]
            if not shifts:
                shifts = [part.mean(dim=1, keepdim=True) for part in parts]
                sums = [[0, 0.0, 0.0] for _ in parts]
            for part, shift, total in zip(parts, shifts, sums, strict=True):
                near = part - shift
                total[0] += near.shape[1]
                total[1] = total[1] + near.sum(dim=1)
                total[2] = total[2] + near.square().sum(dim=1)
        self.n_parts = len(shifts)
        for k, (shift, (n, first, second)) in enumerate(zip(shifts, sums, strict=True)):
            mean = shift[:, 0] + first / n
            variance = (second / n - (first / n).square()).clamp_min(0)
            # The variance of a constant channel may differ from 0 by a rounding error.
            constant = variance.sqrt() <= 1e-6 * mean.abs()
            self.register_buffer(f"mean{k}", mean)
            self.register_buffer(f"scale{k}", torch.where(constant, 1.0, variance.sqrt()))

    def forward(self, carry: Any) -> torch.Tensor:
        columns = []
        for k, part in enumerate(floating(carry)):
            shape = (1, -1, *[1] * (part.ndim - 2))
            mean = self.get_buffer(f"mean{k}").to(part.dtype).view(shape)
            scale = self.get_buffer(f"scale{k}").to(part.dtype).view(shape)
            columns.append(((part - mean) / scale).flatten(1))
        return torch.cat(columns, dim=1)


_CONVOLUTIONS: dict[int, Any] = {3: torch.nn.Conv1d, 4: torch.nn.Conv2d, 5: torch.nn.Conv3d}


class Decoder(torch.nn.Module):
    """Decoder that maps an embedding to the concatenated values of tensors of given shapes.

    For each tensor, there is one layer. If embedding and tensor are maps with the same number of
    axes, it is a convolution with a kernel size of 3, after nearest-neighbor interpolation of the
    embedding to the size of the tensor. Otherwise, it is a linear layer on all values.

    Parameters
    ----------
    embedding : Tensor of shape (n, ...)
        Embeddings of a few samples, for their shape.
    wanted : sequence of Tensor of shape (n, n_channels, ...)
        Tensors for a few samples, for their shapes.

    Notes
    -----
    **Shape**: embedding (n, ...) to (n, n_values).
    """

    def __init__(self, embedding: torch.Tensor, wanted: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.sizes: list[Any] = []
        self.layers = torch.nn.ModuleList()
        for part in wanted:
            layer: torch.nn.Module
            if embedding.ndim == part.ndim and part.ndim in _CONVOLUTIONS:
                kind = _CONVOLUTIONS[part.ndim]
                layer = kind(embedding.shape[1], part.shape[1], 3, padding=1)
                self.sizes.append(tuple(part.shape[2:]))
            else:
                layer = torch.nn.Linear(embedding[0].numel(), part[0].numel())
                self.sizes.append(None)
            self.layers.append(layer.to(embedding))

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        columns = []
        for size, layer in zip(self.sizes, self.layers, strict=True):
            if size is None:
                columns.append(layer(embedding.flatten(1)))
            else:
                columns.append(layer(F.interpolate(embedding, size=size)).flatten(1))
        return torch.cat(columns, dim=1)

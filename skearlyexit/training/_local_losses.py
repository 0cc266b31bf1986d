"""Losses of a stage that need no labels."""

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
    """Cross-entropy of an exit, and what its stage misses by a measure that needs no labels.

    Parameters
    ----------
    share : float
        Share of the loss that this measure has, in [0, 1]; with 1 no logits are handed in.
    """

    def __init__(self, share: float) -> None:
        super().__init__([1.0])
        self.share = share

    def forward(self, outputs: Sequence[torch.Tensor], target: Target) -> torch.Tensor:
        """Loss of a batch.

        Parameters
        ----------
        outputs : (logits, made, wanted) or (made, wanted)
            What the stage made of its input, of shape (n, ...), and the input itself, of shape
            (n, n_values).
        target : (y,) or (y, sample_weight)
            Rows beyond these have no labels; they weigh 1.
        """
        *logits, made, wanted = outputs
        missed = self.share * self.missed(made, wanted, all_weights(target, len(made)))
        return missed + (1 - self.share) * super().forward(logits, target) if logits else missed

    @abstractmethod
    def missed(
        self, made: torch.Tensor, wanted: torch.Tensor, weight: torch.Tensor | None
    ) -> torch.Tensor:
        """What the stage misses."""


class ReconstructionLoss(LocalLoss):
    """Mean squared error of what is reconstructed, of values of variance 1."""

    def missed(
        self, made: torch.Tensor, wanted: torch.Tensor, weight: torch.Tensor | None
    ) -> torch.Tensor:
        """Error of the reconstruction, of shape (n, n_values) as what is wanted."""
        return mean_over_rows((made - wanted).square().mean(dim=1), weight)


class SimilarityMatchingLoss(LocalLoss):
    """How far similarities between embeddings are from those between what they were made of."""

    def missed(
        self, made: torch.Tensor, wanted: torch.Tensor, weight: torch.Tensor | None
    ) -> torch.Tensor:
        """Mean squared difference of cosines over pairs of rows; see `embedding_similarities`."""
        directions = F.normalize(wanted, dim=1)
        return pair_error(embedding_similarities(made), directions @ directions.T, weight)


LOCAL_LOSSES: dict[str, type[LocalLoss]] = {
    "reconstruction": ReconstructionLoss,
    "similarity": SimilarityMatchingLoss,
}


def floating(carry: Any) -> list[torch.Tensor]:
    """Parts of a carry that are floating-point numbers, each of shape (n, n_channels, ...).

    Raises
    ------
    ValueError
        If there are none.
    """
    parts = list(carry) if isinstance(carry, tuple | list) else [carry]
    found = [part for part in parts if part.is_floating_point() and part.numel()]
    if not found:
        kinds = [f"{part.dtype} of shape {tuple(part.shape)}" for part in parts]
        raise ValueError(
            "A local loss compares what a stage makes with what it reads, which must hold "
            f"floating-point numbers. Got a stage that reads {kinds}; give local=None."
        )
    return [part[:, None] if part.ndim == 1 else part for part in found]


class StandardizedParts(torch.nn.Module):
    """Floating-point parts of a carry side by side, every channel with mean 0 and variance 1.

    Parameters
    ----------
    passes : iterable of carries
        Rows that the statistics are taken from, once. A channel that never changes is only
        centred.

    Notes
    -----
    **Shape**: carry of n rows to (n, n_values).
    """

    def __init__(self, passes: Iterable[Any]) -> None:
        super().__init__()
        shifts: list[torch.Tensor] = []
        sums: list[list[Any]] = []
        for carry in passes:
            # Channels first, and near 0, where squares keep their digits.
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
            # What rounding leaves of the variance of a constant channel is no variance.
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
    """From an embedding to tensors of given shapes, side by side.

    Each of them by one layer: between maps with as many axes a convolution of 3 positions, after
    the nearest positions were repeated or left out to come to the number that is wanted; otherwise
    a linear layer on all values of the embedding.

    Parameters
    ----------
    embedding : Tensor of shape (n, ...)
    wanted : sequence of Tensor of shape (n, n_channels, ...)
        A few rows of both, for their shapes.

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

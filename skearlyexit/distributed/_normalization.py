"""Batch normalization by the statistics of the batches of all workers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from skearlyexit._determinism._layers import CumulativeBatchNorm

#: Mean of a tensor over all workers, with equal weights.
Mean = Callable[[torch.Tensor], torch.Tensor]

_KINDS = {
    torch.nn.BatchNorm1d,
    torch.nn.BatchNorm2d,
    torch.nn.BatchNorm3d,
    CumulativeBatchNorm,
}


def synchronize(
    network: torch.nn.Module, mean: Mean, n_workers: int, n_samples: Callable[[], int]
) -> None:
    """Let the batch normalization of a network use the statistics of all workers in training.

    Parameters
    ----------
    network : torch.nn.Module
        Network, which is changed. Other subclasses of the layers of torch than
        `CumulativeBatchNorm`, whose computation may be another one, are not.
    mean : callable
        Mean of a tensor over all workers. All have to call it in the same order.
    n_workers : int
        Number of workers.
    n_samples : callable
        Number of samples of the batch of this worker.
    """
    for layer in network.modules():
        if type(layer) in _KINDS:
            vars(layer)["forward"] = partial(_forward, layer, mean, n_workers, n_samples)


def _forward(
    layer: Any, mean: Mean, n_workers: int, n_samples: Callable[[], int], x: torch.Tensor
) -> torch.Tensor:
    if not layer.training:
        kept: torch.Tensor = type(layer).forward(layer, x)
        return kept
    normalized, center, variance, mean_values = _Normalize.apply(x, mean, n_samples(), layer.eps)
    if layer.track_running_stats:
        _track(layer, center, variance, float(mean_values) * n_workers)
    if not layer.affine:
        return normalized
    shape = _shape(x)
    scaled: torch.Tensor = normalized * layer.weight.view(shape) + layer.bias.view(shape)
    return scaled


@torch.no_grad()
def _track(layer: Any, center: torch.Tensor, variance: torch.Tensor, n_values: float) -> None:
    """Update the running statistics, as the layer does."""
    layer.num_batches_tracked.add_(1)
    if isinstance(layer, CumulativeBatchNorm):
        rate = layer.rate
    else:
        rate = layer.momentum
        if rate is None:
            rate = 1 / float(layer.num_batches_tracked)
    unbiased = variance * (n_values / max(n_values - 1, 1))
    layer.running_mean.lerp_(center.to(layer.running_mean), rate)
    layer.running_var.lerp_(unbiased.to(layer.running_var), rate)


class _Normalize(torch.autograd.Function):
    """Normalization of x, of shape (n, n_channels, ...), by the statistics of all workers.

    The loss of each worker is a mean over its own samples, and the gradients of the workers are
    averaged with their numbers of samples as weights. The number of values of a sample may vary,
    such as that of the time points of a series.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, mean: Mean, n_samples: int, eps: float
    ) -> tuple[torch.Tensor, ...]:
        axes, shape = _axes(x), _shape(x)
        exact = x.double()
        n_values = torch.full((1,), x.numel() / x.shape[1], dtype=torch.float64, device=x.device)
        sums = torch.cat([n_values, exact.sum(axes), exact.square().sum(axes)])
        sums = mean(sums)
        center, second = (sums[1:] / sums[0]).chunk(2)
        variance = (second - center.square()).clamp_min(0)
        inverse = (variance + eps).rsqrt()
        normalized = ((exact - center.view(shape)) * inverse.view(shape)).to(x.dtype)
        ctx.save_for_backward(normalized, inverse.to(x.dtype))
        ctx.mean, ctx.n_samples, ctx.mean_values = mean, n_samples, float(sums[0])
        mean_values = sums[0].clone()
        ctx.mark_non_differentiable(center, variance, mean_values)
        return normalized, center, variance, mean_values

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, *_: Any) -> tuple[Any, None, None, None]:
        normalized, inverse = ctx.saved_tensors
        axes, shape = _axes(gradient), _shape(gradient)
        exact = gradient.double()
        sums = torch.cat([exact.sum(axes), (exact * normalized).sum(axes)])
        # Sums weighted by numbers of samples, as if all were those of one loss.
        means = ctx.mean(sums * ctx.n_samples) / (ctx.mean_values * ctx.n_samples)
        of_gradient, along = (each.to(gradient.dtype).view(shape) for each in means.chunk(2))
        onward = (gradient - of_gradient - normalized * along) * inverse.view(shape)
        return onward, None, None, None


def _axes(x: torch.Tensor) -> list[int]:
    return [axis for axis in range(x.ndim) if axis != 1]


def _shape(x: torch.Tensor) -> tuple[int, ...]:
    return 1, -1, *[1] * (x.ndim - 2)

"""Samples on which a converted network is compared with the network in torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from skearlyexit._onnx._graph import ExportError

#: Number of samples of each kind.
N_SAMPLES = 4

#: Kinds of samples. A network that looks up indices, for example, does not take normal numbers.
KINDS: list[Callable[[tuple[int, ...], torch.Generator], torch.Tensor]] = [
    lambda shape, rng: torch.randn(shape, generator=rng, dtype=torch.float64),
    lambda shape, rng: torch.randint(2, shape, generator=rng),
    lambda shape, rng: torch.zeros(shape),
]


def run_on_samples(
    stages: Sequence[torch.nn.Module], row_shape: tuple[int, ...], dtype: torch.dtype
) -> tuple[list[Any], list[torch.Tensor]]:
    """Run the stages of a network on random samples of all kinds that it takes.

    Parameters
    ----------
    stages : sequence of Block
        Stages in evaluation mode, on the CPU.
    row_shape : tuple of int
        Shape of a sample.
    dtype : torch.dtype
        Precision of the samples.

    Returns
    -------
    carries : list of Tensor, or of tuple of Tensor
        Input of each stage.
    embeddings : list of Tensor
        Embeddings of each stage.

    Raises
    ------
    ExportError
        If the network fails for all kinds of samples.
    """
    generator = torch.Generator().manual_seed(0)
    taken, failed = [], []
    for kind in KINDS:
        samples = kind((N_SAMPLES, *row_shape), generator).to(dtype)
        try:
            taken.append((samples, *_run(stages, samples)))
        except Exception as error:
            failed.append(error)
    if not taken:
        raise ExportError(
            "The network cannot be converted to ONNX, since it cannot be compared with the result: "
            f"it fails for samples of random numbers, of zeros and ones, and of zeros: {failed[-1]}"
        ) from failed[-1]
    samples, carries, embeddings = zip(*taken, strict=True)
    return (
        [_joined(parts) for parts in (samples, *zip(*carries, strict=True))],
        [_joined(parts) for parts in zip(*embeddings, strict=True)],
    )


def _run(stages: Sequence[torch.nn.Module], carry: Any) -> tuple[list[Any], list[torch.Tensor]]:
    """Outputs of all stages: what the next stage reads, but for the last one, and embeddings."""
    carries, embeddings = [], []
    with torch.no_grad():
        for stage in stages:
            carry, embedding = stage(carry)
            carries.append(carry)
            embeddings.append(embedding)
    return carries[:-1], embeddings


def _joined(parts: Sequence[Any]) -> Any:
    """Samples of several batches in one."""
    if isinstance(parts[0], tuple):
        return tuple(torch.cat(each) for each in zip(*parts, strict=True))
    return torch.cat(list(parts))

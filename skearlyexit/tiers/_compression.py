"""Embeddings that are sent in fewer bytes, and a network whose later stages are given them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

import torch

from skearlyexit._cascade._cascade import Cascade, FittedNetwork
from skearlyexit._output_kind import OutputKind
from skearlyexit.runtime._executor import executor_of
from skearlyexit.runtime._torch import TorchExecutor


def _to_float16(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Numbers rounded to half precision; larger ones become the largest."""
    largest = torch.finfo(torch.float16).max
    return (tensor.clamp(-largest, largest).to(torch.float16),)


def _to_int8(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Numbers rounded to 256 values between the lowest and the highest of each sample.

    They are sent with the lowest value and the step between two values, in single precision.
    """
    axes = tuple(range(1, tensor.ndim))
    low, high = (tensor.amin(axes, True), tensor.amax(axes, True)) if axes else (tensor, tensor)
    offset = low.float()
    step = ((high - low) / 255).float()
    step = torch.where(step > 0, step, 1.0)
    values = (tensor - offset.to(tensor.dtype)) / step.to(tensor.dtype)
    return values.round().clamp(0, 255).to(torch.uint8), offset, step


def _of_float16(sent: tuple[torch.Tensor, ...], dtype: torch.dtype) -> torch.Tensor:
    return sent[0].to(dtype)


def _of_int8(sent: tuple[torch.Tensor, ...], dtype: torch.dtype) -> torch.Tensor:
    values, offset, step = (part.to(dtype) for part in sent)
    return values * step + offset


@dataclass(frozen=True)
class Format:
    """Format in which floating-point numbers are sent.

    Attributes
    ----------
    sent : callable
        Function from a tensor to the tensors that are sent.
    received : callable
        Function from these and the precision of the original tensor to what is received of it.
    item_bytes, extra_bytes : int
        Bytes for each number, and for each tensor of a sample in addition.
    """

    sent: Callable[[torch.Tensor], tuple[torch.Tensor, ...]]
    received: Callable[[tuple[torch.Tensor, ...], torch.dtype], torch.Tensor]
    item_bytes: int
    extra_bytes: int = 0


#: Formats by their names.
FORMATS = {
    "float16": Format(_to_float16, _of_float16, item_bytes=2),
    "int8": Format(_to_int8, _of_int8, item_bytes=1, extra_bytes=8),
}


def check_compression(compression: str | None) -> None:
    """Raise a ValueError unless there is a format of this name, or it is None."""
    if compression is not None and compression not in FORMATS:
        raise ValueError(
            f"'compression' must be None or one of {list(FORMATS)}. Got {compression!r} instead."
        )


def tensor_bytes(tensor: torch.Tensor, compression: str | None) -> float:
    """Bytes in which a tensor is sent, for one sample."""
    n_items = tensor.numel() // len(tensor)
    if compression is None or not tensor.is_floating_point():
        return n_items * tensor.element_size()
    sent_as = FORMATS[compression]
    return n_items * sent_as.item_bytes + sent_as.extra_bytes


def received(carry: Any, compression: str) -> Any:
    """What is received of a carry; tensors of integers are sent as they are."""
    if isinstance(carry, tuple):
        return tuple(received(part, compression) for part in carry)
    if not carry.is_floating_point():
        return carry
    sent_as = FORMATS[compression]
    return sent_as.received(sent_as.sent(carry), carry.dtype)


@dataclass(frozen=True)
class CompressedNetwork:
    """Fitted network, some stages of which are given compressed embeddings.

    Attributes
    ----------
    network : FittedNetwork
        The network.
    cuts : tuple of int
        Exits before whose stages there is a link.
    compression : str
        Name of the format.
    """

    network: FittedNetwork
    cuts: tuple[int, ...]
    compression: str

    @property
    def n_exits(self) -> int:
        """Number of exits, including the last one."""
        return self.network.n_exits

    @property
    def n_classes(self) -> int:
        """Number of classes, or of targets in regression."""
        return self.network.n_classes

    @property
    def kind(self) -> OutputKind:
        """What the outputs of the heads are."""
        return self.network.kind


class _CompressedExecutor(TorchExecutor):
    """Executor that decompresses what a stage behind a link is given."""

    def __init__(self, compressed: CompressedNetwork) -> None:
        super().__init__(compressed.network)
        self.cuts, self.compression = compressed.cuts, compressed.compression

    def stage_of_batch(self, exit_: int, batch: Any) -> tuple[Any, torch.Tensor]:
        if exit_ in self.cuts:
            batch = received(batch, self.compression)
        return super().stage_of_batch(exit_, batch)


executor_of.register(CompressedNetwork, _CompressedExecutor)


def compressed(
    cascade: Cascade[Any], cuts: tuple[int, ...], compression: str | None
) -> Cascade[Any]:
    """Cascade that runs with compressed embeddings, or the same one if none are."""
    if compression is None:
        return cascade
    return replace(cascade, network=_compressed(cascade.network, cuts, compression), compiled={})


@singledispatch
def _compressed(network: Any, cuts: tuple[int, ...], compression: str) -> Any:
    raise ValueError(
        f"compression={compression!r} is for the embeddings of a network, and estimators in a row "
        "have none: they are sent the samples. Give compression=None, and 'sample_bytes' if "
        "samples are sent in fewer bytes."
    )


@_compressed.register
def _(network: FittedNetwork, cuts: tuple[int, ...], compression: str) -> Any:
    return CompressedNetwork(network, cuts, compression) if cuts else network

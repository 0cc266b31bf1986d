"""Half the bits, or compiled code, for the forward pass of training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def accelerated(
    module: torch.nn.Module, *, mixed_precision: bool, compiled: bool | dict[str, Any], device: str
) -> Iterator[None]:
    """Let a module's forward pass run faster for a while; its outputs keep their precision.

    Parameters
    ----------
    module : torch.nn.Module
        Returns a list of tensors.
    mixed_precision : bool
        Whether operations that bear it are done in bfloat16.
    compiled : bool or dict
        Whether the pass is compiled; a dict holds keyword arguments of ``torch.compile``.
    device : str
    """
    forward: Any = module.forward
    if compiled is not False:
        forward = torch.compile(forward, **(compiled if isinstance(compiled, dict) else {}))
    if mixed_precision:
        kind, exact = torch.device(device).type, forward

        def forward(*args: Any) -> list[torch.Tensor]:
            with torch.autocast(kind, dtype=torch.bfloat16):
                outputs = exact(*args)
            return [each.float() for each in outputs]

    if forward != module.forward:
        vars(module)["forward"] = forward
    try:
        yield
    finally:
        vars(module).pop("forward", None)


def check_mixed_precision(device: str, dtype: str) -> None:
    """Raise a ValueError where bfloat16 is of no use."""
    if dtype != "float32":
        raise ValueError(
            "mixed_precision=True trains in bfloat16 and float32, and cannot keep the precision of "
            f"dtype={dtype!r}. Give dtype='float32', or mixed_precision=False."
        )
    kind = torch.device(device).type
    lacks = kind == "cuda" and not torch.cuda.is_bf16_supported()
    if lacks or not torch.amp.is_autocast_available(kind):
        raise ValueError(
            f"mixed_precision=True needs bfloat16, which torch does not have on {device!r}. Give "
            "another device, or mixed_precision=False."
        )

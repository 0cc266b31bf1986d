"""Half the bits, or compiled code, for the forward pass of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
        options = compiled if isinstance(compiled, dict) else {}
        forward = torch.compile(_apart(forward), **options)
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


def _apart(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The same function with code of its own.

    torch counts how often it has compiled one code, and gives up without a word after some times;
    all networks have that of their class.
    """

    def run(*args: Any) -> Any:
        return forward(*args)

    run.__code__ = run.__code__.replace()
    return run


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

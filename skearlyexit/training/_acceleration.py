"""Mixed precision and compilation of the forward passes in training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def accelerated(
    module: torch.nn.Module, *, mixed_precision: bool, compiled: bool | dict[str, Any], device: str
) -> Iterator[None]:
    """Context in which the forward pass of a module uses mixed precision or is compiled.

    With mixed precision, the outputs are converted to float32.

    Parameters
    ----------
    module : torch.nn.Module
        Module whose output is a list of tensors.
    mixed_precision : bool
        Whether the forward pass runs under bfloat16 autocast.
    compiled : bool or dict
        Whether the forward pass is compiled; a dict holds keyword arguments of ``torch.compile``.
    device : str
        Device on which the module runs.
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
    """Copy of a function with a code object of its own.

    torch limits how often it compiles the same code object and falls back to eager execution
    without a warning. The networks of all fits share the code of their class.
    """

    def run(*args: Any) -> Any:
        return forward(*args)

    run.__code__ = run.__code__.replace()
    return run


def check_mixed_precision(device: str, dtype: str) -> None:
    """Raise a ValueError if mixed precision is not possible."""
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

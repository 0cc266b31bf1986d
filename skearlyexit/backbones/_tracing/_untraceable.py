"""Errors of tracing, and their messages."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path

import torch


class UntraceableError(ValueError):
    """Exception for modules that cannot be traced.

    The operations of such a module depend on values of the input, or are not supported by
    `torch.fx`. The message names the submodule.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from skearlyexit import TracedBackbone, list_exits
    >>> from skearlyexit.backbones import UntraceableError
    >>> class Clipped(nn.Module):
    ...     def forward(self, x):
    ...         return x.clamp(max=1) if x.max() > 1 else x
    >>> module, X = nn.Sequential(nn.Linear(8, 4), Clipped(), nn.Linear(4, 2)), np.zeros((4, 8))
    >>> try:
    ...     list_exits(TracedBackbone(module), X)
    ... except UntraceableError as error:
    ...     print(str(error).split(" does")[0])
    The backbone cannot be traced: its submodule '1' (Clipped)
    >>> list_exits(TracedBackbone(module, leaf=[Clipped]), X).names
    ['0', '1']
    """


class RowsError(ValueError):
    """Exception for operations that fail for some numbers of samples."""


def explanation(root: torch.nn.Module, stack: Sequence[str], error: Exception) -> str:
    """Message that says which operation cannot be traced, where, and what to do."""
    # The innermost line outside of torch and of this package is the operation.
    ours = {str(Path(torch.__file__).parent), str(Path(__file__).parents[2])}
    lines = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(frame.filename.startswith(folder) for folder in ours)
        and not frame.filename.startswith("<")
    ]
    where = ""
    if lines:
        frame = lines[-1]
        where = f" at {frame.line!r} ({Path(frame.filename).name}, line {frame.lineno})"
    if isinstance(error, RowsError):
        return (
            f"The backbone runs on 3 samples, and fails on 2{where}: {error}. A number of samples "
            "is a constant in it; write x.shape[0], or -1 in a shape, for the number of samples."
        )
    path = stack[-1]
    mode = " in training mode" if root.training else ""
    if path:
        kind = type(root.get_submodule(path)).__name__
        who = f"its submodule {path!r} ({kind})"
        helps = (
            f"Exclude that submodule from tracing by TracedBackbone(module, leaf=[{path!r}]), or a "
            "function in it by naming the function there, or give the network as a list of stages."
        )
    else:
        who = f"its own forward ({type(root).__name__})"
        helps = (
            "Put that operation into a submodule, or into a function, and name it in "
            "TracedBackbone(module, leaf=[...]); or give the network as a list of stages."
        )
    return (
        f"The backbone cannot be traced: {who} does something{mode}{where} that depends on "
        f"values of the input, or that torch.fx does not know: {error}. {helps}"
    )

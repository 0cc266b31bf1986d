"""Multiply-accumulate operations (MACs) of torch modules, by the counter of torch."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry


def module_macs(module: torch.nn.Module, inputs: Any, n_rows: int) -> tuple[float, Any]:
    """Count the MACs of a module per sample.

    Products of matrices, convolutions and attention are counted. Element-wise operations,
    normalization and pooling count as 0, as is usual.

    Parameters
    ----------
    module : torch.nn.Module
        Called as ``module(inputs)``, without gradients and in its current mode.
    inputs : Tensor or tuple of Tensor
        Input of `n_rows` samples.
    n_rows : int
        Number of samples, by which the count is divided.

    Returns
    -------
    macs : float
        MACs per sample.
    outputs : object
        Output of the module.

    Examples
    --------
    >>> module_macs(torch.nn.Linear(8, 3), torch.zeros(2, 8), n_rows=2)[0]
    24.0
    """
    with torch.no_grad():
        with _Counter() as counter:
            outputs = module(inputs)
        flops = counter.flops
        if counter.is_incomplete:
            try:
                flops = _count(_without_memory(module), _to_meta(inputs))
            except Exception:
                # Some modules depend on values, or create tensors, which does not work on meta.
                with _unfused():
                    flops = _count(module, inputs)
    return flops / 2 / n_rows, outputs


class _Counter(TorchDispatchMode):
    """Counts operations as `FlopCounterMode`, but takes less time for small blocks.

    Attributes
    ----------
    flops : int
        Number of operations.
    is_incomplete : bool
        Whether there were operators that it does not count: fused kernels of several products,
        operators that call functions, and those that inference mode does not decompose.
    """

    supports_higher_order_operators = True
    _fused = re.compile("rnn|lstm|gru|attention|encoder_layer")

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.is_incomplete = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        outputs = func(*args, **kwargs)
        if (
            isinstance(func, torch._ops.HigherOrderOperator)
            or torch.is_inference_mode_enabled()
            or self._fused.search(func.name())
        ):
            self.is_incomplete = True
        elif func._overloadpacket in flop_registry:
            self.flops += flop_registry[func._overloadpacket](*args, **kwargs, out_val=outputs)
        return outputs


@contextmanager
def _unfused() -> Iterator[None]:
    """Run recurrent layers and attention as products of matrices, which the counter counts."""
    library: Any = torch.backends.mkldnn
    fast, onednn = torch.backends.mha.get_fastpath_enabled(), library.enabled
    torch.backends.mha.set_fastpath_enabled(False)
    library.enabled = False
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        library.enabled = onednn


def _count(module: torch.nn.Module, inputs: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        module(inputs)
    return counter.get_total_flops()


def _without_memory(module: torch.nn.Module) -> torch.nn.Module:
    """Copy of a module whose tensors are on the device "meta", and have shapes only."""
    # With the tensors of the copy in its memo, deepcopy does not copy the weights.
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = torch.nn.Parameter(parameter.to("meta"), requires_grad=False)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer.to("meta")
    return copy.deepcopy(module, memo).to("meta")


def _to_meta(inputs: Any) -> Any:
    """Move tensors to the device "meta", on which attention and recurrent layers are not fused.

    On the CPU they run as one fused operation each, which the counter ignores.
    """
    if isinstance(inputs, tuple):
        return tuple(_to_meta(part) for part in inputs)
    return inputs.to("meta")

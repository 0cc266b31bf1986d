"""Multiply-accumulates of torch modules, by torch's own counter."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

# What is switched off for a count is switched off for the process: one count at a time.
_lock = threading.Lock()


def module_macs(module: torch.nn.Module, inputs: Any, n_rows: int) -> tuple[float, Any]:
    """Multiply-accumulates of one row, and the outputs of the counted pass.

    Products of matrices, convolutions and attention are counted; element-wise operations,
    normalisation and pooling count as nothing, as is usual.

    Parameters
    ----------
    module : torch.nn.Module
        Called once as ``module(inputs)``, without gradients and in the mode it is in.
    inputs : Tensor or tuple of Tensor
        Its only argument, of `n_rows` rows.
    n_rows : int
        Number of rows that the count is divided by.

    Returns
    -------
    macs : float
    outputs : what the module returned

    Examples
    --------
    >>> module_macs(torch.nn.Linear(8, 3), torch.zeros(2, 8), n_rows=2)[0]
    24.0
    """
    with _lock, torch.no_grad(), _spelt_out(), FlopCounterMode(display=False) as counter:
        outputs = module(inputs)
    return counter.get_total_flops() / 2 / n_rows, outputs


@contextmanager
def _spelt_out() -> Iterator[None]:
    """Attention and recurrent layers as the products that they consist of.

    On the CPU they run as one fused operation each, of which the counter knows nothing.
    """
    attention, recurrence = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled
    torch.backends.mha.set_fastpath_enabled(False)
    torch.backends.mkldnn.set_flags(_enabled=False, _fp32_precision=None)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(attention)
        torch.backends.mkldnn.set_flags(_enabled=recurrence, _fp32_precision=None)

"""Timing of parts on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
import torch

from skearlyexit.costs._parts import CostInput


def time_parts(parts: Sequence[CostInput], n_rows: int, n_repeats: int) -> list[np.ndarray]:
    """Time each part alone.

    Parameters
    ----------
    parts : sequence of CostInput
    n_rows : int
        Number of samples in each call.
    n_repeats : int
        Number of timed calls of each part, after one that is not timed.

    Returns
    -------
    times : list of ndarray of shape (n_repeats,)
        Seconds per sample in each call.
    """
    times = np.empty((len(parts), n_repeats))
    with torch.inference_mode():
        for row, part in zip(times, parts, strict=True):
            inputs = part.with_samples(n_rows)
            part.run(inputs)  # the first call may allocate, or start threads
            _wait_for(inputs)
            for i in range(n_repeats):
                start = perf_counter()
                part.run(inputs)
                _wait_for(inputs)
                row[i] = perf_counter() - start
    return list(times / n_rows)


def _wait_for(inputs: Any) -> None:
    """Wait until an accelerator has finished the call."""
    first = inputs[0] if isinstance(inputs, tuple) else inputs
    if isinstance(first, torch.Tensor) and first.is_cuda:
        torch.cuda.synchronize(first.device)

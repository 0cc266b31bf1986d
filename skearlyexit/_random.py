"""Random states of torch, numpy and python, borrowed and given back."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

# Weights and dropout are drawn from process-wide generators: two fits in two threads take turns,
# or neither could be repeated.
_lock = threading.RLock()


@contextmanager
def isolated_random_state(seed: int, device: str = "cpu") -> Iterator[None]:
    """Seed the process-wide generators inside, and restore them after."""
    used = torch.device(device)
    accelerators = [] if used.type == "cpu" else [used.index or 0]
    with _lock:
        python_state, numpy_state = random.getstate(), np.random.get_state()
        try:
            with torch.random.fork_rng(accelerators, device_type=_kind(used)):
                torch.manual_seed(seed)
                np.random.seed(seed)
                random.seed(seed)
                yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def _kind(device: torch.device) -> str:
    # Without an accelerator the name is looked up all the same.
    return "cuda" if device.type == "cpu" else device.type

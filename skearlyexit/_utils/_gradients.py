"""Recording of gradients, also if the calling code has disabled it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def gradients() -> Iterator[None]:
    """Record gradients inside, also within `torch.inference_mode` and `torch.no_grad`."""
    with torch.inference_mode(False), torch.enable_grad():
        yield

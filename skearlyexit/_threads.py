"""Matrix products of numpy on one thread, so that a row's result is the same in any batch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

# The limit is process-wide, and only the thread that set it can lift it. Were two threads inside,
# the first to leave would lift it for the other.
_lock = threading.RLock()


@cache
def _controller() -> ThreadpoolController:
    # Finding the loaded libraries takes a millisecond; they stay loaded.
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def single_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread inside, for one Python thread at a time."""
    with _lock, _controller().limit(limits=1):
        yield

"""Matrix products of numpy on one thread, so that a row's result is the same in any batch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_depth = 0
_limiter: Any = None


@cache
def _controller() -> ThreadpoolController:
    # Finding the loaded libraries takes a millisecond; they stay loaded.
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def single_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread inside; the last to leave restores what the first found.

    The limit is process-wide, so that two threads that each saved and restored it could leave it
    behind. Counting them cannot.
    """
    global _depth, _limiter
    with _lock:
        if _depth == 0:
            _limiter = _controller().limit(limits=1)
            _limiter.__enter__()
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                _limiter.__exit__(None, None, None)
                _limiter = None

"""A lock that survives a fork."""

from __future__ import annotations

import os
import threading
from typing import Any


class ForkSafeLock:
    """Lock that is free in a child process, where the thread that held it does not exist.

    It is used as a context manager.
    """

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exception: Any) -> None:
        self._lock.release()

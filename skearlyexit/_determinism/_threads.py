"""Matrix products of NumPy on one thread, which makes results independent of the batch."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

Result = TypeVar("Result")


class _Limit:
    """Limit of one thread, which applies while any call needs it.

    The number of threads is a setting of the process, except for libraries that use OpenMP. There
    it is a setting of each thread, which no other thread can change.
    """

    def __init__(self) -> None:
        # Held for a short time only, and not during the call, which may start threads that need it.
        self.guard = threading.RLock()
        # The current calls, each with its thread, and the numbers of threads before the first.
        self.calls: dict[object, int] = {}
        self.n_threads: list[int] = []

    def set(self, call: object) -> None:
        """Begin a call."""
        with self.guard:
            if not self.calls:
                self.n_threads = [library.get_num_threads() for library in _libraries()]
            self.calls[call] = threading.get_ident()
            for library in _libraries():
                _set(library, 1)

    def lift(self, call: object) -> None:
        """End a call. After an interrupt it must be called again."""
        with self.guard:
            if call not in self.calls:
                return
            others = [thread for other, thread in self.calls.items() if other is not call]
            for library, n_threads in zip(_libraries(), self.n_threads, strict=True):
                by_thread = getattr(library, "threading_layer", None) == "openmp"
                if threading.get_ident() not in others if by_thread else not others:
                    _set(library, n_threads)
            del self.calls[call]

    def forget_others(self) -> None:
        """End the calls of threads that do not exist after a fork."""
        self.guard = threading.RLock()
        for call in [
            each for each, thread in self.calls.items() if thread != threading.get_ident()
        ]:
            self.lift(call)


@cache
def _libraries() -> list[Any]:
    # Finding the loaded libraries takes a millisecond; they stay loaded.
    return list(ThreadpoolController().select(user_api="blas").lib_controllers)


def _set(library: Any, n_threads: int) -> None:
    # threadpoolctl only lets the thread that has set the limit of a library shared by all threads
    # change it. Here another thread may have to lift it.
    release = getattr(library, "clear_controlling_thread", lambda *, force: None)
    release(force=True)
    library.set_num_threads(n_threads)
    release(force=True)


_limit = _Limit()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _limit.guard.acquire(),
        after_in_parent=lambda: _limit.guard.release(),
        after_in_child=lambda: _limit.forget_others(),
    )


def on_single_blas_thread(function: Callable[[], Result]) -> Result:
    """Call a function while BLAS is limited to one thread.

    This is not a context manager, since an interrupt may occur at any line, also between the lines
    that set the limit and the block that lifts it.
    """
    call = object()
    try:
        _limit.set(call)
        return function()
    finally:
        try:
            _limit.lift(call)
        except BaseException:
            _limit.lift(call)
            raise

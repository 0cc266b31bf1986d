"""Code that restores its settings also if it is interrupted."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, TypeVar

import numpy as np

Result = TypeVar("Result")


def quietly(function: Callable[[], Result], *kinds: str) -> Result:
    """Call a function while NumPy ignores floating-point errors of some kinds.

    The setting is made in a separate context, which ends with the call. `np.errstate` restores it
    in Python code, which an interrupt may prevent.
    """

    def call() -> Result:
        np.seterr(**dict.fromkeys(kinds, "ignore"))  # type: ignore[arg-type]
        return function()

    return copy_context().run(call)


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Defer Ctrl-C to the end of a block that replaces functions of the whole process.

    An interrupt could otherwise prevent that they are all restored. A second one is handled
    immediately. Python handles signals in the main thread only; other threads need no protection.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    waiting: list[Any] = []

    def wait(*received: Any) -> None:
        waiting.append(received)
        if len(waiting) > 1:
            handler(*received)

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if waiting:
            handler(*waiting[-1])

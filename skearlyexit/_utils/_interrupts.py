"""Interrupts that wait, and what they cannot leave behind."""

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
    """Call a function while numpy ignores floating-point errors of some kinds.

    This is done in a context of its own, which ends with the call. `np.errstate` has Python code
    that puts back what was before, and an interrupt may come before it does.
    """

    def call() -> Result:
        np.seterr(**dict.fromkeys(kinds, "ignore"))  # type: ignore[arg-type]
        return function()

    return copy_context().run(call)


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Handle Ctrl-C at the end of a block that replaces functions of the whole process.

    An interrupt within it could leave some of them replaced, since what puts them back may be
    interrupted too. A second one is handled at once. Python handles signals in the main thread
    only; in others nothing is to be done.
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

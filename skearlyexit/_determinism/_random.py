"""Temporary seeding of the global random generators of torch, NumPy and Python."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import torch

Result = TypeVar("Result")


class isolated_random_state:  # noqa: N801
    """Context manager that seeds the global random generators, and restores their states on exit.

    Weights and dropout use these generators. Fits in several threads take turns, since the results
    of none would be reproducible otherwise.

    Parameters
    ----------
    seed : int
    device : str, default="cpu"
        Device whose generator is seeded and restored as well.
    shared : bool, default=False
        Whether the code inside may start threads and wait for them, as an estimator given by the
        user may do. Threads that start during this turn can have turns within it, rather than wait
        for its end. If such a thread was started by other code, an estimator that uses the global
        generators instead of a `random_state` is not reproducible.
    """

    def __init__(self, seed: int, device: str = "cpu", *, shared: bool = False) -> None:
        self.seed, self.device, self.shared = seed, torch.device(device), shared

    def __enter__(self) -> None:
        try:
            _turns.begin(self)
            if self.device.type == "cpu":
                # torch.manual_seed would also seed accelerators, under a lock that a fork may copy.
                torch.default_generator.manual_seed(self.seed)
            else:
                torch.manual_seed(self.seed)
            np.random.seed(self.seed)
            random.seed(self.seed)
        except BaseException:
            _turns.end(self)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            _turns.end(self)
        except BaseException:  # an interrupt, after which the states may be restored in part only
            _turns.end(self)
            raise

    def opens_for(self, thread: threading.Thread) -> bool:
        """Whether a thread may have a turn within this one."""
        return thread is self.owner or (self.shared and thread not in self.before)

    def save(self) -> None:
        """Store the current thread, and the states of the generators."""
        self.owner = threading.current_thread()
        # A thread with an inner turn may end later than this turn.
        self.before = set(threading.enumerate()) if self.shared else set()
        self.states = _states(self.device)

    def restore(self) -> None:
        """Restore the stored states."""
        _set_states(self.states)


def _states(device: torch.device) -> dict[str, Any]:
    """States of the global generators."""
    states: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
    }
    if device.type != "cpu":
        states[str(device)] = torch.get_device_module(device).get_rng_state(device)
    return states


def _set_states(states: dict[str, Any]) -> None:
    for name, state in states.items():
        if name == "python":
            random.setstate(state)
        elif name == "numpy":
            np.random.set_state(state)
        elif name == "torch":
            torch.set_rng_state(state)
        else:
            torch.get_device_module(name).set_rng_state(state, name)


class RandomStream:
    """Random numbers that continue from one context to the next, isolated from all others.

    Parameters
    ----------
    seed : int
    device : str, default="cpu"
        Device whose generator is used as well.

    Attributes
    ----------
    states : dict of str to object, or None
        States of the generators at the end of the last context. None before the first one.
    """

    def __init__(self, seed: int, device: str = "cpu") -> None:
        self.seed, self.device = seed, device
        self.states: dict[str, Any] | None = None

    @contextmanager
    def continued(self) -> Iterator[None]:
        """Context in which the global generators continue this stream."""
        with isolated_random_state(self.seed, self.device):
            if self.states is not None:
                _set_states(self.states)
            try:
                yield
            finally:
                self.states = _states(torch.device(self.device))


class _Turns:
    """Turns of threads that use the global generators."""

    def __init__(self) -> None:
        # Its lock is held for a short time only. A fork waits for it, not for the end of a turn.
        self.changed = threading.Condition()
        # Each turn within the one before it.
        self.taken: list[isolated_random_state] = []

    def begin(self, turn: isolated_random_state) -> None:
        """Wait until the turn can begin."""
        thread = threading.current_thread()
        with self.changed:
            self.changed.wait_for(lambda: not self.taken or self.taken[-1].opens_for(thread))
            turn.save()
            self.taken.append(turn)

    def end(self, turn: isolated_random_state) -> None:
        """Restore the states, unless this was done. After an interrupt it must be called again."""
        with self.changed:
            if turn not in self.taken:
                return
            if turn is self.taken[-1]:
                turn.restore()
            else:
                # Threads with inner turns are still running; the last of them restores the states.
                inner = self.taken[self.taken.index(turn) + 1]
                inner.states |= turn.states
            self.taken.remove(turn)
            self.changed.notify_all()

    def forget_others(self) -> None:
        """End the turns of threads that do not exist after a fork."""
        self.changed = threading.Condition()
        self.taken = [turn for turn in self.taken if turn.owner is threading.current_thread()]


_turns = _Turns()


def ending_turns(function: Callable[[], Result]) -> Result:
    """Call a function, and end its turns if it is interrupted.

    An interrupt may occur after `__exit__` of a turn is called, and before its first line runs.
    """
    before = list(_turns.taken)
    try:
        return function()
    except BaseException:
        for turn in _turns.taken[::-1]:
            if turn not in before and turn.owner is threading.current_thread():
                _turns.end(turn)
        raise


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _turns.changed.acquire(),
        after_in_parent=lambda: _turns.changed.release(),
        after_in_child=lambda: _turns.forget_others(),
    )

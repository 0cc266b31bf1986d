"""Random states of torch, numpy and python, borrowed and given back."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import torch

Result = TypeVar("Result")


class isolated_random_state:  # noqa: N801
    """Context manager that seeds the process-wide generators inside, and restores them after.

    Weights and dropout are drawn from these generators: two fits in two threads take turns, or
    neither could be repeated.

    Parameters
    ----------
    seed : int
    device : str, default="cpu"
        Device whose generator is restored too.
    shared : bool, default=False
        Whether what is called inside may start threads and wait for them, as an estimator of the
        user may do. Threads that start during the turn do not wait for its end; they have turns
        within it. Where such a thread belongs to somebody else, an estimator that draws from the
        process-wide generators instead of a `random_state` is not repeatable.
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
        except BaseException:  # an interrupt, after which half of it might be left to do
            _turns.end(self)
            raise

    def opens_for(self, thread: threading.Thread) -> bool:
        """Whether a thread may have a turn within this one."""
        return thread is self.owner or (self.shared and thread not in self.before)

    def save(self) -> None:
        """Note whose turn it is, and the states of the generators before it."""
        self.owner = threading.current_thread()
        # An inner turn may be left to a thread that outlives this one.
        self.before = set(threading.enumerate()) if self.shared else set()
        self.states: dict[str, Any] = {
            "python": random.getstate(),
            "numpy": np.random.get_state(),
            "torch": torch.get_rng_state(),
        }
        if self.device.type != "cpu":
            module = torch.get_device_module(self.device)
            self.states[str(self.device)] = module.get_rng_state(self.device)

    def restore(self) -> None:
        """Put back the states that were noted."""
        for name, state in self.states.items():
            if name == "python":
                random.setstate(state)
            elif name == "numpy":
                np.random.set_state(state)
            elif name == "torch":
                torch.set_rng_state(state)
            else:
                torch.get_device_module(name).set_rng_state(state, name)


class _Turns:
    """Who uses the process-wide generators."""

    def __init__(self) -> None:
        # Its lock is held for a moment only, and a fork waits for it, not for the end of a turn.
        self.changed = threading.Condition()
        # Each turn within the one before it.
        self.taken: list[isolated_random_state] = []

    def begin(self, turn: isolated_random_state) -> None:
        """Wait until the turn can be had."""
        thread = threading.current_thread()
        with self.changed:
            self.changed.wait_for(lambda: not self.taken or self.taken[-1].opens_for(thread))
            turn.save()
            self.taken.append(turn)

    def end(self, turn: isolated_random_state) -> None:
        """Restore the states, unless this was done; to be repeated if it was interrupted."""
        with self.changed:
            if turn not in self.taken:
                return
            if turn is self.taken[-1]:
                turn.restore()
            else:
                # Threads that were not waited for are still drawing; the last of them restores.
                inner = self.taken[self.taken.index(turn) + 1]
                inner.states |= turn.states
            self.taken.remove(turn)
            self.changed.notify_all()

    def forget_others(self) -> None:
        """End the turns of threads that a fork has not taken along."""
        self.changed = threading.Condition()
        self.taken = [turn for turn in self.taken if turn.owner is threading.current_thread()]


_turns = _Turns()


def ending_turns(function: Callable[[], Result]) -> Result:
    """Call a function, of which no turn is left where an interrupt ends it.

    An interrupt may come when the end of a turn has been called and has not begun.
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

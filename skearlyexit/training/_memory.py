"""Cache of training phases on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from joblib import Memory

from skearlyexit._utils._warnings import warn
from skearlyexit._version import __version__
from skearlyexit.training._fingerprint import fingerprint
from skearlyexit.training._state import State, put_state, state_of

#: Result of a phase: the state of the trained modules, their hash in that state, and the entries of
#: the history.
Outcome = tuple[State, str, list[dict[str, Any]]]


@dataclass(frozen=True)
class TrainingMemory:
    """Cache of the results of training phases.

    Attributes
    ----------
    memory : joblib.Memory
        Cache. For each entry, its folder also contains a lock file, with which processes wait for
        one another.
    """

    memory: Memory

    def recall(self, facts: Any, train: Callable[[], Outcome]) -> tuple[Outcome, bool]:
        """Load the result of a phase from the cache, or compute it.

        If several processes request the same phase at the same time, one of them computes it and
        the others wait.

        Parameters
        ----------
        facts : object
            Everything that the result depends on.
        train : callable
            Function without arguments that computes the result.

        Returns
        -------
        outcome : Outcome
            Result of the phase.
        recalled : bool
            Whether it was loaded from the cache.
        """
        trained = []

        def train_now() -> Outcome:
            trained.append(True)
            return train()

        key = fingerprint([_surroundings(), facts])
        cached = self.memory.cache(_outcome, ignore=["train"])
        # An existing entry is loaded without a lock, which a read-only folder cannot contain.
        if cached.check_call_in_cache(key, train_now) and (found := _read(cached, key)):
            return found[0], True
        with FileLock(self._lock(key)):
            outcome = cached(key, train_now)
        return outcome, not trained

    def _lock(self, key: str) -> Path:
        folder = Path(self.memory.store_backend.location) / "skearlyexit-locks"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{key}.lock"


def _read(cached: Any, key: str) -> list[Outcome]:
    """Result of an existing entry in a list; empty if the entry is damaged and was removed."""
    result = cached.call_and_shelve(key, None)
    try:
        return [result.get()]
    except Exception as error:
        folder = Path(result.store_backend.location).joinpath(*result._call_id)
        warn(
            f"An entry of 'memory' is damaged and cannot be read, {folder / 'output.pkl'}: "
            f"{type(error).__name__}: {str(error)[:200]}. It is removed and trained again; if the "
            "folder is not writable, remove it by hand."
        )
        result.clear()
        return []


def _surroundings() -> list[Any]:
    """Versions and settings of the process that the result of a training depends on."""
    settings = [__version__, *(version(name) for name in ("torch", "skorch"))]
    # The number of threads determines the order of summation, and thus the rounding.
    settings += [str(torch.get_num_threads()), torch.get_float32_matmul_precision()]
    settings += [str(torch.get_default_dtype()), str(torch.are_deterministic_algorithms_enabled())]
    cudnn = torch.backends.cudnn
    flags = [torch.backends.mkldnn.enabled, cudnn.enabled, cudnn.deterministic, cudnn.benchmark]
    return [*settings, *map(bool, flags)]


def _outcome(key: str, train: Callable[[], Outcome]) -> Outcome:
    return train()


def outcome_of(module: torch.nn.Module, history: list[dict[str, Any]]) -> Outcome:
    """Result of a phase for a module in evaluation mode."""
    return state_of(module, "cpu"), fingerprint(module), history


def restore(module: torch.nn.Module, outcome: Outcome) -> bool:
    """Load the result of a phase into a module.

    Parameters
    ----------
    module : torch.nn.Module
        Module in its state before the phase.
    outcome : Outcome
        Result of the phase.

    Returns
    -------
    restored : bool
        False if the training changed something other than the state of the module. The module is
        then not changed.
    """
    state, key, _ = outcome
    before = state_of(module)
    put_state(module, state)
    if fingerprint(module) == key:
        return True
    put_state(module, before)
    return False

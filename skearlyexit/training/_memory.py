"""Training phases kept on disk, so that the same one is run once."""

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

#: What a phase leaves behind: the state of the trained part, the part's key in that state, and
#: entries of the history.
Outcome = tuple[State, str, list[dict[str, Any]]]


@dataclass(frozen=True)
class TrainingMemory:
    """Outcomes of training phases, by all that they depend on.

    Attributes
    ----------
    memory : joblib.Memory
        Beside its entries a small file is kept for each, by which processes wait for one another.
    """

    memory: Memory

    def recall(self, facts: Any, train: Callable[[], Outcome]) -> tuple[Outcome, bool]:
        """Outcome of a phase, from disk if it is there.

        Where several processes ask for the same phase at once, one trains and the others wait.

        Parameters
        ----------
        facts : object
            All that the outcome depends on.
        train : callable
            Called without arguments if the outcome is not there.

        Returns
        -------
        outcome : Outcome
        recalled : bool
            Whether it was there.
        """
        trained = []

        def train_now() -> Outcome:
            trained.append(True)
            return train()

        key = fingerprint([_surroundings(), facts])
        cached = self.memory.cache(_outcome, ignore=["train"])
        # What is there is read without a lock, which a read-only folder has no place for.
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
    """The outcome of an entry that is there; none if it is damaged, which is then removed."""
    result = cached.call_and_shelve(key, None)
    try:
        return [result.get()]
    except Exception as error:
        folder = Path(result.store_backend.location).joinpath(*result._call_id)
        warn(
            f"An entry of 'memory' is damaged and cannot be read, {folder / 'output.pkl'}: "
            f"{type(error).__name__}: {str(error)[:200]}. It is removed and trained anew; if the "
            "folder cannot be written to, remove it by hand."
        )
        result.clear()
        return []


def _surroundings() -> list[Any]:
    """Settings of the process on which the numbers of a training depend."""
    settings = [__version__, *(version(name) for name in ("torch", "skorch"))]
    # Another number of threads adds up in another order, and trains another network.
    settings += [str(torch.get_num_threads()), torch.get_float32_matmul_precision()]
    settings += [str(torch.get_default_dtype()), str(torch.are_deterministic_algorithms_enabled())]
    cudnn = torch.backends.cudnn
    flags = [torch.backends.mkldnn.enabled, cudnn.enabled, cudnn.deterministic, cudnn.benchmark]
    return [*settings, *map(bool, flags)]


def _outcome(key: str, train: Callable[[], Outcome]) -> Outcome:
    return train()


def outcome_of(module: torch.nn.Module, history: list[dict[str, Any]]) -> Outcome:
    """What a module in evaluation mode has become."""
    return state_of(module, "cpu"), fingerprint(module), history


def restore(module: torch.nn.Module, outcome: Outcome) -> bool:
    """Make a module what it has become, unless it keeps more than tensors.

    Returns
    -------
    restored : bool
        False if it keeps something else that training changed; it is then left as it was.
    """
    state, key, _ = outcome
    before = state_of(module)
    put_state(module, state)
    if fingerprint(module) == key:
        return True
    put_state(module, before)
    return False

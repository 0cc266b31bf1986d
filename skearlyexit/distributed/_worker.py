"""What workers have in common: they run the phases of a training epoch by epoch."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from skearlyexit.training import MultiExitNetwork, Trainer
from skearlyexit.training._options import Execution, TrainingOptions
from skearlyexit.training._phase_run import PhaseRun
from skearlyexit.training._phases import Phase, PhasedTraining
from skearlyexit.training._state import State, put_state, state_of


@dataclass(frozen=True)
class Job:
    """What a worker is asked to train.

    Attributes
    ----------
    network : MultiExitNetwork
        Network, or a part of it. The worker trains a copy.
    training : PhasedTraining
        Training strategy.
    costs : ndarray of shape (n_exits,)
        Cost of the backbone up to each exit.
    options, execution : TrainingOptions, Execution
        Options of the training.
    seed : int
        First seed of the phases.
    n_threads : int
        Number of threads of torch.
    """

    network: MultiExitNetwork
    training: PhasedTraining
    costs: np.ndarray
    options: TrainingOptions
    execution: Execution
    seed: int
    n_threads: int


@dataclass(frozen=True)
class Checkpoint:
    """State of a worker after an epoch, from which another one can continue.

    Attributes
    ----------
    network : State
        Weights.
    n_ended : int
        Number of phases that have ended.
    run : bytes or None
        State of the phase that has not ended, with optimizer, random states and callbacks.
    """

    network: State
    n_ended: int
    run: bytes | None


def weights_in(checkpoint: bytes) -> State:
    """Weights in a pickled checkpoint."""
    stored: Checkpoint = pickle.loads(checkpoint)
    return stored.network


class PhasedWorker:
    """Base class of workers, which run the phases of a training epoch by epoch.

    Parameters
    ----------
    job : Job
        What is trained.
    checkpoint : bytes or None
        Pickled `Checkpoint` of a worker with the same job, which this one continues.
    """

    #: Number of the stream of random numbers.
    stream = 0

    def __init__(self, job: Job, checkpoint: bytes | None) -> None:
        self.job, self.checkpoint = job, checkpoint
        self.run: PhaseRun | None = None
        self.n_ended = 0
        self.has_begun = False

    def _begin(self, rows: Any, validation: Any, first_callback: Any = None) -> None:
        """Prepare the first epoch; errors in `__init__` would not be those of a call."""
        job = self.job
        if torch.get_num_threads() != job.n_threads:
            torch.set_num_threads(job.n_threads)
        self.network = copy.deepcopy(job.network)
        self.seeds = Seeds(job.seed)
        self.trainer = Trainer(
            rows,
            validation,
            job.options,
            job.execution,
            seeds=self.seeds,
            first_callback=first_callback,
            # Workers have different numbers of batches, and exchange statistics in each.
            renews_statistics=False,
        )
        phases = job.training.phases(self.network, job.costs, self.trainer)
        self._phases = (phase for phase in phases if phase.view.trainable())
        stored: Checkpoint | None = pickle.loads(self.checkpoint) if self.checkpoint else None
        if stored is not None:
            put_state(self.network, stored.network)
            for _ in range(stored.n_ended):
                next(self._phases)
                next(self.seeds)
            self.n_ended = stored.n_ended
        self.run = self._next_run()
        if stored is not None and stored.run is not None:
            assert self.run is not None
            self.run.restore(stored.run)
        self.has_begun = True

    def _next_run(self) -> PhaseRun | None:
        phase: Phase | None = next(self._phases, None)
        return None if phase is None else PhaseRun(phase, stream=self.stream)

    def _next_checkpoint(self) -> bytes:
        """State after an epoch; the next phase begins if one has ended."""
        state, run = state_of(self.network, "cpu"), None
        if self.run is not None and not self.run.has_ended:
            run = self.run.checkpoint()
        elif self.run is not None:
            self.n_ended += 1
            self.run = self._next_run()
        return pickle.dumps(Checkpoint(state, self.n_ended, run))


class Seeds(Iterator[int]):
    """Seeds that are counted, of which the next one can be read.

    Parameters
    ----------
    n : int
        First seed.
    """

    def __init__(self, n: int) -> None:
        self.n = n

    def __next__(self) -> int:
        self.n += 1
        return self.n - 1

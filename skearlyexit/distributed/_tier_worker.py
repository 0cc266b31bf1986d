"""A worker that trains the stages of one tier, on embeddings of the tier before it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from skearlyexit.distributed._shipment import Batch, Shipment, received
from skearlyexit.training import MultiExitNetwork, Trainer
from skearlyexit.training._layerwise import handed_on
from skearlyexit.training._options import Execution, TrainingOptions
from skearlyexit.training._phase_run import PhaseRun
from skearlyexit.training._phases import Phase, StagewiseTraining
from skearlyexit.training._rows import to_device
from skearlyexit.training._state import State, put_state, state_of


@dataclass(frozen=True)
class TierJob:
    """What a worker is asked to train.

    Attributes
    ----------
    network : MultiExitNetwork
        Stages and heads of the tier. The worker trains a copy.
    training : StagewiseTraining
        Training strategy.
    costs : ndarray of shape (n_exits,)
        Cost of the backbone up to each exit of the tier.
    options, execution : TrainingOptions, Execution
        Options of the training.
    n_rows : int
        Number of training samples.
    seed : int
        First seed of the phases.
    compression : str or None
        Format in which embeddings are sent to the next tier.
    is_last : bool
        Whether there is no next tier.
    n_threads : int
        Number of threads of torch.
    """

    network: MultiExitNetwork
    training: StagewiseTraining
    costs: np.ndarray
    options: TrainingOptions
    execution: Execution
    n_rows: int
    seed: int
    compression: str | None
    is_last: bool
    n_threads: int


@dataclass(frozen=True)
class Epoch:
    """What a worker reports of an epoch.

    Attributes
    ----------
    entry : dict or None
        Entry of the history. None if there was nothing to train.
    has_ended : bool
        Whether all phases have ended.
    next_seed : int
        Seed of the phases that follow.
    n_sent : int
        Bytes of the embeddings and labels for the next tier.
    """

    entry: dict[str, Any] | None
    has_ended: bool
    next_seed: int
    n_sent: int


@dataclass(frozen=True)
class Checkpoint:
    """State of a worker after an epoch, from which another one can continue.

    Attributes
    ----------
    network : State
        Weights of the tier.
    n_ended : int
        Number of phases that have ended.
    run : bytes or None
        State of the phase that has not ended, with optimizer, random states and callbacks.
    """

    network: State
    n_ended: int
    run: bytes | None


class TierWorker:
    """Trains the stages and heads of one tier, epoch by epoch.

    Parameters
    ----------
    job : TierJob
        What is trained.
    samples : Shipment or None
        All samples, or their embeddings by the previous tier, as one batch. None if they arrive
        epoch by epoch.
    checkpoint : bytes or None, default=None
        Pickled `Checkpoint` of a worker with the same arguments, which this one continues.
    """

    def __init__(
        self, job: TierJob, samples: Shipment | None, checkpoint: bytes | None = None
    ) -> None:
        self.job, self.samples, self.checkpoint = job, samples, checkpoint
        self.run: PhaseRun | None = None
        self.n_ended = 0
        self.has_begun = False

    def epoch(self, arrived: Shipment | None = None) -> tuple[Epoch, Shipment | None, bytes]:
        """Train for an epoch.

        Parameters
        ----------
        arrived : Shipment or None
            Embeddings of the batches of this epoch. None if the worker has all samples.

        Returns
        -------
        epoch : Epoch
            Report.
        sent : Shipment or None
            Embeddings of the batches for the next tier. None if stages are trained in turn, or
            there is no next tier.
        checkpoint : bytes
            State after the epoch.
        """
        if not self.has_begun:  # not in __init__, so that errors are those of a call
            self._begin()
        entry, sent = None, None
        if self.run is not None:
            entry = {"phase": self.run.phase.name}
            if self.job.training.stages_in_turn:
                entry |= self.run.epoch(self.run.train_batches, self.run.validation_batches)
            else:
                trained, sent = self._epoch_with_next(self.run, arrived)
                entry |= trained
        checkpoint = self._next_checkpoint()
        n_sent = 0 if sent is None else sent.n_bytes
        report = Epoch(entry, self.run is None, self.seeds.n, n_sent)
        return report, sent, pickle.dumps(checkpoint)

    def embeddings(self) -> tuple[int, Shipment]:
        """Embeddings of all samples by the trained stages for the next tier, and their size."""
        if not self.has_begun:
            self._begin()
        through = handed_on(list(self.network.stages), self.trainer)
        sent = Shipment.of_rows(through.rows, through.validation, self.job.compression)
        return sent.n_bytes, sent

    def _begin(self) -> None:
        job = self.job
        if torch.get_num_threads() != job.n_threads:
            torch.set_num_threads(job.n_threads)
        self.network = copy.deepcopy(job.network)
        rows: Any = _Expected(job.n_rows)
        validation = None
        if self.samples is not None:
            rows, validation = self.samples.rows()
        self.seeds = _Seeds(job.seed)
        self.trainer = Trainer(rows, validation, job.options, job.execution, seeds=self.seeds)
        self.phases = job.training.phases(self.network, job.costs, self.trainer)
        stored: Checkpoint | None = pickle.loads(self.checkpoint) if self.checkpoint else None
        if stored is not None:
            put_state(self.network, stored.network)
            for _ in range(stored.n_ended):
                next(self._trained_phases())
                next(self.seeds)
            self.n_ended = stored.n_ended
        self.run = self._next_run()
        if stored is not None and stored.run is not None:
            assert self.run is not None
            self.run.restore(stored.run)
        if self.run is None and not job.training.stages_in_turn:
            raise ValueError(
                f"A tier of {job.network.n_exits} exits has no weights to train. Give an "
                "'assignment' in which it also has the exits of a neighbor."
            )
        self.has_begun = True

    def _trained_phases(self) -> Iterator[Phase]:
        return (phase for phase in self.phases if phase.view.trainable())

    def _next_run(self) -> PhaseRun | None:
        phase = next(self._trained_phases(), None)
        return None if phase is None else PhaseRun(phase)

    def _next_checkpoint(self) -> Checkpoint:
        """State after an epoch; the next phase begins if one has ended."""
        state = state_of(self.network, "cpu")
        if self.run is None:
            return Checkpoint(state, self.n_ended, None)
        if not self.run.has_ended:
            return Checkpoint(state, self.n_ended, self.run.checkpoint())
        self.n_ended += 1
        self.run = self._next_run()
        return Checkpoint(state, self.n_ended, None)

    def _epoch_with_next(
        self, run: PhaseRun, arrived: Shipment | None
    ) -> tuple[dict[str, Any], Shipment | None]:
        """Train for an epoch, and keep the embeddings of its batches for the next tier."""
        train, validation = run.train_batches, run.validation_batches
        if arrived is not None:
            train = received(arrived.train)
            validation = None if arrived.validation is None else received(arrived.validation)
        if self.job.is_last:
            return run.epoch(train, validation), None
        with _passing(self.network.stages[-1]) as passed:
            entry = run.epoch(
                passed.watch(train, training=True),
                None if validation is None else passed.watch(validation, training=False),
            )
        kept = passed.batches[False] if validation is not None else None
        return entry, Shipment.of(passed.batches[True], kept, self.job.compression)


class _Seeds:
    """Seeds that are counted, of which the next one can be read."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __iter__(self) -> _Seeds:
        return self

    def __next__(self) -> int:
        self.n += 1
        return self.n - 1


@dataclass(frozen=True)
class _Expected:
    """Samples whose embeddings arrive epoch by epoch."""

    n_rows: int
    n_unlabeled: int = 0

    def __len__(self) -> int:
        return self.n_rows


class _Passed:
    """What a stage passes on of batches, in training (True) and in validation (False)."""

    def __init__(self) -> None:
        self.batches: dict[bool, list[Batch]] = {True: [], False: []}
        self._now = self.batches[True]

    def watch(self, batches: Iterable[Batch], *, training: bool) -> Iterator[Batch]:
        """Iterate over the batches that are given to the stage."""
        self._now = self.batches[training]
        for inputs, columns in batches:
            self._now.append((None, columns))
            yield inputs, columns

    def note(self, module: Any, inputs: Any, outputs: tuple[Any, Any]) -> None:
        """Forward hook of the stage, which may be called more than once for a batch."""
        carry, columns = outputs[0], self._now[-1][1]
        parts = carry if isinstance(carry, tuple) else (carry,)
        parts = tuple(part.detach() for part in parts)
        self._now[-1] = (to_device(parts if isinstance(carry, tuple) else parts[0], "cpu"), columns)


@contextmanager
def _passing(stage: torch.nn.Module) -> Iterator[_Passed]:
    """Context in which is kept what a stage passes on."""
    passed = _Passed()
    hook = stage.register_forward_hook(passed.note)
    try:
        yield passed
    finally:
        hook.remove()

"""A worker that trains the stages of one tier, on embeddings of the tier before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from skearlyexit.distributed._shipment import Batch, Shipment, received
from skearlyexit.distributed._worker import Job, PhasedWorker
from skearlyexit.training._layerwise import handed_on
from skearlyexit.training._phase_run import PhaseRun
from skearlyexit.training._phases import StagewiseTraining
from skearlyexit.training._rows import to_device


@dataclass(frozen=True)
class TierJob(Job):
    """What the worker of a tier is asked to train.

    Attributes
    ----------
    training : StagewiseTraining
        Training strategy.
    n_rows : int
        Number of training samples.
    compression : str or None
        Format in which embeddings are sent to the next tier.
    is_last : bool
        Whether there is no next tier.
    """

    training: StagewiseTraining
    n_rows: int
    compression: str | None
    is_last: bool


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


class TierWorker(PhasedWorker):
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

    job: TierJob

    def __init__(
        self, job: TierJob, samples: Shipment | None, checkpoint: bytes | None = None
    ) -> None:
        super().__init__(job, checkpoint)
        self.samples = samples

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
        self._begin_on_samples()
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
        return report, sent, checkpoint

    def embeddings(self) -> tuple[int, Shipment]:
        """Embeddings of all samples by the trained stages for the next tier, and their size."""
        self._begin_on_samples()
        through = handed_on(list(self.network.stages), self.trainer)
        sent = Shipment.of_rows(through.rows, through.validation, self.job.compression)
        return sent.n_bytes, sent

    def _begin_on_samples(self) -> None:
        if self.has_begun:
            return
        rows: Any = _Expected(self.job.n_rows)
        validation = None
        if self.samples is not None:
            rows, validation = self.samples.rows()
        self._begin(rows, validation)
        if self.run is None and not self.job.training.stages_in_turn:
            raise ValueError(
                f"A tier of {self.job.network.n_exits} exits has no weights to train. Give an "
                "'assignment' in which it also has the exits of a neighbor."
            )

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


@dataclass(frozen=True)
class _Expected:
    """Samples whose embeddings arrive epoch by epoch."""

    n_rows: int
    n_unlabeled: int = 0
    n_batches: int | None = None

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

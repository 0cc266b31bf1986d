"""Workers in a line, each of which passes embeddings on to the next one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from skorch.callbacks import EarlyStopping
from skorch.history import History
from skorch.utils import noop

from skearlyexit.distributed._backend import Backend, WorkerLostError
from skearlyexit.distributed._tier_worker import Epoch, TierJob, TierWorker
from skearlyexit.distributed._worker import weights_in
from skearlyexit.training._interrupts import is_early_stop
from skearlyexit.training._progress import FitProgress
from skearlyexit.training._state import State


@dataclass
class Member:
    """A worker, and how to replace it.

    Attributes
    ----------
    backend : Backend
        Where it runs.
    index : int
        Number of the worker.
    options : dict
        Its options of Ray.
    job : TierJob
        What it trains.
    max_restarts : int
        Number of times that it is replaced at most.
    samples : object, default=None
        Reference to all samples, or to their embeddings. None if they arrive epoch by epoch.
    n_samples_bytes : int, default=0
        Size of these.
    entries : list of dict
        Entries of the history so far.
    checkpoint : bytes or None
        Last checkpoint.
    n_restarts : int
        Number of times that it was replaced.
    """

    backend: Backend
    index: int
    options: Mapping[str, Any]
    job: TierJob
    max_restarts: int
    samples: Any = None
    n_samples_bytes: int = 0
    entries: list[dict[str, Any]] = field(default_factory=list)
    checkpoint: bytes | None = None
    n_restarts: int = 0
    _n_received: int = 0

    def start(self) -> None:
        """Start the worker, from its last checkpoint if it was lost."""
        arguments = (self.job, self.samples, self.checkpoint)
        self.worker = self.backend.start(self.options, TierWorker, *arguments)
        self._n_received += self.n_samples_bytes

    def replace_lost(self, error: WorkerLostError) -> None:
        """Start another worker in place of one that was lost."""
        if self.n_restarts == self.max_restarts:
            raise RuntimeError(
                f"The process of worker {self.index} ended for the {self.n_restarts + 1}th time, "
                f"after {len(self.entries)} epochs. Look for the reason, such as too little "
                f"memory, or give a larger 'max_restarts' than {self.max_restarts}. Ray says: "
                f"{error}"
            ) from error
        self.n_restarts += 1
        self.start()
        self.backend.await_started()

    def call_epoch(self, arrived: Any = None, n_bytes: int = 0) -> list[Any]:
        """Begin an epoch; references to its report, embeddings for the next tier, checkpoint."""
        self._n_received += n_bytes
        return self.backend.call(self.worker, "epoch", 3, arrived)

    def note(self, report: Epoch, checkpoint: bytes) -> None:
        """Keep the results of an epoch."""
        self.checkpoint = checkpoint
        if report.entry is not None:
            self.entries.append(
                report.entry
                | {
                    "worker": self.index,
                    "bytes_received": self._n_received,
                    "bytes_sent": report.n_sent,
                    "checkpoint_bytes": len(checkpoint),
                    "restarts": self.n_restarts - sum(each["restarts"] for each in self.entries),
                }
            )
            self._n_received = 0


def train_in_turn(member: Member, shown: FitProgress) -> Epoch:
    """Train one tier from its first to its last epoch.

    Returns
    -------
    report : Epoch
        Report of the last epoch.
    """
    member.start()
    member.backend.await_started()
    while True:
        references = member.call_epoch()
        try:
            report: Epoch = member.backend.get(references[0])
        except WorkerLostError as error:
            member.replace_lost(error)
            continue
        member.note(report, member.backend.get(references[2]))
        shown.epoch()
        if report.has_ended:
            return report


def hand_on(member: Member) -> tuple[int, Any]:
    """Size of the embeddings of all samples by a trained tier, and a reference to them."""
    while True:
        references = member.backend.call(member.worker, "embeddings", 2)
        try:
            n_bytes = member.backend.get(references[0])
        except WorkerLostError as error:
            member.replace_lost(error)
            continue
        member.entries[-1]["bytes_sent"] += n_bytes
        # The next worker may need its GPU.
        member.backend.stop(member.worker)
        return n_bytes, references[1]


class Pipeline:
    """Workers that train at the same time, each on epochs of embeddings as they arrive.

    The first worker has the samples. Each of the others trains an epoch on the embeddings that the
    previous one computed during this epoch, while that one goes on with the next. How long each
    takes has no influence on the result.

    Parameters
    ----------
    members : sequence of Member
        Workers.
    n_epochs : int
        Maximum number of epochs.
    patience : int or None
        Number of epochs without a lower sum of the validation losses after which the training ends.
    max_buffered : int
        Number of epochs of embeddings that wait for a worker at most.
    """

    def __init__(
        self, members: Sequence[Member], n_epochs: int, patience: int | None, max_buffered: int
    ) -> None:
        self.members, self.n_epochs, self.max_buffered = members, n_epochs, max_buffered
        self.backend = members[0].backend
        #: References to the embeddings that wait for each worker, or are in use, and their sizes.
        self.arrived: list[dict[int, tuple[Any, int]]] = [{} for _ in members]
        self.arrived[0] = dict.fromkeys(range(n_epochs), (None, 0))
        self.n_done = [0] * len(members)
        self.running: dict[int, list[Any]] = {}
        #: Checkpoints of epochs that may be the best, or that not all workers have ended.
        self.checkpoints: list[dict[int, bytes]] = [{} for _ in members]
        self.judge = None if patience is None else _Judge(patience)

    def train(self, shown: FitProgress) -> list[State]:
        """Train all tiers.

        Returns
        -------
        weights : list of State
            Weights of each tier after the last epoch, or after the best one with early stopping.
        """
        for member in self.members:
            member.start()
        self.backend.await_started()
        n_judged, has_stopped = 0, False
        while not has_stopped and n_judged < self.n_epochs:
            # A worker that begins makes room for the embeddings of the one before it.
            for k in reversed(range(len(self.members))):
                if self._can_begin(k):
                    self.running[k] = self.members[k].call_epoch(*self.arrived[k][self.n_done[k]])
            self._end_one(self.backend.any_ready(self.running))
            while not has_stopped and n_judged < min(self.n_done):
                has_stopped = self._judged(n_judged)
                n_judged += 1
                shown.epoch()
        best = n_judged - 1 if self.judge is None else self.judge.best
        for member in self.members:
            del member.entries[n_judged:]
        return [weights_in(kept[best]) for kept in self.checkpoints]

    def _can_begin(self, k: int) -> bool:
        """Whether a worker can begin with its next epoch."""
        if k in self.running or self.n_done[k] not in self.arrived[k]:
            return False
        if k + 1 == len(self.members):
            return True
        in_use = int(k + 1 in self.running)
        return len(self.arrived[k + 1]) - in_use < self.max_buffered

    def _end_one(self, k: int) -> None:
        """Take the results of a worker, or replace it if it was lost."""
        member, (report, sent, checkpoint) = self.members[k], self.running.pop(k)
        try:
            report = self.backend.get(report)
        except WorkerLostError as error:
            member.replace_lost(error)
            return
        epoch = self.n_done[k]
        if report.has_ended and epoch + 1 < self.n_epochs:
            raise ValueError(
                f"One of the 'callbacks' ended the training of worker {k} after {epoch + 1} "
                "epochs. With local errors all workers train equally long. Give "
                "early_stopping=True in its place, by which all of them stop together, or "
                "layer-wise training."
            )
        stored = self.backend.get(checkpoint)
        member.note(report, stored)
        self.checkpoints[k][epoch] = stored
        del self.arrived[k][epoch]
        if k + 1 < len(self.members):
            self.arrived[k + 1][epoch] = sent, report.n_sent
        self.n_done[k] += 1

    def _judged(self, epoch: int) -> bool:
        """Whether the training ends after an epoch that all workers have ended."""
        best, has_stopped = epoch, False
        if self.judge is not None:
            losses = [member.entries[epoch]["valid_loss"] for member in self.members]
            has_stopped = self.judge.stops(sum(losses))
            best = self.judge.best
        for kept in self.checkpoints:
            for each in [each for each in kept if each <= epoch and each != best]:
                del kept[each]
        return has_stopped


class _Judge:
    """Early stopping by a loss to which several workers contribute, with the rule of skorch."""

    def __init__(self, patience: int) -> None:
        self.rule = EarlyStopping(patience=patience, sink=noop)
        #: What the rule reads of a net.
        self.net = SimpleNamespace(history=History(), verbose=0)
        self.rule.on_train_begin(self.net)

    def stops(self, loss: float) -> bool:
        """Whether the training ends after an epoch with this validation loss."""
        history = self.net.history
        history.new_epoch()
        history.record("epoch", len(history))
        history.record("valid_loss", loss)
        try:
            self.rule.on_epoch_end(self.net)
        except KeyboardInterrupt as interrupt:
            if not is_early_stop(interrupt):
                raise
            return True
        return False

    @property
    def best(self) -> int:
        """Index of the epoch with the lowest loss; the last one if no loss is a number."""
        return (self.rule.best_epoch_ or len(self.net.history)) - 1

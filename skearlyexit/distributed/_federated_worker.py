"""A worker that has samples of its own, which it does not send."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from os import PathLike, fspath
from typing import Any

import numpy as np
import torch

from skearlyexit.distributed._meeting import Averages, Exchange
from skearlyexit.distributed._normalization import synchronize
from skearlyexit.distributed._shipment import Shipment
from skearlyexit.distributed._worker import Job, PhasedWorker
from skearlyexit.training._rows import TrainingRows

#: Function that returns samples and classes, or the path of a file of `numpy.savez` with X and y.
Source = Callable[[], tuple[Any, Any]] | str | PathLike[str]


@dataclass(frozen=True)
class SourceForm:
    """What the samples of a source must be.

    Attributes
    ----------
    shape : tuple of int
        Shape of a sample.
    dtype : torch.dtype
        Precision of the samples, to which they are converted.
    n_classes : int
        Number of classes.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    n_classes: int


@dataclass(frozen=True)
class FederatedJob(Job):
    """What a worker with samples of its own is asked to train.

    Attributes
    ----------
    worker : int
        Number of the worker.
    local_steps : float or None
        As in `Exchange`.
    has_validation : bool
        Whether any worker has validation samples.
    form : SourceForm or None
        Form of the samples of sources. None if there are no sources.
    """

    worker: int
    local_steps: float | None
    has_validation: bool
    form: SourceForm | None


class FederatedWorker(PhasedWorker):
    """Trains the network on samples of its own, together with other workers.

    Parameters
    ----------
    job : FederatedJob
        What is trained.
    samples : Shipment or None
        Samples of `fit`. None if the worker has a source.
    source : Source or None
        Source of its samples.
    averages : Averages
        What averages gradients or weights.
    checkpoint : bytes or None, default=None
        Checkpoint of a worker with the same job, which this one continues.
    """

    job: FederatedJob

    def __init__(
        self,
        job: FederatedJob,
        samples: Shipment | None,
        source: Source | None,
        averages: Averages,
        checkpoint: bytes | None = None,
    ) -> None:
        super().__init__(job, checkpoint)
        self.samples, self.source, self.averages = samples, source, averages
        self.stream = job.worker

    def count(self) -> int:
        """Read the samples, and return the number of those for training."""
        job, validation = self.job, None
        if self.samples is not None:
            self.rows, validation = self.samples.rows()
        else:
            assert self.source is not None
            assert job.form is not None
            self.rows = rows_of_source(self.source, job.form, f"The source of worker {job.worker}")
        self.validation = validation
        self.exchange = Exchange(
            self.averages,
            job.worker,
            len(self.rows),
            0 if validation is None else len(validation),
            local_steps=job.local_steps,
            has_validation=job.has_validation,
        )
        return len(self.rows)

    def epoch(self, n_steps: int) -> tuple[tuple[dict[str, Any] | None, int, bool, int], bytes]:
        """Train for an epoch of a number of steps, after `count`.

        Returns
        -------
        report : tuple
            Entry of the history, or None if there is nothing to train; the number of phases that
            have ended; whether all have; and the number of bytes that were sent, and as many
            received.
        checkpoint : bytes
            State after the epoch.
        """
        if not self.has_begun:
            rows = replace(self.rows, n_batches=n_steps)
            self._begin(rows, self.validation, self.exchange)
            if self.job.local_steps is None:
                synchronize(
                    self.network,
                    self.exchange.mean,
                    self.averages.n_workers,
                    lambda: self.exchange.n_batch,
                )
        entry = None
        self.exchange.n_bytes = 0
        if self.run is not None:
            entry = {"phase": self.run.phase.name}
            entry |= self.run.epoch(self.run.train_batches, self.run.validation_batches)
        checkpoint = self._next_checkpoint()
        return (entry, self.n_ended, self.run is None, self.exchange.n_bytes), checkpoint


def rows_of_source(source: Source, form: SourceForm, name: str) -> TrainingRows:
    """Samples of a source.

    Parameters
    ----------
    source : Source
        Function or path.
    form : SourceForm
        What the samples must be.
    name : str
        Beginning of errors.

    Raises
    ------
    ValueError
        If the samples have another form.
    """
    if callable(source):
        given = source()
    else:
        with np.load(fspath(source)) as file:
            given = file["X"], file["y"]
    X, y = (np.asarray(each) for each in given)
    if X.shape[1:] != form.shape or not len(X) or not np.isfinite(X).all():
        raise ValueError(
            f"{name} must return finite samples X of shape (n_samples, "
            f"{', '.join(map(str, form.shape))}), as fit passes them to the network. Got shape "
            f"{X.shape}, {'with' if X.dtype.kind == 'f' else 'or with'} values of {X.dtype}."
        )
    in_range = y.dtype.kind in "iu" and y.shape == (len(X),)
    if not in_range or y.min() < 0 or y.max() >= form.n_classes:
        raise ValueError(
            f"{name} must return classes y as their indices in 'classes_', integers from 0 to "
            f"{form.n_classes - 1}, of shape ({len(X)},). Got {y.dtype} of shape {y.shape}"
            + (f" from {y.min()} to {y.max()}." if in_range else ".")
        )
    return TrainingRows(torch.tensor(X, dtype=form.dtype), torch.tensor(y, dtype=torch.int64))

"""Training on samples that stay with several workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import inf
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit._data._streamed import StreamedRows
from skearlyexit._utils._resolve import resolve
from skearlyexit.distributed._backend import WorkerLostError
from skearlyexit.distributed._federated_worker import (
    FederatedJob,
    FederatedWorker,
    Source,
    SourceForm,
)
from skearlyexit.distributed._meeting import Meeting, weighted_means
from skearlyexit.distributed._options import WorkersTraining, check_no_memory, options_of_workers
from skearlyexit.distributed._ray_backend import RayBackend
from skearlyexit.distributed._shipment import Shipment
from skearlyexit.distributed._worker import weights_in
from skearlyexit.training import (
    DistillationTraining,
    JointTraining,
    LayerwiseTraining,
    LocalErrorTraining,
    MultiExitNetwork,
    Trainer,
)
from skearlyexit.training._phases import PhasedTraining
from skearlyexit.training._progress import FitProgress
from skearlyexit.training._rows import TrainingRows, n_batches, take
from skearlyexit.training._state import State, put_state

_ABLE: dict[str, type] = {
    "distillation": DistillationTraining,
    "joint": JointTraining,
    "layerwise": LayerwiseTraining,
    "local_error": LocalErrorTraining,
}


class FederatedTraining(WorkersTraining):
    """Training by several workers with samples of their own, which average what they learn.

    Each worker trains the entire network on its samples. Gradients or weights are averaged,
    weighted by the number of samples. The result is an ordinary fitted estimator. Workers are
    actors of Ray, in processes of their own, possibly on other machines. Without ``ray.init``, a
    cluster that runs on this machine is joined, or one is started. It stays until
    ``ray.shutdown()`` or the end of this process.

    Parameters
    ----------
    training : {"distillation", "joint", "layerwise", "local_error"} or strategy of these, \
            default="distillation"
        Training of the network.
    workers : int or sequence of callable or path, default=2
        Number of workers, among which the training samples of `fit` are divided at random. Or the
        sources of the samples of further workers, which these read themselves: the samples of `fit`
        are then those of the first worker. A source is a function without arguments that returns
        ``(X, y)``, or the path of a file of ``numpy.savez`` with the arrays ``X`` and ``y`` on the
        machine of its worker. ``X`` has the form in which samples reach the network, to which `fit`
        converts its own: a numeric array with the same columns in the same order, without
        categories as text. ``y`` contains indices in ``classes_``.
    average : {"gradients", "weights"}, default="gradients"
        What is averaged:

        - ``"gradients"``: the gradients of each step, so that all workers make the same steps.
        - ``"weights"``: the weights, after each worker made some steps by itself (federated
          averaging).
    local_steps : int, default=None
        Number of steps after which weights are averaged. They are also averaged at the end of each
        epoch; with None, only then. Only used if `average` is ``"weights"``.
    max_restarts : int, default=2
        Maximum number of times that training resumes from the last completed epoch after a worker
        was lost.
    worker_options : sequence of dict, default=None
        Options of the Ray actor of each worker, such as ``{"resources": {"hospital": 1}}``, by
        which Ray chooses the machine, or ``{"num_gpus": 1}``, without which it has no GPU. `fit`
        waits until Ray has the resources of all workers at the same time.
    start_timeout : float, default=120.0
        Seconds in which all workers must have started. They include the wait for resources and the
        time in which samples are sent.

    Raises
    ------
    ImportError
        If Ray is not installed.
    RuntimeError
        If workers are lost more often than `max_restarts`, or do not start in time.

    See Also
    --------
    training_report : Bytes, seconds and restarts of each worker.

    Notes
    -----
    All workers make as many steps in an epoch as one would with all samples, on batches that are
    smaller in proportion to their samples. With averaged gradients, a step is that of one machine
    with the union of these batches, up to the rounding of sums; layers of torch for batch
    normalization use the statistics of this union. This does not hold for losses that are not means
    over samples (``weights="reach"`` or ``"adaptive"``, similarities). Dropout and the order of
    samples are random in each worker by itself. A backbone that learns from the samples before the
    training, such as the standardization of `MLPBackbone`, learns from those of `fit` only. With
    averaged weights, batch normalization uses the statistics of the worker, whose running means are
    averaged, and each worker keeps its own state of the optimizer and, with `weight_averaging`, its
    own running mean of the weights; these means are averaged in the end.

    Samples are sent only to the workers among which those of `fit` are divided. Otherwise, the
    workers send weights or gradients, their number of samples, statistics of batch normalization
    and the losses of each epoch, and, to the process that calls `fit`, checkpoints. That nothing
    about a sample can be concluded from these is not guaranteed. Validation samples for early
    stopping and calibration samples are taken from the samples of `fit`. The losses in
    ``history_``, by which `callbacks` may stop the training, are means over all workers.

    Samples without labels, `memory`, `compile` and, with sources, sample weights, regression and
    samples that are read lazily are not supported.

    References
    ----------
    McMahan, Moore, Ramage, Hampson, Aguera y Arcas, "Communication-efficient learning of deep
    networks from decentralized data", AISTATS 2017.

    Examples
    --------
    >>> from skearlyexit import EarlyExitClassifier
    >>> from skearlyexit.distributed import FederatedTraining
    >>> training = FederatedTraining("joint", workers=3, average="weights", local_steps=10)
    >>> clf = EarlyExitClassifier(training=training)  # fit starts three processes of Ray
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "training": [StrOptions(set(_ABLE)), PhasedTraining],
        "workers": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "average": [StrOptions({"gradients", "weights"})],
        "local_steps": [Interval(Integral, 1, None, closed="left"), None],
        "max_restarts": [Interval(Integral, 0, None, closed="left")],
        "worker_options": ["array-like", None],
        "start_timeout": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        training: str | PhasedTraining = "distillation",
        *,
        workers: int | Sequence[Source] = 2,
        average: str = "gradients",
        local_steps: int | None = None,
        max_restarts: int = 2,
        worker_options: Sequence[Mapping[str, Any]] | None = None,
        start_timeout: float = 120.0,
    ) -> None:
        self.training = training
        self.workers = workers
        self.average = average
        self.local_steps = local_steps
        self.max_restarts = max_restarts
        self.worker_options = worker_options
        self.start_timeout = start_timeout

    def train(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        check_no_memory(trainer, self)
        if trainer.execution.compiled is not False:
            raise ValueError(
                "FederatedTraining does not support compiled networks, since workers wait for one "
                "another in each step. Give the estimator compile=False."
            )
        sources: list[Source] = []
        seed = next(trainer.seeds)
        parts: list[TrainingRows | None]
        if isinstance(self.workers, Integral):
            parts = list(_divided(trainer.rows, int(self.workers), seed))
        else:
            assert not isinstance(self.workers, int)
            sources = list(self.workers)
            _check_sources(sources)
            parts = [trainer.rows, *[None] * len(sources)]
        job = self._job(network, costs, trainer, seed, _form(network, trainer) if sources else None)
        options = options_of_workers(self.worker_options, len(parts))
        with RayBackend(self.start_timeout) as backend:
            group = Group(
                backend,
                [replace(job, worker=k) for k in range(len(parts))],
                [
                    None
                    if rows is None
                    else Shipment.of_rows(rows, trainer.validation if k == 0 else None)
                    for k, rows in enumerate(parts)
                ],
                [None] * (len(parts) - len(sources)) + sources,
                options,
                self.max_restarts,
            )
            state = group.train(trainer.execution.progress)
        put_state(network, state)
        trainer.history.extend(group.entries)

    def _resolved(self) -> PhasedTraining:
        training: PhasedTraining = resolve(self.training, _ABLE, "distillation")
        return training

    def _job(
        self,
        network: MultiExitNetwork,
        costs: np.ndarray,
        trainer: Trainer,
        seed: int,
        form: SourceForm | None,
    ) -> FederatedJob:
        """What the first worker trains."""
        local_steps = None
        if self.average == "weights":
            local_steps = inf if self.local_steps is None else self.local_steps
        return FederatedJob(
            network,
            self._resolved(),
            costs,
            replace(trainer.options, max_epochs=trainer._n_epochs(1.0)),
            # The progress of all workers is shown by this process.
            replace(trainer.execution, progress=FitProgress()),
            seed,
            torch.get_num_threads(),
            worker=0,
            local_steps=local_steps,
            has_validation=trainer.validation is not None,
            form=form,
        )


@dataclass
class Group:
    """Workers that train together.

    Attributes
    ----------
    backend : RayBackend
        Where they run.
    jobs, samples, sources, options : list
        Job, samples or None, source or None, and options of Ray of each worker.
    max_restarts : int
        Maximum number of times that training resumes from the last completed epoch.
    entries : list of dict
        Entries of the history so far.
    """

    backend: RayBackend
    jobs: list[FederatedJob]
    samples: list[Shipment | None]
    sources: list[Source | None]
    options: Sequence[Mapping[str, Any]]
    max_restarts: int
    entries: list[dict[str, Any]] = field(default_factory=list)

    def train(self, shown: FitProgress) -> State:
        """Train to the end; the weights, with the mean of what differs between the workers."""
        self.checkpoints: list[bytes | None] = [None] * len(self.jobs)
        self.restarts = [0] * len(self.jobs)
        shown.phase(
            f"{len(self.jobs)} workers", f"at most {self.jobs[0].options.max_epochs} epochs"
        )
        has_started = False
        while True:
            try:
                if not has_started:
                    self._start()
                    has_started = True
                ended = self._epoch()
            except _Lost as lost:
                self._end_without(lost)
                has_started = False
                continue
            shown.epoch()
            if ended:
                states = [weights_in(each) for each in self.checkpoints if each is not None]
                return _merged(states, self.n_rows)

    def _start(self) -> None:
        """Start all workers, from their last checkpoints, and count the samples."""
        n_workers = len(self.jobs)
        self.received = [0 if each is None else each.n_bytes for each in self.samples]
        averages = self.backend.start_meeting(Meeting, n_workers)
        self.workers = [
            self.backend.start(
                self.options[k],
                FederatedWorker,
                self.jobs[k],
                self.samples[k],
                self.sources[k],
                averages,
                self.checkpoints[k],
            )
            for k in range(n_workers)
        ]
        self.backend.await_started()
        self.n_rows = [counted for (counted,) in self._of_all("count", 1)]
        self.n_steps = n_batches(sum(self.n_rows), self.jobs[0].options.batch_size)
        least = min(self.n_rows)
        if least < 2 <= n_workers:
            raise ValueError(
                "Each worker needs at least 2 training samples. Got one with a single sample. "
                "Give fewer workers, or more samples."
            )
        if least < self.n_steps:
            raise ValueError(
                f"With {sum(self.n_rows)} samples, an epoch has {self.n_steps} steps, in each of "
                f"which every worker needs samples. Got one with {least} samples. Give a larger "
                "batch_size, or fewer workers."
            )

    def _of_all(self, method: str, n_results: int, *args: Any) -> list[list[Any]]:
        """Results of a method of all workers."""
        calls = {
            k: self.backend.call(worker, method, n_results, *args)
            for k, worker in enumerate(self.workers)
        }
        results: dict[int, list[Any]] = {}
        while calls:
            # Not in order, since a worker may wait for one that is lost.
            k = self.backend.any_ready(calls)
            try:
                results[k] = [self.backend.get(each) for each in calls.pop(k)]
            except WorkerLostError as error:
                raise _Lost(k) from error
        return [results[k] for k in sorted(results)]

    def _epoch(self) -> bool:
        """Train for an epoch; whether the training has ended."""
        results = self._of_all("epoch", 2, self.n_steps)
        if len({n_ended for (_, n_ended, _, _), _ in results}) > 1:
            raise ValueError(
                "One of the 'callbacks' ended the training in some workers, but not in all, which "
                "wait for one another. Give callbacks that end it by what is the same in all "
                "workers, such as the training loss, or early_stopping=True."
            )
        for k, ((entry, _, _, n_bytes), checkpoint) in enumerate(results):
            self.checkpoints[k] = checkpoint
            if entry is not None:
                self.entries.append(
                    entry
                    | {
                        "worker": k,
                        "bytes_received": self.received[k] + n_bytes,
                        "bytes_sent": n_bytes,
                        "checkpoint_bytes": len(checkpoint),
                        "restarts": self.restarts[k],
                    }
                )
            self.received[k] = self.restarts[k] = 0
        return all(has_ended for (_, _, has_ended, _), _ in results)

    def _end_without(self, lost: _Lost) -> None:
        """End all workers, since those that are left wait for one that is lost."""
        self.max_restarts -= 1
        if self.max_restarts < 0:
            raise RuntimeError(
                f"The process of worker {lost.worker} ended, and none may be replaced any more. "
                "Look for the reason, such as too little memory, or give a larger 'max_restarts'. "
                f"Ray says: {lost.__cause__}"
            ) from lost.__cause__
        self.restarts[lost.worker] += 1
        self.backend.close()


class _Lost(Exception):  # noqa: N818
    """A worker was lost."""

    def __init__(self, worker: int) -> None:
        self.worker = worker


def _merged(states: Sequence[State], n_rows: Sequence[int]) -> State:
    """State with the weighted mean of floating-point numbers, and the first of anything else."""
    first = states[0]
    names = [name for name, each in first.tensors.items() if each.is_floating_point()]
    columns = [[state.tensors[name] for name in names] for state in states]
    means = weighted_means(list(zip(n_rows, columns, strict=True)))
    return State({**first.tensors, **dict(zip(names, means, strict=True))}, first.extra)


def _divided(rows: TrainingRows, n_workers: int, seed: int) -> Iterator[TrainingRows]:
    """Samples, divided at random into parts whose sizes differ by at most one."""
    generator = torch.Generator().manual_seed(seed % 2**32)
    order = torch.randperm(len(rows), generator=generator)
    for start, stop in pairwise(len(rows) * k // n_workers for k in range(n_workers + 1)):
        chosen = order[start:stop]
        weight = None if rows.weight is None else rows.weight[chosen]
        yield TrainingRows(take(rows.X, chosen), rows.y[chosen], weight)


def _check_sources(sources: Sequence[Any]) -> None:
    for k, source in enumerate(sources):
        if not callable(source) and not isinstance(source, str | PathLike):
            raise TypeError(
                f"Each of the 'workers' must be a function or a path. Got {source!r} at {k}."
            )


def _form(network: MultiExitNetwork, trainer: Trainer) -> SourceForm:
    """Form of the samples of sources, which is that of the samples of `fit`."""
    rows, n_classes = trainer.rows, network.n_classes
    if rows.y.is_floating_point() or rows.weight is not None or isinstance(rows.X, StreamedRows):
        raise ValueError(
            "FederatedTraining with sources of samples is for classification, without sample "
            "weights, class_weight or samples that are read lazily. Give a number of workers, "
            "among which the samples of fit are divided."
        )
    assert isinstance(rows.X, torch.Tensor)
    assert n_classes is not None
    return SourceForm(tuple(rows.X.shape[1:]), rows.X.dtype, n_classes)

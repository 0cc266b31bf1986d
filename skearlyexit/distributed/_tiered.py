"""Training of a network whose stages are on several machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit._utils._resolve import resolve
from skearlyexit.distributed._backend import Backend, SequentialBackend
from skearlyexit.distributed._options import WorkersTraining, check_no_memory, options_of_workers
from skearlyexit.distributed._ray_backend import RayBackend
from skearlyexit.distributed._shipment import Shipment
from skearlyexit.distributed._tier_line import (
    Member,
    Pipeline,
    hand_on,
    train_in_turn,
)
from skearlyexit.distributed._tier_worker import TierJob
from skearlyexit.distributed._worker import weights_in
from skearlyexit.tiers._compression import FORMATS
from skearlyexit.training import (
    LayerwiseTraining,
    LocalErrorTraining,
    MultiExitNetwork,
    Trainer,
)
from skearlyexit.training._layerwise import check_apart
from skearlyexit.training._phases import StagewiseTraining
from skearlyexit.training._progress import FitProgress
from skearlyexit.training._rows import n_batches
from skearlyexit.training._state import put_state

_ABLE: dict[str, type] = {"layerwise": LayerwiseTraining, "local_error": LocalErrorTraining}

_WITHOUT_RAY = ", or give backend='sequential', which trains the same model in this process"


class TieredTraining(WorkersTraining):
    """Training of each tier by a worker of its own, which is sent embeddings only.

    A tier is a number of consecutive stages with their heads, such as those on one machine. Of the
    workers, only that of the tier has their weights during the training. The first tier is sent the
    samples. Later tiers are sent neither samples nor gradients, but the embeddings by the tier
    before, with the labels. The result is an ordinary fitted estimator.

    Parameters
    ----------
    training : {"layerwise", "local_error"}, LayerwiseTraining or LocalErrorTraining, \
            default="layerwise"
        Training of the stages, which propagates no gradient from a stage to the previous one.

        - Layer-wise: a tier is trained after the previous one, on the embeddings of all samples,
          which are sent once.
        - Local errors: all tiers are trained at the same time. The embeddings of the batches of
          each epoch are sent to the next tier, which trains on them while the previous tier goes on
          with the next epoch.
    assignment : sequence of int, default=None
        Tier of each exit, in ascending order from 0. None is one tier for each exit.
        `TierPlan.tier_of_exit` is such a sequence.
    compression : {"float16", "int8"} or None, default=None
        Format in which embeddings are sent, as in `TierPlan`. Samples are sent as they are.
    max_buffered : int, default=1
        With local errors, maximum number of epochs of embeddings that wait for a worker. Another
        one may be in use.
    max_restarts : int, default=2
        Number of times that a worker is replaced at most if its process ends.
    backend : {"ray", "sequential"}, default="ray"
        Where the workers run:

        - ``"ray"``: as actors of Ray, each in a process of its own. Without ``ray.init``, a cluster
          that runs on this machine is joined, or one is started. It stays until ``ray.shutdown()``
          or the end of this process.
        - ``"sequential"``: in this process, one after another. The model and the bytes are the
          same.
    worker_options : sequence of dict, default=None
        Options of the Ray actor of each worker, such as ``{"resources": {"edge": 1}}``, by which
        Ray chooses the machine, or ``{"num_gpus": 1}``, without which it has no GPU. With local
        errors, `fit` waits until Ray has the resources of all workers at the same time; layer-wise,
        those of one worker after another. Only used with Ray.
    start_timeout : float, default=120.0
        Seconds in which workers must have started. They include the wait for resources and the time
        in which samples or embeddings are sent. Only used with Ray.

    Raises
    ------
    ImportError
        If Ray is required and not installed.
    RuntimeError
        If the process of a worker ends more often than `max_restarts`, or does not start in time.

    See Also
    --------
    training_report : Bytes, seconds and restarts of each worker.
    skearlyexit.tiers.TierPlan : Latency and bytes of predictions on several machines.

    Notes
    -----
    Without compression, the weights are those of the same training in one process, at the same
    number of threads, to the last bit, however long each worker takes. There are exceptions.
    Layer-wise training with ``local_share=1`` trains the heads of a tier after its stages, rather
    than all heads in the end. With local errors, other random numbers are drawn for dropout and the
    projection of labels, `gradient_clipping` is by the norm of the gradients of a tier, and with
    several threads the last bits of the steps of Muon depend on the other tiers of one process.
    Early stopping considers the sum of the validation losses of all tiers, as in one process, and
    restores the weights of all of them after the best epoch. With local errors, `callbacks` that
    end the training of a tier, such as `skorch.callbacks.EarlyStopping`, raise an error.

    After every epoch, a worker sends a checkpoint with weights, optimizer, random states and
    callbacks to the process that calls `fit`. If the worker's process ends, another one continues
    from there, on the same embeddings, and the model is the same as without the loss. Embeddings
    that are on their way are on the machine that computed them: if all of it is lost, `fit` raises
    an error.

    Entries of ``history_`` also contain the worker, the bytes of embeddings and labels that it
    received since the previous entry, those of the checkpoint, and how often the worker was
    replaced since then. If the training stops early, epochs that a worker was ahead are left out.
    Each worker uses as many threads as the process that calls `fit`. Samples without labels and the
    parameter `memory` are not supported.

    References
    ----------
    Belilovsky, Eickenberg, Oyallon, "Decoupled greedy learning of CNNs", ICML 2020. Marquez, Hare,
    Niranjan, "Deep cascade learning", IEEE TNNLS 2018.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.distributed import TieredTraining, training_report
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=16, hidden=16), exits=["stem", "block1"],
    ...     training=TieredTraining(assignment=[0, 0, 1], backend="sequential"),
    ...     calibration=None, early_stopping=False, max_epochs=2, random_state=0).fit(X, y)
    >>> [(epoch["phase"], epoch["exits"]) for epoch in clf.history_[::2]]
    [('worker 0, stage 0', [0]), ('worker 0, stage 1', [1]), ('worker 1, stage 0', [2])]
    >>> training_report(clf).bytes_received  # 20 features, or 16 values of an embedding, and labels
    array([17600, 14400])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "training": [StrOptions(set(_ABLE)), StagewiseTraining],
        "assignment": ["array-like", None],
        "compression": [StrOptions(set(FORMATS)), None],
        "max_buffered": [Interval(Integral, 1, None, closed="left")],
        "max_restarts": [Interval(Integral, 0, None, closed="left")],
        "backend": [StrOptions({"ray", "sequential"})],
        "worker_options": ["array-like", None],
        "start_timeout": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        training: str | StagewiseTraining = "layerwise",
        *,
        assignment: Sequence[int] | None = None,
        compression: str | None = None,
        max_buffered: int = 1,
        max_restarts: int = 2,
        backend: str = "ray",
        worker_options: Sequence[Mapping[str, Any]] | None = None,
        start_timeout: float = 120.0,
    ) -> None:
        self.training = training
        self.assignment = assignment
        self.compression = compression
        self.max_buffered = max_buffered
        self.max_restarts = max_restarts
        self.backend = backend
        self.worker_options = worker_options
        self.start_timeout = start_timeout

    def train(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        training = self._resolved()
        check_apart(network)
        check_no_memory(trainer, self)
        bounds = _bounds(self.assignment, network.n_exits)
        options = options_of_workers(self.worker_options, len(bounds))
        with self._backend() as backend:
            jobs = self._jobs(training, network, costs, trainer, bounds)
            members = [
                Member(backend, k, options[k], job, self.max_restarts) for k, job in enumerate(jobs)
            ]
            samples = Shipment.of_rows(trainer.rows, trainer.validation)
            members[0].samples = backend.put(samples)
            members[0].n_samples_bytes = samples.n_bytes
            shown = trainer.execution.progress
            if training.stages_in_turn:
                weights = _in_turn(members, next(trainer.seeds), shown)
            else:
                weights = self._together(members, trainer, shown)
        for job, state, member, start in zip(jobs, weights, members, bounds, strict=True):
            put_state(job.network, state)
            trainer.history.extend(_of_network(entry, start[0]) for entry in member.entries)

    def _backend(self) -> Backend:
        if self.backend == "ray":
            return RayBackend(self.start_timeout, _WITHOUT_RAY)
        return SequentialBackend()

    def _resolved(self) -> StagewiseTraining:
        training: StagewiseTraining = resolve(self.training, _ABLE, "layerwise")
        return training

    def _jobs(
        self,
        training: StagewiseTraining,
        network: MultiExitNetwork,
        costs: np.ndarray,
        trainer: Trainer,
        bounds: Sequence[tuple[int, int]],
    ) -> list[TierJob]:
        """What the worker of each tier trains, whose exits have these bounds."""
        options = replace(trainer.options, max_epochs=trainer._n_epochs(1.0))
        if not training.stages_in_turn:
            options = replace(options, patience=None)  # all tiers stop together
        return [
            TierJob(
                _part(network, start, stop),
                training,
                costs[start:stop],
                options,
                # The progress of all workers is shown by this process.
                execution=replace(trainer.execution, progress=FitProgress()),
                n_rows=len(trainer.rows),
                seed=0,
                compression=self.compression,
                is_last=stop == network.n_exits,
                n_threads=torch.get_num_threads(),
            )
            for start, stop in bounds
        ]

    def _together(self, members: list[Member], trainer: Trainer, shown: FitProgress) -> list[Any]:
        """Weights of all tiers after a training in which all are trained at the same time."""
        seed, start = next(trainer.seeds), 0
        for member in members:
            # Random matrices of error="feedback" are those of one process.
            member.job = replace(member.job, seed=seed + start)
            start += member.job.network.n_exits
        options, n_epochs = trainer.options, members[0].job.options.max_epochs
        n_steps = n_batches(len(trainer.rows), options.batch_size)
        patience = None if options.patience is None else options.patience.epochs(n_steps)
        shown.phase(f"{len(members)} workers", f"at most {n_epochs} epochs")
        return Pipeline(members, n_epochs, patience, self.max_buffered).train(shown)


def _in_turn(members: list[Member], seed: int, shown: FitProgress) -> list[Any]:
    """Weights of all tiers after a training of one after another."""
    weights = []
    for k, member in enumerate(members):
        member.job = replace(member.job, seed=seed)
        shown.phase(f"worker {k}", f"{member.job.n_rows} samples")
        seed = train_in_turn(member, shown).next_seed
        assert member.checkpoint is not None
        weights.append(weights_in(member.checkpoint))
        if k + 1 < len(members):
            following = members[k + 1]
            following.n_samples_bytes, following.samples = hand_on(member)
    return weights


def _bounds(assignment: Sequence[int] | None, n_exits: int) -> list[tuple[int, int]]:
    """First exit of each tier, and the one after its last."""
    tiers = np.arange(n_exits) if assignment is None else np.asarray(assignment)
    steps = np.diff(tiers)
    if tiers.shape != (n_exits,) or tiers[0] != 0 or not np.isin(steps, [0, 1]).all():
        raise ValueError(
            f"The 'assignment' of TieredTraining must hold the tier of each of the {n_exits} "
            "exits, the last one included, in ascending order from 0 without gaps. Got "
            f"{assignment!r}."
        )
    starts = [0, *(np.flatnonzero(steps) + 1).tolist(), n_exits]
    return list(pairwise(starts))


def _part(network: MultiExitNetwork, start: int, stop: int) -> MultiExitNetwork:
    """Stages and heads of some exits, which are shared with the network."""
    stages: Any = network.stages[start:stop]
    return MultiExitNetwork(
        list(stages),
        list(network.heads[start:stop]),
        stand_ins=[exit_ - start for exit_ in network.stand_ins if start <= exit_ < stop],
        given=network.given,
        given_head=network.given_head,
        n_classes=network.n_classes,
    )


def _of_network(entry: dict[str, Any], first: int) -> dict[str, Any]:
    """Entry of the history whose exits are counted in the entire network."""
    phase = f"worker {entry['worker']}, {entry['phase']}"
    return entry | {"phase": phase, "exits": [first + exit_ for exit_ in entry["exits"]]}

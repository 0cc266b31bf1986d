"""Trainings in processes of their own, their outcomes kept in a folder outside the repository.

A process trains once, after a training on few samples that loads all code, so that the rise of its
resident memory is that of the one training. Seconds are those of its processor, not of the clock,
which other processes on the machine would disturb.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch.utils.flop_counter import FlopCounterMode

from _harness.cascades import Cascade
from _harness.data import Arrays
from _harness.measure import once
from _harness.networks import fixed_length
from _harness.outcomes import Outcome, combined_curve, curve_of
from _harness.store import keep, kept
from skearlyexit import EarlyExitClassifier
from skearlyexit.runtime._driver import outputs

#: Samples and epochs of the trainings whose operations are counted, and samples of the first one.
COUNTED_SAMPLES, COUNTED_EPOCHS, WARM_SAMPLES = 512, (4, 12), 64


@dataclass(frozen=True)
class Job:
    """A training, or the count of its operations.

    Attributes
    ----------
    label : str
        As printed, and the beginning of the file's name.
    samples : Path
        File of the samples; see `kept_samples`.
    params : dict
        Parameters of the estimator, but for epochs and seed.
    seed : int
    epochs : int
        0 counts operations.
    rules : sequence of {"own", "geometric"}
        Combination rules to judge by; "own" is that of the estimator.
    folder : Path
        Where the outcome is kept.
    """

    label: str
    samples: Path
    params: dict[str, Any]
    seed: int
    epochs: int
    folder: Path
    rules: Sequence[str] = ("own",)

    @property
    def path(self) -> Path:
        """File of the outcome; its name depends on all that the outcome does."""
        facts = [self.samples.name, sorted(self.params.items()), self.seed, self.epochs]
        digest = hashlib.sha256(repr([*facts, self.rules]).encode()).hexdigest()[:12]
        kind = "run" if self.epochs else "macs"
        name = "".join(letter if letter.isalnum() else "-" for letter in self.label)
        return self.folder / f"{kind}-{name}-{digest}.joblib"

    def estimator(self, epochs: int) -> EarlyExitClassifier:
        """Not fitted."""
        return fixed_length(**self.params, max_epochs=epochs, random_state=self.seed)


def outcomes(jobs: dict[Any, Job], n_jobs: int) -> dict[Any, Any]:
    """Outcome of every job; those that fail are reported and left out.

    Jobs run in the order given, seeds first, so that those of a seed are compared at about the
    same time.
    """
    waiting = {key: job for key, job in jobs.items() if not job.path.exists()}
    start = time.perf_counter()
    for done, (key, result) in enumerate(fresh(work, waiting, n_jobs), start=1):
        minutes = (time.perf_counter() - start) / 60
        line = f"failed: {result!r}" if isinstance(result, Exception) else result
        print(
            f"  {done} of {len(waiting)}, {minutes:.1f} min: {jobs[key].label}, {line}", flush=True
        )
    return {key: kept(job.path) for key, job in jobs.items() if job.path.exists()}


def fresh(
    function: Callable[[Any], Any], arguments: dict[Any, Any], n_jobs: int
) -> Iterator[tuple[Any, Any]]:
    """Key and result, or exception, of each argument, every call in a process of its own."""
    if not arguments:
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["skearlyexit", "torch._dynamo", "torch.utils.flop_counter"])
    with ProcessPoolExecutor(n_jobs, mp_context=context, max_tasks_per_child=1) as pool:
        futures = {pool.submit(function, each): key for key, each in arguments.items()}
        for future in as_completed(futures):
            error = future.exception()
            yield futures[future], error if error is not None else future.result()


def work(job: Job) -> str:
    """Do a job and keep its outcome; a line about it."""
    torch.set_num_threads(1)
    train, validation, test = kept(job.samples)
    outcome: Any
    with threadpool_limits(1):
        if job.epochs:
            outcome = _train(job, train, validation, test)
            line = f"{outcome.seconds:.1f} s, {outcome.epochs} epochs"
        else:
            outcome = _count(job, *train)
            line = f"{outcome[1] / 1e6:.3f} M multiply-accumulates a sample and epoch"
    keep(job.path, outcome)
    return line


def _count(job: Job, X: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Multiply-accumulates of training on a sample: once, and for every epoch.

    They are counted over whole trainings, forward and backward and all passes between phases, at
    two numbers of epochs, without those of optimizers and elementwise operations.
    """
    X, y = X[:COUNTED_SAMPLES], y[:COUNTED_SAMPLES]
    counted = []
    for epochs in COUNTED_EPOCHS:
        counter = FlopCounterMode(display=False)
        # Its hooks in modules, which are not needed, fail with gradients within a loss.
        counter.mod_tracker = OneModule()
        with counter:
            job.estimator(epochs).fit(X, y)
        counted.append(counter.get_total_flops() / 2 / len(X))
    slope = (counted[1] - counted[0]) / (COUNTED_EPOCHS[1] - COUNTED_EPOCHS[0])
    return counted[0] - slope * COUNTED_EPOCHS[0], slope


class OneModule(contextlib.nullcontext[None]):
    """Attributes all operations to the same module."""

    parents = ("Global",)


def epochs_for(macs: float, counted: tuple[float, float]) -> int:
    """Epochs that take about as many operations a sample; at least two, for two phases."""
    at_first, each = counted
    return max(2, round((macs - at_first) / each))


def _train(job: Job, train: Arrays, validation: Arrays, test: Arrays) -> Outcome:
    """Train, choose operating points on validation samples and judge them on test samples."""
    warm_up(job.estimator(2), *train)
    clf = job.estimator(job.epochs)
    seconds, peak = once(lambda: clf.fit(*train))
    y_val, y_test = (np.searchsorted(clf.classes_, part[1]) for part in (validation, test))
    seen, new = clf.exit_table(validation[0]), clf.exit_table(test[0])
    curves = {}
    for rule in job.rules:
        if rule == "own" or clf.n_exits_ == 1:
            curves[rule] = curve_of(seen, y_val, new, y_test, clf.costs_)
        else:
            network = clf.cascade_.network
            pool, kept = (outputs(network, part[0]).probabilities for part in (validation, test))
            cascade = Cascade(clf, pool, y_val, kept, y_test)
            curves[rule] = combined_curve(cascade, job.seed)
    return Outcome(
        (new.labels == y_test[:, None]).mean(axis=0),
        float((seen.labels[:, -1] == y_val).mean()),
        clf.costs_,
        curves,
        seconds,
        peak,
        job.epochs,
    )


def warm_up(clf: EarlyExitClassifier, X: np.ndarray, y: np.ndarray) -> None:
    """Load all code by a training in small batches, which keep little memory for use afterwards."""
    clf.set_params(batch_size=16, max_epochs=2).fit(X[:WARM_SAMPLES], y[:WARM_SAMPLES])

"""Trainings in processes of their own, their outcomes kept in a folder outside the repository.

A process trains once, after a training on few rows that loads all code, so that the rise of its
resident memory is that of the one training. Seconds are those of its processor, not of the clock,
which other processes on the machine would disturb.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch.utils.flop_counter import FlopCounterMode

from _harness.cascades import Saved
from skearlyexit import EarlyExitClassifier
from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._exit_table import ExitTable
from skearlyexit._fitting._exit_rule import HeldOutRows, decide
from skearlyexit.calibration import CalibrationData, Frontier, compute_frontier
from skearlyexit.combination import GeometricCombination
from skearlyexit.metrics import cost_accuracy
from skearlyexit.metrics._curve import mean_of_steps
from skearlyexit.policies import ConfidencePolicy
from skearlyexit.runtime._torch import outputs

#: Rows and epochs of the trainings whose operations are counted, and rows of the one before.
COUNTED_ROWS, COUNTED_EPOCHS, WARM_ROWS = 512, (4, 12), 64


@dataclass(frozen=True)
class Curve:
    """Operating points chosen on validation rows, the cheapest first, and what they do on others.

    Attributes
    ----------
    expected_costs, expected_accuracies : ndarray of shape (n_points,)
        On validation rows, increasing.
    costs, accuracies : ndarray of shape (n_points,)
        On test rows.
    """

    expected_costs: np.ndarray
    expected_accuracies: np.ndarray
    costs: np.ndarray
    accuracies: np.ndarray

    def at(self, budget: float) -> tuple[float, float]:
        """Accuracy and cost on test rows for a budget; nan where it cannot be met."""
        index = self._index(budget)
        if index < 0:
            return np.nan, np.nan
        return float(self.accuracies[index]), float(self.costs[index])

    def expected(self, budget: float) -> float:
        """Accuracy on validation rows for a budget; nan where it cannot be met."""
        index = self._index(budget)
        return float(self.expected_accuracies[index]) if index >= 0 else np.nan

    def area(self, low: float, high: float = 1.0) -> float:
        """Mean test accuracy over the budgets."""
        if self.expected_costs[0] > high:
            return np.nan
        return mean_of_steps(self.expected_costs, self.accuracies, low=low, high=high, below=0.0)

    def _index(self, budget: float) -> int:
        """The dearest point within a budget; -1 where there is none."""
        allowed = budget * (1 + 1e-12)
        return int(np.searchsorted(self.expected_costs, allowed, side="right")) - 1

    def cheapest(self, accuracy: float) -> tuple[float, float]:
        """Test cost and accuracy of the first point of a validation accuracy; nan without one."""
        index = int(np.searchsorted(self.expected_accuracies, accuracy - 1e-12, side="left"))
        if index == len(self.costs):
            return np.nan, np.nan
        return float(self.costs[index]), float(self.accuracies[index])


@dataclass(frozen=True)
class Outcome:
    """What is kept of a training.

    Attributes
    ----------
    alone : ndarray of shape (n_exits,)
        Test accuracy of each exit if every row left there.
    validation : float
        Validation accuracy of the last exit.
    exit_costs : ndarray of shape (n_exits,)
    curves : dict of str to Curve
        By combination rule.
    seconds, peak_bytes : float
        Of fit.
    epochs : int
        As the estimator was told.
    """

    alone: np.ndarray
    validation: float
    exit_costs: np.ndarray
    curves: dict[str, Curve]
    seconds: float
    peak_bytes: float
    epochs: int


@dataclass(frozen=True)
class Job:
    """A training, or the count of its operations.

    Attributes
    ----------
    label : str
        As printed, and the beginning of the file's name.
    rows : str
        File of the rows.
    params : dict
        Parameters of the estimator, but for epochs and seed.
    seed : int
    epochs : int
        0 counts operations.
    rules : sequence of {"own", "geometric"}
        Combination rules to judge by; "own" is what the estimator does by itself.
    folder : str
        Where the outcome is kept.
    """

    label: str
    rows: str
    params: dict[str, Any]
    seed: int
    epochs: int
    folder: str
    rules: Sequence[str] = ("own",)

    @property
    def path(self) -> Path:
        """File of the outcome; its name depends on all that the outcome does."""
        facts = [Path(self.rows).name, sorted(self.params.items()), self.seed, self.epochs]
        digest = hashlib.sha256(repr([*facts, self.rules]).encode()).hexdigest()[:12]
        kind = "run" if self.epochs else "macs"
        name = "".join(letter if letter.isalnum() else "-" for letter in self.label)
        return Path(self.folder) / f"{kind}-{name}-{digest}.joblib"

    def estimator(self, epochs: int) -> EarlyExitClassifier:
        """Not fitted."""
        return EarlyExitClassifier(**self.params, max_epochs=epochs, random_state=self.seed)


def outcomes(jobs: dict[Any, Job], n_jobs: int) -> dict[Any, Any]:
    """Outcome of every job that is kept or can be had; what fails is told and left out.

    Jobs run in the order given, seeds first, so that those of a seed are compared at about the
    same time.
    """
    waiting = {key: job for key, job in jobs.items() if not job.path.exists()}
    start = time.perf_counter()
    for done, (key, result) in enumerate(fresh(work, waiting, n_jobs), start=1):
        minutes = (time.perf_counter() - start) / 60
        told = f"failed: {result!r}" if isinstance(result, Exception) else result
        print(
            f"  {done} of {len(waiting)}, {minutes:.1f} min: {jobs[key].label}, {told}", flush=True
        )
    return {key: joblib.load(job.path) for key, job in jobs.items() if job.path.exists()}


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
    """Do a job and keep what comes of it; a line about it."""
    torch.set_num_threads(1)
    with np.load(job.rows, allow_pickle=False) as file:
        rows = {name: file[name] for name in file.files}
    outcome: Any
    with threadpool_limits(1):
        if job.epochs:
            outcome = train(job, rows)
            line = f"{outcome.seconds:.1f} s, {outcome.epochs} epochs"
        else:
            outcome = count(job, rows)
            line = f"{outcome[1] / 1e6:.3f} M multiply-accumulates a row and epoch"
    job.path.parent.mkdir(parents=True, exist_ok=True)
    part = job.path.with_suffix(f".{os.getpid()}")
    joblib.dump(outcome, part)
    os.replace(part, job.path)
    return line


def count(job: Job, rows: dict[str, np.ndarray]) -> tuple[float, float]:
    """Multiply-accumulates of training a row: once, and for every epoch.

    They are counted over whole trainings, forward and backward and all passes between phases, at
    two numbers of epochs, and without what optimisers and elementwise operations do.
    """
    X, y = (rows[name][:COUNTED_ROWS] for name in ("X_train", "y_train"))
    counted = []
    for epochs in COUNTED_EPOCHS:
        counter = FlopCounterMode(display=False)
        # Its hooks in modules, which are not asked for, cannot do with gradients within a loss.
        counter.mod_tracker = OneModule()
        with counter:
            job.estimator(epochs).fit(X, y)
        counted.append(counter.get_total_flops() / 2 / len(X))
    slope = (counted[1] - counted[0]) / (COUNTED_EPOCHS[1] - COUNTED_EPOCHS[0])
    return counted[0] - slope * COUNTED_EPOCHS[0], slope


class OneModule(contextlib.nullcontext[None]):
    """Says of all operations that they belong to the same module."""

    parents = ("Global",)


def epochs_for(macs: float, counted: tuple[float, float]) -> int:
    """Epochs that spend about as many operations a row; two at least, for two phases."""
    once, each = counted
    return max(2, round((macs - once) / each))


def train(job: Job, rows: dict[str, np.ndarray]) -> Outcome:
    """Train, choose operating points on validation rows and judge them on test rows."""
    X, y = rows["X_train"], rows["y_train"]
    warm_up(job.estimator(2), X, y)
    clf = job.estimator(job.epochs)
    seconds, peak = measured(lambda: clf.fit(X, y))
    y_val, y_test = (np.searchsorted(clf.classes_, rows[name]) for name in ("y_val", "y_test"))
    val, test = clf.exit_table(rows["X_val"]), clf.exit_table(rows["X_test"])
    right_val, right_test = val.labels == y_val[:, None], test.labels == y_test[:, None]
    curves = {}
    for rule in job.rules:
        if rule == "own" or clf.n_exits_ == 1:
            curves[rule] = curve(val, y_val, test, y_test, clf.costs_)
        else:
            saved = Saved(
                clf,
                outputs(clf.cascade_.network, rows["X_val"]),
                y_val,
                outputs(clf.cascade_.network, rows["X_test"]),
                y_test,
            )
            curves[rule] = combined(saved, job.seed)
    return Outcome(
        right_test.mean(axis=0),
        float(right_val[:, -1].mean()),
        clf.costs_,
        curves,
        seconds,
        peak,
        job.epochs,
    )


def combined(saved: Saved, seed: int) -> Curve:
    """Curve of answers that are weighted geometric means, cross-fitted on the validation rows."""
    held = HeldOutRows(saved.pool, saved.y_pool, weight=None, training_weight=None, groups=None)
    fitted, table, held = decide(
        ExitRule(None, GeometricCombination(), ConfidencePolicy()),
        held,
        [len(held.y)],
        lambda: saved.bare_costs,
        np.random.RandomState(seed),
    )
    test = fitted.tabulate(saved.test)
    return curve(table, held.y, test, saved.y_test, saved.costs(fitted))


def curve(
    val: ExitTable, y_val: np.ndarray, test: ExitTable, y_test: np.ndarray, costs: np.ndarray
) -> Curve:
    """The best points on validation rows, on test rows."""
    evidence = CalibrationData.from_table(val, y_val, costs)
    right = test.labels == y_test[:, None]
    if len(costs) == 1:
        frontier = Frontier(np.empty((1, 0)), costs, evidence.correct.mean(axis=0))
    else:
        frontier = compute_frontier(evidence)
    found = cost_accuracy(right, test.scores, costs, frontier.thresholds)
    return Curve(frontier.costs, frontier.accuracies, *found)


def warm_up(clf: EarlyExitClassifier, X: np.ndarray, y: np.ndarray) -> None:
    """Load all code by a training in small batches, which leave little memory to be used again."""
    clf.set_params(batch_size=16, max_epochs=2).fit(X[:WARM_ROWS], y[:WARM_ROWS])


def measured(call: Callable[[], Any]) -> tuple[float, float]:
    """Processor seconds, and bytes by which the peak of resident memory lies above what was there.

    Memory that is free is handed back first, as far as the allocator can; to be called once in a
    process all the same. It is nan where Linux does not tell it.
    """
    before = resident_bytes(reset=True)
    start = time.process_time()
    call()
    seconds = time.process_time() - start
    return seconds, resident_bytes() - before


def resident_bytes(*, reset: bool = False) -> float:
    """Peak of resident memory; with `reset` it starts anew from what is resident now."""
    try:
        if reset:
            gc.collect()
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL("libc.so.6").malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return math.nan
    return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

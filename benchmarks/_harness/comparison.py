"""The comparison of early-exit networks with what one would use otherwise.

**Samples.** Test samples are fixed for each set (a quarter, or the set's own) and play no part
until a model is done. The others are divided anew for every seed into 80 % training and 20 %
validation samples. All models are fitted on the same training samples, and none on validation
samples, which serve to choose settings and thresholds. No model is stopped early on them;
`MLPClassifier` and boosting may hold out training samples for that.

**Tuning.** Each model gets the same wall time for a random search of its own space by validation
accuracy, once, on the samples of seed 0 and at most ``--tune-samples`` of its training samples. The
first candidate is a sensible default and is always finished. Another is tried if the rest of the
time covers its predicted time, from its size and the time that the ones before it took; after 20 in
a row that would not fit the search ends. The setting that is found is then fitted on all training
samples of every seed.

Early exits with linear heads take the network of the plain one, with an exit after every block: a
cost of 1 means that network; how it is trained is searched. Classical heads are fitted on the same
trained networks (the time of fitting counts both); the kind of head is searched. Both are scored by
validation accuracy at half the plain network's cost. The smaller plain network has at least the
cost that early exits with linear heads have on the test samples at `CLAIMED`, in mean over the
seeds; it is searched over shape and learning like the plain one.

**Times.** All models of a seed predict the test samples in turns in one process, on one thread;
models that would take more than two seconds predict the first 1,000 samples. The time of fitting is
that of the processor, and other processes on the machine do not count.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from _harness.command import make_parser, some_of
from _harness.comparison_models import (
    CLAIMED,
    MODELS,
    ONLY,
    POINTS,
    Context,
    Model,
    entry_name,
)
from _harness.comparison_report import print_report
from _harness.data import SETS, Arrays, MissingData
from _harness.measure import take_turns
from _harness.networks import Params
from _harness.samples import Samples, subsample
from _harness.store import Store, keep, kept
from skearlyexit import Budget, EarlyExitClassifier, RiskControl
from skearlyexit.calibration import OperatingPoint
from skearlyexit.costs import UncountedError, estimator_macs

SLOW_SECONDS = 2.0
SLOW_ROWS = 1000


class Study:
    """All models on one data set.

    Parameters
    ----------
    store : Store
    data : Samples
    options : argparse.Namespace
        Of the command line.
    """

    def __init__(self, store: Store, data: Samples, options: argparse.Namespace) -> None:
        self.store, self.data, self.options = store, data, options

    def run(self) -> None:
        """Fit what is not in the store yet, then compare by the clock."""
        for name in [name for name in MODELS if name in self.options.models]:
            result = self.store.model(name)
            if "setting" not in result:
                result |= self._tune(name)
                self.store.save()
            for seed in range(self.options.seeds):
                if str(seed) not in result["seeds"]:
                    result["seeds"][str(seed)] = self._fit(name, seed)
                    self.store.save()
        for seed in range(self.options.seeds):
            self._time(seed)

    def _context(self, name: str, train: Arrays) -> Context:
        models = self.store.content["models"]
        context = Context(
            self.data.set.kind, train[0], self.data.n_classes, self.options.max_epochs
        )
        for needed, wanted in (("plain", "linear"), ("linear", "classical"), ("linear", "smaller")):
            if name == wanted and not models.get(needed, {}).get("seeds"):
                raise SystemExit(f"The model {name!r} needs results of {needed!r} first.")
        context.plain = models.get("plain", {}).get("setting")
        context.linear = models.get("linear", {}).get("setting")
        if name == "smaller":
            context.macs = float(np.mean([*self._macs("linear", CLAIMED).values()]))
        return context

    def _macs(self, name: str, point: str) -> dict[str, float]:
        seeds = self.store.content["models"][name]["seeds"]
        return {seed: result["points"][point]["macs"] for seed, result in seeds.items()}

    @property
    def _unit(self) -> float:
        """Cost of the plain network."""
        return next(iter(self._macs("plain", ONLY).values()))

    def _tune(self, name: str) -> dict[str, Any]:
        model = MODELS[name]
        train, validation = self.data.parts(0)
        context = self._context(name, train)
        train = subsample(train, self.options.tune_samples)
        start = time.perf_counter()
        candidates = model.candidates(context, np.random.RandomState(0))
        if len(candidates) > 1 and name == "classical":
            assert context.linear is not None
            context.network = MODELS["linear"].build(context.linear, context, 0).fit(*train)

        def score(params: Params) -> float:
            estimator = _fit_quietly(model.build(params, context, 0), train)
            return (
                self._score(estimator, validation)
                if model.early_exits
                else float(estimator.score(*validation))
            )

        tried: list[dict[str, Any]] = []
        if len(candidates) > 1:
            tried = search(model, candidates, context, score, start + self.options.tune_seconds)
            best = max(tried, key=lambda entry: entry["score"])["params"]
        else:
            best = candidates[0]
        seconds = time.perf_counter() - start
        print(f"  {name:<10} tuned: {len(tried)} tried in {seconds:.0f} s, {best}", flush=True)
        return {"setting": best, "tuning": {"seconds": seconds, "tried": tried}}

    def _score(self, clf: EarlyExitClassifier, validation: Arrays) -> float:
        """Validation accuracy at half the plain network's cost; -1 where that is not possible."""
        try:
            clf.calibrate(*validation, operating_point=self._scaled(Budget(0.5), clf))
        except ValueError:
            return -1.0
        return clf.score(*validation)

    def _scaled(self, point: OperatingPoint, clf: EarlyExitClassifier) -> OperatingPoint:
        """A budget in the unit of the model, whose last head may differ from the plain one."""
        if isinstance(point, Budget):
            return Budget(point.value * self._unit / clf.cost_table_.plain)
        return point

    def _fit(self, name: str, seed: int) -> dict[str, Any]:
        model, result = MODELS[name], self.store.model(name)
        train, validation = self.data.parts(seed)
        context = self._context(name, train)
        seconds = 0.0
        if name == "classical":
            context.network = kept(self.store.model_path("linear", seed))
            seconds = self.store.model("linear")["seeds"][str(seed)]["fit_seconds"]
        start = time.process_time()
        estimator = _fit_quietly(model.build(result["setting"], context, seed), train)
        seconds += time.process_time() - start
        if model.early_exits:
            points = self._operate(estimator, validation)
        else:
            network = isinstance(estimator, EarlyExitClassifier)
            macs = estimator.cost_table_.plain if network else _macs_of(estimator)
            points = {ONLY: {"accuracy": estimator.score(*self.data.test), "macs": macs}}
        keep(self.store.model_path(name, seed), estimator)
        accuracies = {k: p.get("accuracy", float("nan")) for k, p in points.items()}
        shown = ", ".join(f"{k} {100 * value:.2f}" for k, value in accuracies.items())
        print(f"  {name:<10} seed {seed}: {seconds:.1f} s; {shown}", flush=True)
        return {"fit_seconds": seconds, "points": points}

    def _operate(self, clf: EarlyExitClassifier, validation: Arrays) -> dict[str, Any]:
        """Test accuracy, cost and thresholds at every operating point."""
        X_test, y_test = self.data.test
        points: dict[str, Any] = {}
        for name, point in POINTS.items():
            try:
                clf.calibrate(*validation, operating_point=self._scaled(point, clf))
            except ValueError as error:
                if not isinstance(point, Budget | RiskControl):
                    raise
                points[name] = {"impossible": str(error)}
                continue
            labels, exits = clf.predict(X_test, return_exits=True)
            points[name] = {
                "accuracy": float(np.mean(labels == y_test)),
                "macs": float(clf.costs_[exits].mean() * clf.cost_table_.plain),
                "thresholds": clf.thresholds_.tolist(),
                "leaving": (np.bincount(exits, minlength=clf.n_exits_) / len(exits)).tolist(),
            }
        return points

    def _time(self, seed: int) -> None:
        """Seconds of predicting, all models in turns, unless the store has them all."""
        entries = {
            entry_name(name, point): (name, values)
            for name, result in self.store.content["models"].items()
            for point, values in result["seeds"].get(str(seed), {"points": {}})["points"].items()
            if "impossible" not in values
        }
        timing = self.store.content["timing"]
        if set(timing.get(str(seed), {})) == set(entries):
            return
        models = {name: kept(self.store.model_path(name, seed)) for name, _ in entries.values()}
        X = self.data.test[0]
        calls: dict[str, Callable[[np.ndarray], Any]] = {}
        for entry, (name, values) in entries.items():
            options = {"threshold": values["thresholds"]} if "thresholds" in values else {}
            calls[entry] = partial(models[name].predict, **options)
        few = take_turns({entry: partial(call, X[:SLOW_ROWS]) for entry, call in calls.items()}, 1)
        rows = {
            entry: X
            if few[entry][0] * len(X) / len(X[:SLOW_ROWS]) < SLOW_SECONDS
            else X[:SLOW_ROWS]
            for entry in calls
        }
        functions = {entry: partial(call, rows[entry]) for entry, call in calls.items()}
        many = take_turns(functions, self.options.repeats)
        one = take_turns({e: partial(call, X[:1]) for e, call in calls.items()}, 15)
        timing[str(seed)] = {
            entry: {
                "rows": len(rows[entry]),
                "seconds": many[entry].tolist(),
                "one_row": one[entry].tolist(),
            }
            for entry in calls
        }
        self.store.save()
        print(f"  timed seed {seed}", flush=True)


def search(
    model: Model,
    candidates: list[Params],
    context: Context,
    score: Callable[[Params], float],
    deadline: float,
) -> list[dict[str, Any]]:
    """Score candidates until the time is up; see the text above."""
    tried: list[dict[str, Any]] = []
    skipped = 0
    for params in candidates:
        size = model.size(params, context)
        if tried:
            predicted = size * np.mean([entry["seconds"] / entry["size"] for entry in tried])
            if time.perf_counter() + predicted > deadline:
                skipped += 1
                if skipped == 20:
                    break
                continue
        skipped = 0
        start = time.perf_counter()
        value = score(params)
        seconds = time.perf_counter() - start
        tried.append({"params": params, "score": value, "seconds": seconds, "size": size})
    return tried


def _fit_quietly(estimator: Any, train: Arrays) -> Any:
    """Fit; that an optimizer stops before it has converged is part of a setting."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(*train)


def _macs_of(estimator: Any) -> float:
    """Counted operations per sample, NaN where there is no count."""
    try:
        return estimator_macs(estimator)
    except UncountedError:
        return float("nan")


def parse(
    description: str, sets: list[str], tune_samples: int, max_train: int
) -> argparse.Namespace:
    """Options of the command line."""
    parser = make_parser(description, sets=",".join(sets), seeds=5, output=True)
    parser.set_defaults(sets=None)
    parser.add_argument(
        "--models", type=some_of(MODELS), default=[*MODELS], help="some of the default"
    )
    parser.add_argument("--tune-seconds", type=float, default=60.0, help="for each model")
    parser.add_argument("--tune-samples", type=int, default=tune_samples, help="samples, in tuning")
    parser.add_argument("--max-train", type=int, default=max_train, help="samples; 0: all")
    parser.add_argument("--repeats", type=int, default=5, help="turns by the clock")
    parser.add_argument("--report", action="store_true", help="only show what is saved")
    parser.add_argument("--quick", action="store_true", help="trial on few samples; no result")
    args = parser.parse_args()
    args.asked = args.sets is not None
    args.sets = args.sets or sets
    args.max_epochs, args.max_test = 10**6, 0
    if args.quick:
        args.output = args.output / "quick"
        args.seeds, args.tune_seconds, args.tune_samples, args.repeats = 1, 0.3, 300, 2
        args.max_train, args.max_test, args.max_epochs = 600, 400, 3
    return args


def run(name: str, args: argparse.Namespace) -> None:
    """All that is missing of one set."""
    data = Samples(name, args.max_train, args.max_test)
    store = Store(args.output, name)
    (X_train, _), (X_val, _) = data.parts(0)
    print(
        f"{data.set.title}: {len(X_train)} training, {len(X_val)} validation and "
        f"{len(data.test[0])} test samples; load {os.getloadavg()}",
        flush=True,
    )
    store.require(
        {
            "n_train": len(X_train),
            "n_validation": len(X_val),
            "n_test": len(data.test[0]),
            "n_features": X_train.shape[1],
            "n_classes": data.n_classes,
            "tune_seconds": args.tune_seconds,
            "tune_rows": args.tune_samples,
            "quick": args.quick,
            "machine": platform.machine(),
            "versions": {
                name: version(name) for name in ("numpy", "scikit-learn", "skearlyexit", "torch")
            },
        }
    )
    Study(store, data, args).run()


def main(description: str, sets: list[str], *, tune_samples: int, max_train: int) -> None:
    """Run the sets one after the other, absent ones left out, and show the results.

    Parameters
    ----------
    description : str
        Shown by ``--help``.
    sets : list of str
        Sets that are run unless others are asked for.
    tune_samples, max_train : int
        Defaults of the options.
    """
    args = parse(description, sets, tune_samples, max_train)
    if args.report:
        shown = args.sets if args.asked else [*SETS]
        shown = [name for name in shown if (args.output / f"{name}.json").exists()]
        return print_report(shown, args.output, "")
    torch.set_num_threads(1)
    done = []
    with threadpool_limits(1):
        for name in args.sets:
            if SETS[name].kind == "series":
                raise SystemExit(f"{name}: only tables and images are compared.")
            try:
                run(name, args)
            except MissingData as error:
                print(f"Left out. {error}", flush=True)
            else:
                done.append(name)
    print_report(done, args.output, "-" + "-".join(done))
    if args.quick:
        print("A trial on few samples: nothing above is a result.")

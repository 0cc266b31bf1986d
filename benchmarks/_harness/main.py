"""The command line of the comparisons."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from _harness.compare import Study
from _harness.data import SETS
from _harness.formats import MissingData
from _harness.models import MODELS
from _harness.report import print_report
from _harness.store import Data, Store

RESULTS = Path(__file__).parent.parent / "results"


def names(text: str) -> list[str]:
    """Comma-separated names."""
    return [name for name in text.split(",") if name]


def parse(
    description: str, sets: Sequence[str], tune_rows: int, max_train: int
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", type=names, help=f"some of {','.join(SETS)}")
    parser.add_argument("--models", type=names, default=[*MODELS], help="some of the default")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tune-seconds", type=float, default=60.0, help="for each model")
    parser.add_argument("--tune-rows", type=int, default=tune_rows, help="trained on in tuning")
    parser.add_argument("--max-train", type=int, default=max_train, help="rows; 0 are all")
    parser.add_argument("--repeats", type=int, default=5, help="turns by the clock")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help="only show what is saved")
    parser.add_argument("--quick", action="store_true", help="trial on few rows; no result")
    args = parser.parse_args()
    args.asked = args.sets is not None
    args.sets = args.sets or list(sets)
    for given, known in ((args.sets, SETS), (args.models, MODELS)):
        unknown = set(given) - set(known)
        if unknown:
            parser.error(f"unknown: {sorted(unknown)}; there are {[*known]}")
    args.max_epochs, args.max_test = 10**6, 0
    if args.quick:
        args.output = args.output / "quick"
        args.seeds, args.tune_seconds, args.tune_rows, args.repeats = 1, 0.3, 300, 2
        args.max_train, args.max_test, args.max_epochs = 600, 400, 3
    return args


def run(name: str, args: argparse.Namespace) -> None:
    """All that is missing of one set."""
    data = Data(name, args.max_train, args.max_test)
    store = Store(args.output, name)
    (X_train, _), (X_val, _) = data.parts(0)
    print(
        f"{data.set.title}: {len(X_train)} training, {len(X_val)} validation and "
        f"{len(data.test[0])} test rows; load {os.getloadavg()}",
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
            "tune_rows": args.tune_rows,
            "quick": args.quick,
            "machine": platform.machine(),
            "versions": {
                name: version(name) for name in ("numpy", "scikit-learn", "skearlyexit", "torch")
            },
        }
    )
    Study(store, data, args).run()


def main(description: str, sets: Sequence[str], *, tune_rows: int, max_train: int) -> None:
    """Run the sets one after the other, absent ones left out, and show the results.

    Parameters
    ----------
    description : str
        Shown by ``--help``.
    sets : sequence of str
        Run unless others are asked for.
    tune_rows, max_train : int
        Defaults of the options.
    """
    args = parse(description, sets, tune_rows, max_train)
    if args.report:
        shown = args.sets if args.asked else [*SETS]
        shown = [name for name in shown if (args.output / f"{name}.json").exists()]
        return print_report(shown, args.output, "")
    torch.set_num_threads(1)
    done = []
    with threadpool_limits(1):
        for name in args.sets:
            if SETS[name].regression or SETS[name].kind == "series":
                raise SystemExit(f"{name}: only classification of tables and images is compared.")
            try:
                run(name, args)
            except MissingData as error:
                print(f"Left out. {error}", flush=True)
            else:
                done.append(name)
    print_report(done, args.output, "-" + "-".join(done))
    if args.quick:
        print("A trial on few rows: nothing above is a result.")

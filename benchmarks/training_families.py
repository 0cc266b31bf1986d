"""Ways of training side by side, on one budget of multiply-accumulates of training.

Within a set and seed all start from the same weights, and learn from the same rows for as many
epochs as spend what joint training spends in its own: operations of the passes forward and backward
are counted over whole trainings, those between phases included. So is the plain network, which has
no exits, and therefore more epochs. Thresholds are the best on validation rows, accuracy and cost
are those of test rows.

Columns: mean accuracy over the budgets from the first exit's cost to 1 ("area"); accuracy at a
budget, in points against the plain network; cost on test rows of the cheapest thresholds that
lose nothing, or half a point, on validation rows against the plain network there, what they lose on
test rows, and in how many seeds there are any; processor seconds, in units of joint training; rise
of the resident memory's peak during training; epochs; multiply-accumulates of training.

Ranks are over blocks of one set and one budget, each a mean over seeds. Every training is a process
of its own with one thread, in a mixed order, and its outcome is kept in a folder outside the
repository, which is to be deleted after the package has changed: an interrupted run goes on, and a
strategy can be added.

    python benchmarks/training_families.py
    python benchmarks/training_families.py --sets letter --seeds 2 --strategies "joint;mixed"
    python benchmarks/training_families.py --sections clock
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness.cascades import add_arguments, available
from _harness.families import (
    BASE,
    ENTRIES,
    EPOCHS,
    MAX_TRAIN,
    PLAIN,
    REFERENCE,
    estimator_params,
    kind_of,
    saved_rows,
)
from _harness.families_figure import draw
from _harness.families_report import Found, known_results, report
from _harness.training_runs import Job, epochs_for, outcomes
from _harness.turns import medians, ratio, take_turns

from skearlyexit import EarlyExitClassifier
from skearlyexit.training import FreezeOutTraining, JointTraining

SECTIONS = ("families", "clock")


def compare(names: list[str], wanted: list[str], args: argparse.Namespace) -> Found:
    """Count, train and judge all that is not kept."""
    folder = str(Path(args.cache) / "families")
    rows, params = {}, {}
    for name in names:
        max_train = args.max_train or MAX_TRAIN[kind_of(name)]
        for seed in range(args.seeds):
            rows[name, seed] = str(saved_rows(name, seed, max_train, folder))
        for entry in wanted:
            params[name, entry] = estimator_params(kind_of(name), ENTRIES[entry])
    print(f"Counting {len(params)} trainings")
    counts = {
        (name, entry): Job(f"{name}, {entry}", rows[name, 0], each, 0, 0, folder)
        for (name, entry), each in params.items()
    }
    counted = outcomes(counts, args.jobs)
    jobs: dict[Any, Job] = {}
    macs = {}
    for name, seed in sorted(rows, key=lambda key: key[1]):
        once, each = counted[name, BASE]
        budget = once + each * (args.epochs or EPOCHS[name])
        with np.load(rows[name, seed]) as file:
            n_rows = len(file["y_train"])
        for entry in wanted:
            if (name, entry) not in counted:
                continue
            once, each = counted[name, entry]
            epochs = epochs_for(budget, (once, each))
            macs[name, entry] = n_rows * (once + each * epochs)
            label = f"{name}, {entry}, seed {seed}"
            jobs[name, entry, seed] = Job(
                label, rows[name, seed], params[name, entry], seed, epochs, folder
            )
    # Within a seed all sets and strategies are mixed, so that what slows the machine hits all.
    order = np.random.RandomState(0).permutation(len(jobs))
    keys = list(jobs)
    mixed = sorted((keys[i] for i in order), key=lambda key: key[2])
    print(f"Training {len(jobs)} networks")
    done = outcomes({key: jobs[key] for key in mixed}, args.jobs)
    complete = [
        entry
        for entry in wanted
        if all((name, entry, seed) in done for name in names for seed in range(args.seeds))
    ]
    for entry in set(wanted) - set(complete):
        print(f"Left out, as some of its trainings failed: {entry}")
    return Found(names, complete, args.seeds, done, macs)


def clock(names: list[str], args: argparse.Namespace) -> list[str]:
    """Seconds of freezing stages against joint training of as many epochs, in turns."""
    torch.set_num_threads(1)
    lines = ["Seconds of training by freeze-out against joint training of as many epochs:"]
    strategies = {
        "joint": JointTraining(),
        "cubic": FreezeOutTraining(spacing="cubic"),
        "linear": FreezeOutTraining(spacing="linear"),
    }
    for kind in ("tabular", "image"):
        name = next((name for name in names if kind_of(name) == kind), None)
        if name is None:
            continue
        rows = saved_rows(name, 0, args.clock_rows, str(Path(args.cache) / "families"))
        with np.load(rows) as file:
            X, y = file["X_train"], file["y_train"]
        fits = {}
        for label, strategy in strategies.items():
            params = estimator_params(kind, {"training": strategy})
            clf = EarlyExitClassifier(**params, max_epochs=args.clock_epochs, random_state=0)
            fits[label] = partial(clf.fit, X, y)
        times = take_turns(fits, args.repeats)
        told = ", ".join(
            f"{label} {ratio(times[label], times['joint'])[1]}" for label in ("cubic", "linear")
        )
        lines.append(
            f"- {kind} ({name}, {len(X)} rows, {args.clock_epochs} epochs, {args.repeats} turns): "
            f"{told}; medians {medians(times)}"
        )
        print(lines[-1], flush=True)
    return lines


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--strategies", help="some of them, with semicolons between")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--epochs", type=int, default=0, help="of joint training; 0: by set")
    parser.add_argument("--max-train", type=int, default=0, help="rows; 0: by kind of data")
    parser.add_argument("--budgets", default="0.3,0.5,0.7")
    parser.add_argument("--sections", default=",".join(SECTIONS), help="some of the default")
    parser.add_argument("--repeats", type=int, default=5, help="turns by the clock")
    parser.add_argument("--clock-epochs", type=int, default=6)
    parser.add_argument("--clock-rows", type=int, default=2000)
    args = parser.parse_args()
    args.budgets = [float(text) for text in args.budgets.split(",")]
    unknown = set(args.sections.split(",")) - set(SECTIONS)
    if unknown:
        parser.error(f"unknown sections {sorted(unknown)}; there are {[*SECTIONS]}")
    return args


def wanted_entries(text: str | None) -> list[str]:
    """Names of strategies; those that the others are held against are always among them."""
    if not text:
        return [*ENTRIES]
    found = {name.strip() for name in text.split(";")}
    if found - set(ENTRIES):
        raise SystemExit(
            f"Unknown: {sorted(found - set(ENTRIES))}; there are {'; '.join(ENTRIES)}."
        )
    return [name for name in ENTRIES if name in {*found, BASE, REFERENCE, PLAIN}]


def main() -> None:
    args = parse()
    names = available(args.sets)
    sections = args.sections.split(",")
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    if "families" in sections:
        found = compare(names, wanted_entries(args.strategies), args)
        text = f"## Ways of training, {args.seeds} seeds\n\n" + report(found, args.budgets)
        text += "\n### Known results\n\n" + "\n".join(known_results(found, args.budgets)) + "\n"
        print("\n" + text)
        (folder / "training_families.md").write_text(text)
        draw(found, folder / "training_families.png")
        print(f"Wrote {folder / 'training_families.md'} and {folder / 'training_families.png'}")
    if "clock" in sections:
        lines = clock(names, args)
        (folder / "training_families-clock.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

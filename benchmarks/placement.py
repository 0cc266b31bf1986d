"""Where to place exits: placements compared at the same budget and number of exits.

For each set and seed every placement gets the same training samples; those that need data hold some
of them out, as they do in use. The thresholds for the budget are calibrated on validation samples
that no placement has seen; accuracy and realized cost are those of test samples. With
``--training separate`` all placements share one frozen backbone and differ in nothing else; with
``mixed`` the backbone is trained with the exits.

    python benchmarks/placement.py
    python benchmarks/placement.py --training mixed --placements "equal shares,exact"
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections import defaultdict
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
from _harness.command import available, make_parser, numbers, some_of
from _harness.data import SETS
from _harness.networks import fixed_length
from _harness.report import spread, table
from _harness.samples import divide

from skearlyexit import (
    AdaptivePlacement,
    CNNBackbone,
    CostShare,
    EfficiencyTest,
    ExactPlacement,
    GreedyPlacement,
    MLPBackbone,
)

N_EXITS = 4


def placements(budget: float) -> dict[str, Any]:
    """Placements by name; those after the first six choose the number of exits themselves."""
    return {
        "equal shares": CostShare(N_EXITS),
        "sdn": CostShare(N_EXITS, schedule="sdn"),
        "pareto": CostShare(N_EXITS, schedule="pareto"),
        "fine": CostShare(N_EXITS, schedule="fine"),
        "golden": CostShare(N_EXITS, schedule="golden"),
        "exact": ExactPlacement(N_EXITS, budget=budget),
        "test (4)": EfficiencyTest(max_drop=0.01),
        "test (4) printed": EfficiencyTest("printed", max_drop=0.01),
        "greedy (5)": GreedyPlacement(max_drop=0.01),
        "greedy (5) printed": GreedyPlacement(form="printed", max_drop=0.01),
        "adaptive": AdaptivePlacement(price=0.1),
    }


#: Accuracy, mean cost and names of the exits for each seed, by budget and placement.
Found = dict[tuple[float, str], list[tuple[float, float, str]]]


def study(name: str, args: argparse.Namespace) -> Found:
    """Run all placements on one set."""
    data = SETS[name]
    X, y = data.load()
    image = data.kind == "image"
    backbone = (
        CNNBackbone(image_shape=data.image_shape, stem_stride=2)
        if image
        else MLPBackbone(8, width=128, hidden=128, dropout=0.0, smooth_clip=None, n_frequencies=0)
    )
    found: Found = defaultdict(list)
    for seed in range(args.seeds):
        (X_train, y_train), validation, (X_test, y_test) = divide(X, y, seed)
        with tempfile.TemporaryDirectory() as folder:
            for budget, title in itertools.product(args.budgets, args.placements):
                clf = fixed_length(
                    backbone=backbone,
                    exits=placements(budget)[title],
                    training=args.training,
                    calibration=None,
                    max_epochs=args.epochs,
                    memory=folder,
                    random_state=seed,
                ).fit(X_train[: args.max_train], y_train[: args.max_train])
                clf.calibrate(*validation)
                try:
                    labels, exits = clf.predict(X_test, budget=budget, return_exits=True)
                except ValueError:  # its first exit alone costs more
                    continue
                accuracy = float((labels == y_test).mean())
                cost = float(clf.costs_[exits].mean())
                found[budget, title].append((accuracy, cost, ", ".join(clf.exit_names_[:-1])))
    return found


def report(found: Found, budget: float, titles: list[str]) -> str:
    """Markdown of one budget; the first placement is the one that others are compared with."""
    base = [accuracy for accuracy, _, _ in found[budget, titles[0]]]
    lines = []
    for title in titles:
        results = found[budget, title]
        if not results:
            lines.append([title, "not possible", "", "", ""])
            continue
        accuracies = 100 * np.array([accuracy for accuracy, _, _ in results])
        gains = ""
        if len(results) == len(base):
            gain = accuracies - 100 * np.array(base)
            gains = f"{gain.mean():+.2f} [{gain.min():+.2f} .. {gain.max():+.2f}]"
        cost = np.mean([cost for _, cost, _ in results])
        lines.append([title, spread(accuracies), gains, f"{cost:.2f}", results[0][2]])
    header = ["placement", f"accuracy at {budget}", f"to {titles[0]}", "mean cost", "exits, seed 0"]
    return table(lines, header)


def main() -> None:
    known = [*placements(0.5)]
    parser = make_parser(__doc__, sets="letter,magic,pendigits,mnist5k", seeds=3)
    parser.add_argument("--budgets", type=numbers, default="0.3,0.5")
    parser.add_argument("--placements", type=some_of(known), default=known, help="some of them")
    parser.add_argument("--training", default="separate", choices=("separate", "mixed", "joint"))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--max-train", type=int, default=8000)
    args = parser.parse_args()
    for name in available(args.sets):
        found = study(name, args)
        print(f"\n{SETS[name].title}: {args.training} training, {args.seeds} seeds\n")
        for budget in args.budgets:
            print(report(found, budget, args.placements), flush=True)


if __name__ == "__main__":
    main()

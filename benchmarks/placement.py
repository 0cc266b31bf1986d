"""Where exits should stand: placements compared at the same budget and number of exits.

For each set and seed every placement gets the same training rows; those that ask for data hold some
of them out, as they do in use. The thresholds for the budget are calibrated on validation rows that
no placement has seen, and accuracy and realised cost are those of test rows. With
``--training separate`` all placements share one frozen backbone, so that nothing but the places
differs; with ``mixed`` the backbone is trained with the exits.

    python benchmarks/placement.py
    python benchmarks/placement.py --training mixed --placements "equal shares,exact"
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
from _harness.data import SETS, split
from _harness.formats import MissingData

from skearlyexit import (
    AdaptivePlacement,
    CNNBackbone,
    CostShare,
    EarlyExitClassifier,
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", default="letter,magic,pendigits,mnist5k")
    parser.add_argument("--budgets", default="0.3,0.5")
    parser.add_argument("--placements", default="", help="some of them; all if not given")
    parser.add_argument("--training", default="separate", choices=("separate", "mixed", "joint"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--max-train", type=int, default=8000)
    args = parser.parse_args()
    budgets = [float(text) for text in args.budgets.split(",")]
    wanted = [name for name in args.placements.split(",") if name] or [*placements(0.5)]
    for name in args.sets.split(","):
        try:
            compare(name, wanted, budgets, args)
        except MissingData as error:
            print(error)


def compare(name: str, wanted: list[str], budgets: list[float], args: argparse.Namespace) -> None:
    """Run all placements on one set, and print a table for each budget."""
    data = SETS[name]
    X, y = data.load()
    image = data.kind == "image"
    backbone = CNNBackbone(image_shape=data.image_shape, stem_stride=2) if image else MLPBackbone(8)
    found: dict[tuple[float, str], list[tuple[float, float, str]]] = defaultdict(list)
    start = time.perf_counter()
    for seed in range(args.seeds):
        (X_train, y_train), (X_val, y_val), (X_test, y_test) = split(X, y, seed)
        X_train, y_train = X_train[: args.max_train], y_train[: args.max_train]
        with tempfile.TemporaryDirectory() as folder:
            for budget in budgets:
                for title in wanted:
                    clf = EarlyExitClassifier(
                        backbone=backbone,
                        exits=placements(budget)[title],
                        training=args.training,
                        calibration=None,
                        max_epochs=args.epochs,
                        memory=folder,
                        random_state=seed,
                    ).fit(X_train, y_train)
                    clf.calibrate(X_val, y_val)
                    try:
                        labels, exits = clf.predict(X_test, budget=budget, return_exits=True)
                    except ValueError:  # its first exit alone costs more
                        continue
                    accuracy = float((labels == y_test).mean())
                    cost = float(clf.costs_[exits].mean())
                    found[budget, title].append((accuracy, cost, ", ".join(clf.exit_names_[:-1])))
    seconds = time.perf_counter() - start
    print(f"\n{data.title}: {args.training} training, {args.seeds} seeds, {seconds:.0f} s")
    for budget in budgets:
        print(f"  budget {budget}{'accuracy':>28}{'against equal':>20}{'cost':>8}  exits (seed 0)")
        base = [accuracy for accuracy, _, _ in found[budget, wanted[0]]]
        for title in wanted:
            rows = found[budget, title]
            if not rows:
                print(f"    {title:<20} cannot keep it")
                continue
            accuracies = 100 * np.array([row[0] for row in rows])
            told = ""
            if len(rows) == len(base):
                gain = accuracies - 100 * np.array(base)
                told = f"{gain.mean():+.2f} [{gain.min():+.2f} .. {gain.max():+.2f}]"
            cost = np.mean([row[1] for row in rows])
            print(
                f"    {title:<20}{accuracies.mean():>9.2f} +- {accuracies.std():.2f}{told:>24}"
                f"{cost:>8.2f}  {rows[0][2]}",
                flush=True,
            )


if __name__ == "__main__":
    main()

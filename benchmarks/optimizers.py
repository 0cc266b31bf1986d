"""AdamW and Muon as optimizer of `EarlyExitClassifier` on tables, all else by default.

Accuracies are those of the last exit on the test samples of `defaults.py`, and steps those of all
trainings of a fit. Seconds are those of the processor, the two in turns. The difference is that of
Muon to AdamW, a mean over the seeds with its standard error.

    python benchmarks/optimizers.py
    python benchmarks/optimizers.py --size 1000
"""

from __future__ import annotations

import time
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
from _harness.command import available, make_parser
from _harness.data import SETS
from _harness.report import table
from _harness.samples import limited
from skorch.callbacks import Callback

from skearlyexit import EarlyExitClassifier

NAMES = "adult,magic,letter,pendigits,satimage,phoneme,marketing,house"
OPTIMIZERS = ("adamw", "muon")


class Steps(Callback):
    """Counts the steps of all trainings."""

    def __init__(self) -> None:
        self.n_steps = 0

    def __deepcopy__(self, memo: Any) -> Steps:
        return self

    def on_batch_end(self, net: Any, *, training: bool = False, **kwargs: Any) -> None:
        self.n_steps += training


def run(name: str, size: int, seed: int) -> np.ndarray:
    """Accuracy in %, steps and seconds of both optimizers."""
    X, y, X_test, y_test = limited(*SETS[name].load(), size, seed)
    found = []
    for optimizer in OPTIMIZERS:
        steps = Steps()
        clf = EarlyExitClassifier(optimizer=optimizer, callbacks=[steps], random_state=seed)
        start = time.process_time()
        clf.fit(X, y)
        seconds = time.process_time() - start
        accuracy = 100 * clf.score(X_test, y_test, threshold=np.inf)
        found.append((accuracy, steps.n_steps, seconds))
    return np.array(found)


def mean_difference(values: np.ndarray) -> str:
    """Mean and standard error of the differences of values of shape (n_seeds, 2)."""
    differences = values[:, 1] - values[:, 0]
    error = differences.std(ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else np.nan
    return f"{differences.mean():+.2f} ± {error:.2f}"


def main() -> None:
    parser = make_parser(__doc__, sets=NAMES, seeds=5)
    parser.add_argument("--size", type=int, default=5000, help="maximum number of training samples")
    args = parser.parse_args()
    rows, everything = [], []
    for name in available(args.sets):
        found = np.array([run(name, args.size, seed) for seed in range(args.seeds)])
        rows.append([SETS[name].title, *cells(found)])
        everything.append(found)
    rows.append(["all", *cells(np.concatenate(everything))])
    header = ["", "accuracy, AdamW", "Muon", "difference", "steps", "Muon", "CPU s", "Muon"]
    print(f"At most {args.size:,} training samples, {args.seeds} seeds\n\n" + table(rows, header))


def cells(found: np.ndarray) -> list[str]:
    """Means over runs, from results of shape (n_runs, 2, 3)."""
    accuracy, steps, seconds = found.mean(axis=0).T
    return [
        *(f"{each:.2f}" for each in accuracy),
        mean_difference(found[:, :, 0]),
        *(f"{each:.0f}" for each in steps),
        *(f"{each:.1f}" for each in seconds),
    ]


if __name__ == "__main__":
    main()

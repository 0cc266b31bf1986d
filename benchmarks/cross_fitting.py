"""Whether a guarantee that was cross-fitted on few samples holds for the final model.

With cross-fitting, the default below 15,000 samples, the thresholds are certified for the networks
of the folds, and the final network uses them. In each run an early-exit network learns from 450 of
scikit-learn's 1,797 digits and is asked for a performance gap of at most 1 %, at 90 % confidence,
by `RiskControl(0.01)`; the gap is measured on the other digits. Beside it is that of the same
network with thresholds from 450 more digits that it has not seen. A gap is clearly above the level
if a binomial test at 5 % finds so.

    python benchmarks/cross_fitting.py
"""

from __future__ import annotations

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness.command import make_parser
from _harness.report import table
from scipy.stats import binom
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skearlyexit import EarlyExitClassifier, RiskControl

N_TRAIN, LEVEL = 450, 0.01


def run(X: np.ndarray, y: np.ndarray, seed: int) -> dict[str, tuple[float, float, float, bool]]:
    """Performance gap, mean cost, accuracy, and whether the gap is clearly above the level."""
    parts = train_test_split(X, y, train_size=N_TRAIN, stratify=y, random_state=seed)
    X_train, X_rest, y_train, y_rest = parts
    parts = train_test_split(X_rest, y_rest, train_size=N_TRAIN, stratify=y_rest, random_state=seed)
    X_held_out, X_test, y_held_out, y_test = parts
    found = {}
    clf = EarlyExitClassifier(
        operating_point=RiskControl(LEVEL, confidence_level=0.9), random_state=seed
    ).fit(X_train, y_train)
    for name in ("cross-fitted", "held out"):
        if name == "held out":
            clf.calibrate(X_held_out, y_held_out)
        outputs = clf.exit_table(X_test)
        exits = outputs.exits(clf.thresholds_)
        right = clf.classes_[outputs.labels] == y_test[:, None]
        chosen = right[np.arange(len(exits)), exits]
        n_lost = int(np.sum(right[:, -1] & ~chosen))
        clear = binom.sf(n_lost - 1, len(exits), LEVEL) < 0.05
        found[name] = n_lost / len(exits), clf.costs_[exits].mean(), chosen.mean(), bool(clear)
    return found


def main() -> None:
    args = make_parser(__doc__, seeds=20).parse_args()
    torch.set_num_threads(1)
    X, y = load_digits(return_X_y=True)
    runs = [run(X, y, seed) for seed in range(args.seeds)]
    rows = []
    for name in runs[0]:
        gap, cost, accuracy, clear = np.array([each[name] for each in runs], dtype=float).T
        rows.append(
            [
                name,
                f"{100 * gap.mean():.2f}",
                f"{100 * gap.max():.2f}",
                f"{np.sum(gap > LEVEL)} of {len(gap)}",
                f"{int(clear.sum())} of {len(gap)}",
                f"{cost.mean():.3f}",
                f"{100 * accuracy.mean():.2f}",
            ]
        )
    header = ["thresholds", "gap, %", "largest", f"above {LEVEL:.0%}", "clearly", "mean cost"]
    print(f"{args.seeds} runs, {N_TRAIN} training samples\n")
    print(table(rows, [*header, "accuracy, %"]))


if __name__ == "__main__":
    main()

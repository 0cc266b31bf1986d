"""Memory of predictions, calibration and reports with many classes.

Each step runs in a process of its own, after a fit of one epoch. Printed is by how many MiB the
largest resident memory of the process grows during the step. The last column is the size of an
array of the probabilities of all samples at all exits.

    python benchmarks/many_classes.py
"""

from __future__ import annotations

import resource
from multiprocessing import get_context

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness.command import make_parser
from _harness.report import table

from skearlyexit import Budget, EarlyExitClassifier, MLPBackbone

N_EXITS, N_FEATURES = 4, 20
STEPS = ("predict", "calibrate", "exit_report")


def grown(step: str, n_samples: int, n_classes: int) -> float:
    """MiB by which the peak grows."""
    torch.set_num_threads(1)
    rng = np.random.RandomState(0)
    X = rng.randn(n_samples, N_FEATURES).astype("float32")
    y = np.arange(n_samples) % n_classes
    clf = EarlyExitClassifier(
        MLPBackbone(N_EXITS, width=64, hidden=64),
        exits=N_EXITS,
        training="joint",
        calibration=None,
        threshold=0.5,
        max_epochs=1,
    )
    clf.fit(X[: 3 * n_classes], y[: 3 * n_classes])
    clf.predict(X[:300])  # memory that is allocated once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if step == "predict":
        clf.predict(X)
    elif step == "calibrate":
        clf.calibrate(X, y, Budget(1.0))
    else:
        clf.exit_report(X, y)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--samples", type=int, nargs="+", default=[10_000, 20_000])
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 500, 2000])
    args = parser.parse_args()
    rows = []
    for n_samples in args.samples:
        for n_classes in args.classes:
            row = [f"{n_samples:,}", f"{n_classes:,}"]
            for step in STEPS:
                with get_context("spawn").Pool(1) as pool:
                    row.append(f"{pool.apply(grown, (step, n_samples, n_classes)):.0f}")
            row.append(f"{n_samples * N_EXITS * n_classes * 8 / 2**20:.0f}")
            rows.append(row)
            print(row, flush=True)
    print("\n" + table(rows, ["samples", "classes", *STEPS, "all probabilities"]))


if __name__ == "__main__":
    main()

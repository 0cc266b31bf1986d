"""What early exits cost in accuracy: four numbers for each data set, with default parameters.

- "plain": the plain network, which has no early exits, trained on all samples;
- "plain, fewer": the same on the four fifths that remain if a fifth is held out for calibration;
- "last exit": the last exit of `EarlyExitClassifier()`, trained on all samples that are given;
- "early exits": the same model at its default operating point, with its mean cost per sample in
  units of the plain network.

Accuracies are those of test samples. Differences to the plain network are means over the seeds,
with their standard error.

    python benchmarks/against_plain.py
    python benchmarks/against_plain.py --report
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness.command import make_parser
from _harness.data import SETS
from _harness.lines import read_lines, run_missing
from _harness.report import table
from sklearn.base import clone

from skearlyexit import EarlyExitClassifier

#: Number of training samples and of test samples at most, by the kind of data.
SIZES = {"tabular": (5000, 4000), "image": (2500, 2000)}
MODELS = ("plain", "plain, fewer", "last exit", "early exits")


def run(name: str, seed: int) -> dict[str, Any]:
    """Accuracies of the four models, mean cost of the last, and CPU seconds of its fit."""
    data = SETS[name]
    X, y = data.load()
    if data.image_shape is not None:
        X = X.reshape(-1, *data.image_shape)
    n_train, n_test = SIZES[data.kind]
    n_test = min(n_test, len(X) // 4)
    order = np.random.RandomState(seed).permutation(len(X))[: n_test + n_train]
    X_test, y_test, X, y = (
        *(part[order[:n_test]] for part in (X, y)),
        X[order[n_test:]],
        y[order[n_test:]],
    )
    start = time.process_time()
    clf = EarlyExitClassifier(random_state=seed).fit(X, y)
    cpu = time.process_time() - start
    plain = clone(clf).set_params(exits=1)
    n_fewer = len(X) - len(X) // 5
    report = clf.exit_report(X_test, y_test, plain=clone(plain).fit(X, y))
    overall = report.overall
    return {
        "plain": overall.plain_accuracy,
        "plain, fewer": clone(plain).fit(X[:n_fewer], y[:n_fewer]).score(X_test, y_test),
        "last exit": overall.last_accuracy,
        "early exits": overall.accuracy,
        "cost": overall.mean_cost,
        "cpu": cpu,
    }


def report(entries: list[dict[str, Any]]) -> None:
    """Print the means over the seeds."""
    lines = []
    for name in dict.fromkeys(entry["set"] for entry in entries):
        chosen = [entry for entry in entries if entry["set"] == name]
        values = {key: np.array([entry[key] for entry in chosen]) for key in (*MODELS, "cost")}
        cells = [f"{100 * values['plain'].mean():.2f}"]
        for model in MODELS[1:]:
            difference = 100 * (values[model] - values["plain"])
            error = difference.std(ddof=1) / np.sqrt(len(chosen)) if len(chosen) > 1 else np.nan
            cells.append(f"{difference.mean():+.2f} ± {error:.2f}")
        lines.append([SETS[name].title, str(len(chosen)), *cells, f"{values['cost'].mean():.2f}"])
    print(table(lines, ["", "seeds", *MODELS, "mean cost"]))


def main() -> None:
    """Run what is missing, and print all results."""
    parser = make_parser(__doc__, sets="letter,magic,mnist5k,fashion", seeds=5, output=True)
    parser.add_argument("--report", action="store_true", help="only print what is saved")
    args = parser.parse_args()
    path = args.output / "against_plain.jsonl"
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    report(read_lines(path) if args.report else run_missing(path, args.sets, args.seeds, run))


if __name__ == "__main__":
    main()

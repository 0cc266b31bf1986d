"""Thresholds of the same estimated risk, against the best on the calibration samples.

`EarlyExitClassifier()` is fitted to at most 4,000 samples of each table. It is calibrated on 200
and on 1,000 others, or by default, cross-fitted on the training samples with networks of the folds:
for budgets, and for a maximum loss of accuracy. "frontier"
is the default method of these operating points, "search" the best thresholds found on the
calibration samples, and "geometric" exit rates that change by a constant factor. Loss is that of
accuracy on test samples against the last exit, in points, and cost the mean cost there; means over
all tables and seeds, with the standard error of the difference of the losses to "frontier".

    python benchmarks/frontier_choice.py
    python benchmarks/frontier_choice.py --report
"""

from __future__ import annotations

import tempfile
import warnings
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness.command import make_parser
from _harness.data import SETS
from _harness.lines import read_lines, run_missing
from _harness.report import table
from sklearn.model_selection import train_test_split

from skearlyexit import AccuracyDrop, Budget, EarlyExitClassifier

TABLES = "adult,magic,letter,pendigits,satimage,spambase,phoneme,marketing,house,contraceptive"
N_TRAIN, N_TEST, N_CALIBRATION = 4000, 4000, (200, 1000)
SETTINGS = [*(f"{n} samples" for n in N_CALIBRATION), "cross-fitted training samples"]
BUDGETS, DROPS = (0.2, 0.3, 0.5, 0.8), (0.0, 0.005, 0.01)


def requests() -> dict[str, Any]:
    """Operating points by their names."""
    found: dict[str, Any] = {}
    for method in ("frontier", "search", "geometric"):
        found |= {f"budget {b:g}, {method}": Budget(b, method=method) for b in BUDGETS}
    for method in ("frontier", "search"):
        found |= {
            f"at most {100 * drop:g} points, {method}": AccuracyDrop(drop, method=method)
            for drop in DROPS
        }
    return found


def run(name: str, seed: int) -> dict[str, Any]:
    """Losses and costs for each number of calibration samples and operating point."""
    X, y = SETS[name].load()
    n_known = N_CALIBRATION[-1]
    n_test = min(N_TEST, len(X) // 4)
    n_train = min(N_TRAIN, len(X) - n_test - n_known)
    X, X_test, y, y_test = train_test_split(
        X, y, train_size=n_train + n_known, test_size=n_test, stratify=y, random_state=seed
    )
    X_train, X_known, y_train, y_known = train_test_split(
        X, y, test_size=n_known, stratify=y, random_state=seed
    )
    clf = EarlyExitClassifier(calibration=None, random_state=seed).fit(X_train, y_train)
    found: dict[str, Any] = {}

    def note(clf: EarlyExitClassifier, setting: str, title: str) -> None:
        labels, exits = clf.predict(X_test, return_exits=True)
        last = clf.score(X_test, y_test, threshold=np.inf)
        loss = last - float(np.mean(labels == y_test))
        found[f"{setting}: {title}"] = [loss, float(clf.costs_[exits].mean())]

    for n in N_CALIBRATION:
        for title, request in requests().items():
            note(clf.calibrate(X_known[:n], y_known[:n], request), f"{n} samples", title)
    with tempfile.TemporaryDirectory() as folder:
        for title, request in requests().items():
            # The trainings are computed once.
            clf = EarlyExitClassifier(operating_point=request, memory=folder, random_state=seed)
            note(clf.fit(X_train, y_train), SETTINGS[-1], title)
    return found


def report(entries: list[dict[str, Any]]) -> None:
    """Print the means."""
    for setting in SETTINGS:
        lines = []
        for title in requests():
            values = np.array([entry[f"{setting}: {title}"] for entry in entries])
            default = [entry[f"{setting}: {title.split(', ')[0]}, frontier"] for entry in entries]
            difference = 100 * (values - default)[:, 0]
            error = difference.std(ddof=1) / np.sqrt(len(entries))
            against = (
                "" if title.endswith("frontier") else f"{difference.mean():+.2f} ± {error:.2f}"
            )
            loss, cost = values.mean(axis=0)
            lines.append([title, f"{100 * loss:.2f}", f"{cost:.3f}", against])
        print(f"Calibrated on {setting}, {len(entries)} models\n")
        print(table(lines, ["", "loss, points", "mean cost", "loss more than frontier"]), "\n")


def main() -> None:
    """Run what is missing, and print all results."""
    parser = make_parser(__doc__, sets=TABLES, seeds=3, output=True)
    parser.add_argument("--report", action="store_true", help="only print what is saved")
    args = parser.parse_args()
    path = args.output / "frontier_choice.jsonl"
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    report(read_lines(path) if args.report else run_missing(path, args.sets, args.seeds, run))


if __name__ == "__main__":
    main()

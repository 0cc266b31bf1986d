"""The convolutional network for series with its defaults, and without a stride of its stem.

At most 500 of the series, or 70 % of them, are training samples, the others test samples. "last
exit" is `EarlyExitClassifier(Conv1DBackbone())` without early exits, "early exits" the same model
at its default operating point, and "stride 1" another one whose stem has no stride, at its last
exit. Logistic regression and random forests get all points of all channels as features.

    python benchmarks/convolutions.py
    python benchmarks/convolutions.py --sets gunpoint,arrowhead --seeds 2
    python benchmarks/convolutions.py --report
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
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skearlyexit import Conv1DBackbone, EarlyExitClassifier

NAMES = "italypower,gunpoint,arrowhead,osuleaf"
N_TRAIN, SHARE = 500, 0.7
PEERS = {
    "logistic regression": lambda seed: make_pipeline(
        StandardScaler(), LogisticRegression(max_iter=2000)
    ),
    "random forest": lambda seed: RandomForestClassifier(random_state=seed, n_jobs=1),
}


def run(name: str, seed: int) -> dict[str, Any]:
    """Accuracies, costs and CPU seconds of all models."""
    series, y = SETS[name].load()
    X = np.stack(series)
    X, X_test, y, y_test = train_test_split(
        X, y, train_size=min(N_TRAIN, int(SHARE * len(X))), stratify=y, random_state=seed
    )
    found: dict[str, Any] = {"points": X.shape[2], "samples": len(X)}
    for peer, make in PEERS.items():
        model = make(seed).fit(X.reshape(len(X), -1), y)
        found[peer] = model.score(X_test.reshape(len(X_test), -1), y_test)
    for stride in ("auto", 1):
        model = EarlyExitClassifier(Conv1DBackbone(stem_stride=stride), random_state=seed)
        start = time.process_time()
        model.fit(X, y)
        cpu = time.process_time() - start
        last = model.score(X_test, y_test, threshold=np.inf)
        if stride == 1:
            found |= {"stride 1": last, "cpu, stride 1": cpu}
            continue
        labels, exits = model.predict(X_test, return_exits=True)
        found |= {
            "last exit": last,
            "early exits": float(np.mean(labels == y_test)),
            "cost": float(model.costs_[exits].mean()),
            "cpu": cpu,
        }
    return found


def report(entries: list[dict[str, Any]]) -> None:
    """Print means over the seeds."""
    lines = []
    for name in dict.fromkeys(entry["set"] for entry in entries):
        chosen = [entry for entry in entries if entry["set"] == name]
        means = {
            key: np.mean([entry[key] for entry in chosen])
            for key, value in chosen[0].items()
            if isinstance(value, int | float)
        }
        accuracies = [f"{100 * means[key]:.1f}" for key in (*PEERS, "stride 1", "last exit")]
        lines.append(
            [
                SETS[name].title,
                f"{means['samples']:.0f}",
                f"{means['points']:.0f}",
                *accuracies,
                f"{100 * means['early exits']:.1f} @ {means['cost']:.2f}",
                f"{means['cpu, stride 1']:.0f}",
                f"{means['cpu']:.0f}",
            ]
        )
    header = ["", "training samples", "points", *PEERS, "stride 1", "last exit", "early exits"]
    n_seeds = len({entry["seed"] for entry in entries})
    print(f"Accuracy in %, at mean cost, and CPU seconds of fit; {n_seeds} seeds\n")
    print(table(lines, [*header, "CPU s, stride 1", "CPU s"]))


def main() -> None:
    """Run what is missing, and print all results."""
    parser = make_parser(__doc__, sets=NAMES, seeds=3, output=True)
    parser.add_argument("--report", action="store_true", help="only print what is saved")
    args = parser.parse_args()
    path = args.output / "convolutions.jsonl"
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    report(read_lines(path) if args.report else run_missing(path, args.sets, args.seeds, run))


if __name__ == "__main__":
    main()

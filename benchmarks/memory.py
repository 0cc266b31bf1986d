"""A search over ten kinds of heads, with the trained network kept on disk and without.

The data are the digits that come with scikit-learn; three folds, without a final fit, in one
process and in two. A callback that writes a mark into a file counts the trainings.

    python benchmarks/memory.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness.command import make_parser
from _harness.measure import seconds
from _harness.networks import fixed_length
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier
from skorch.callbacks import Callback

from skearlyexit import MLPBackbone

HEADS = [
    "linear",
    *[DecisionTreeClassifier(max_depth=depth) for depth in (3, 5, 7, 9)],
    *[KNeighborsClassifier(n_neighbors) for n_neighbors in (3, 7)],
    LogisticRegression(max_iter=500),
    *[RandomForestClassifier(20, max_depth=depth) for depth in (5, None)],
]


class Mark(Callback):
    """Writes a mark for every training; processes of a search share the file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        with open(self.path, "a") as file:
            file.write("|")


def search(n_jobs: int, remember: bool) -> tuple[float, int, np.ndarray]:
    """Seconds, number of trainings and scores."""
    X, y = load_digits(return_X_y=True)
    with tempfile.TemporaryDirectory() as folder:
        marks = Path(folder) / "marks"
        clf = fixed_length(
            MLPBackbone(6, width=64, hidden=128, dropout=0.0, smooth_clip=None, n_frequencies=0),
            training="joint",
            threshold=0.9,
            calibration=None,
            memory=Path(folder) / "memory" if remember else None,
            callbacks=[Mark(str(marks))],
            random_state=0,
        )
        grid = GridSearchCV(clf, {"head": HEADS}, cv=3, n_jobs=n_jobs, refit=False)
        took = seconds(lambda: grid.fit(X, y))
        return took, len(marks.read_text()), grid.cv_results_["mean_test_score"]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for n_jobs in (1, 2):
        times: dict[bool, list[float]] = {True: [], False: []}
        scores = {}
        for _ in range(args.repeats):
            for remember in times:
                took, n_trainings, scores[remember] = search(n_jobs, remember)
                times[remember].append(took)
                print(f"  n_jobs={n_jobs} memory={remember}: {n_trainings} trainings, {took:.1f} s")
        assert np.array_equal(scores[True], scores[False]), "memory changed a score"
        ratios = np.array(times[False]) / times[True]
        print(
            f"{len(HEADS)} heads, 3 folds, n_jobs={n_jobs}: {np.median(times[True]):.1f} s with "
            f"memory, {np.median(times[False]):.1f} s without; {np.median(ratios):.1f} times as "
            f"fast [{ratios.min():.1f} .. {ratios.max():.1f}]"
        )


if __name__ == "__main__":
    main()

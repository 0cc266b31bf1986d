"""Classifiers in a row against the last of them alone: time, and accuracy on test samples.

For each set and seed, a `CascadeClassifier` of a cheap and an expensive classifier is fitted with
its default operating point, a guarantee that at most 1 % of new samples are lost. The expensive one
is also fitted by itself, to the same samples, and called as scikit-learn users do. The two predict
all test samples in turns, on one thread. The last row of a set is a forest whose first trees answer
easy samples. It is fitted without the held-out samples, which choose the thresholds.

Printed are the share of the samples that reach the last exit, the time of the cascade as
a share of that of the expensive one alone, how much accuracy is lost against it, and the share of
the test samples that are wrong because they exited early; the guarantee allows 1 %.

    python benchmarks/chains.py
    python benchmarks/chains.py --sets spambase --seeds 1
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
from _harness.command import available, make_parser
from _harness.measure import take_turns
from _harness.report import spread, table
from _harness.samples import divide_set
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skearlyexit import CascadeClassifier

PAIRS = {
    "logistic regression, boosting": [
        ("small", make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))),
        ("large", HistGradientBoostingClassifier(random_state=0)),
    ],
    "forest of 20, forest of 500": [
        ("small", RandomForestClassifier(20, random_state=0)),
        ("large", RandomForestClassifier(500, random_state=1)),
    ],
}
TREES = "first 20 and 100 trees of 500"
HEADER = [
    "set",
    "row",
    "last exit, %",
    "time, %",
    "accuracy alone",
    "lost, points",
    "wrong early, %",
]


def pair(title: str, parts: Any, seed: int) -> tuple[Any, Any]:
    """Two classifiers in a row, and the last of them alone; the row holds out what it needs."""
    X, y = (np.concatenate(both) for both in zip(*parts[:2], strict=True))
    clf = CascadeClassifier(PAIRS[title], random_state=seed).fit(X, y)
    return clf, clone(PAIRS[title][-1][1]).fit(X, y)


def trees(title: str, parts: Any, seed: int) -> tuple[Any, Any]:
    """The trees of a forest in a row, and the forest."""
    train, held_out, _ = parts
    forest = RandomForestClassifier(500, random_state=seed).fit(*train)
    clf = CascadeClassifier.from_ensemble(forest, sizes=[20, 100], random_state=seed)
    return clf.fit(*held_out), forest


ROWS: dict[str, Callable[..., tuple[Any, Any]]] = {**dict.fromkeys(PAIRS, pair), TREES: trees}


def figures(title: str, parts: Any, seed: int, turns: int) -> list[float]:
    """Figures of one row for one division of the samples."""
    clf, alone = ROWS[title](title, parts, seed)
    X, y = parts[2]
    times = take_turns({"row": lambda: clf.predict(X), "alone": lambda: alone.predict(X)}, turns)
    labels, exits = clf.predict(X, return_exits=True)
    *_, last = clf.staged_predict(X)
    accuracy = np.mean(alone.predict(X) == y)
    return [
        100 * np.mean(exits == clf.n_exits_ - 1),
        100 * float(np.median(times["row"] / times["alone"])),
        100 * accuracy,
        100 * (accuracy - np.mean(labels == y)),
        100 * np.mean((labels != y) & (last == y)),
    ]


def main() -> None:
    """Measure all rows on the sets of the command line, and print the table."""
    parser = make_parser(__doc__, sets="adult,letter,magic,spambase", seeds=5)
    parser.add_argument("--turns", type=int, default=7, help="repetitions of each measured time")
    args = parser.parse_args()
    rows = []
    for name in available(args.sets):
        divided = [divide_set(name, seed) for seed in range(args.seeds)]
        for title in ROWS:
            found = [figures(title, parts, seed, args.turns) for seed, parts in enumerate(divided)]
            rows.append([name, title, *(spread(column) for column in np.transpose(found))])
            print(*rows[-1], sep=" | ", flush=True)
    print(table(rows, HEADER))


if __name__ == "__main__":
    main()

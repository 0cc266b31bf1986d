"""Classifiers in a row with and without a router: cost, time and accuracy on test samples.

The first is logistic regression, the last a forest of 300 trees, and those between them are forests
of fewer other trees. They are fitted to the training samples, and router and thresholds to the
held-out samples. With the router, a forest between the first and the last is asked only for samples
that are likely enough to exit there.

Printed are, without and with the router, how many of the forests in between are asked for a test
sample, the mean cost in operations as a share of those of the last forest, and the accuracy; and
the time of `predict` with the router as a share of that without, in turns on one thread. Only what
is called is counted, in both: without a router, estimators at which no sample can exit under the
thresholds are not called.

    python benchmarks/router.py
    python benchmarks/router.py --sets letter --seeds 1
"""

from __future__ import annotations

from functools import partial
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
from _harness.command import available, make_parser
from _harness.measure import take_turns
from _harness.report import spread, table
from _harness.samples import divide, divide_set
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skearlyexit import AccuracyDrop, Budget, CascadeClassifier, ExitRouter, RiskControl, Threshold
from skearlyexit.calibration import OperatingPoint

#: Numbers of trees of the forests after logistic regression.
CHAINS = [(100, 300), (10, 30, 100, 300)]
POINTS: list[OperatingPoint] = [
    Threshold(0.9),
    RiskControl(0.01, family="common"),
    AccuracyDrop(0.0),
    Budget(0.2),
]
HEADER = [
    "set",
    "trees",
    "operating point",
    "asked",
    "with router",
    "cost, %",
    "with router",
    "accuracy, %",
    "with router",
    "time, %",
]


def drawn(seed: int) -> tuple[Any, Any, Any]:
    """Samples of 8 classes on which even the last forest is often wrong."""
    X, y = make_classification(
        16_000,
        20,
        n_informative=10,
        n_classes=8,
        n_clusters_per_class=4,
        class_sep=1.2,
        random_state=seed,
    )
    return divide(X, y, seed, sizes=(6000, 6000))


def fitted(train: tuple[Any, Any], seed: int) -> dict[int, Any]:
    """Logistic regression, by 0, and forests, by their numbers of trees."""
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    sizes = sorted({n for chain in CHAINS for n in chain})
    forests = {n: RandomForestClassifier(n, random_state=1000 * n + seed) for n in sizes}
    return {n: clf.fit(*train) for n, clf in {0: linear, **forests}.items()}


def called(clf: CascadeClassifier, X: np.ndarray) -> tuple[float, float]:
    """Mean number of estimators in between that are called for a sample, and the mean cost."""
    exits, thresholds = clf.exit_table(X), clf.thresholds_
    at = exits.exits(thresholds)
    not_called = exits.skipped(thresholds)
    not_called[:, :-1] |= thresholds > 1
    before = np.arange(clf.n_exits_) < at[:, None]
    paid = clf.costs_[at] - (not_called & before) @ clf.cost_table_.savings
    between = np.arange(clf.n_exits_) <= at[:, None]
    between[:, [0, -1]] = False
    return float((between & ~not_called).sum(axis=1).mean()), float(100 * paid.mean())


def figures(
    models: dict[int, Any], chain: tuple[int, ...], point: OperatingPoint, parts: Any, turns: int
) -> list[float]:
    """Figures of one row of estimators at one operating point."""
    _, held_out, (X, y) = parts
    row = [(str(n), FrozenEstimator(models[n])) for n in (0, *chain)]
    pair = {
        name: CascadeClassifier(
            row, router=router, cost="macs", operating_point=point, random_state=0
        ).fit(*held_out)
        for name, router in (("without", None), ("with", ExitRouter()))
    }
    both = [called(clf, X) for clf in pair.values()]
    accuracies = [100 * clf.score(X, y) for clf in pair.values()]
    times = take_turns({name: partial(clf.predict, X) for name, clf in pair.items()}, turns)
    share = 100 * float(np.median(times["with"] / times["without"]))
    return [*(n for n, _ in both), *(cost for _, cost in both), *accuracies, share]


def main() -> None:
    """Measure all rows on the sets of the command line, and print the table."""
    parser = make_parser(__doc__, sets="letter,magic", seeds=2)
    parser.add_argument("--turns", type=int, default=3, help="repetitions of each measured time")
    args, rows = parser.parse_args(), []
    for name in ["drawn", *available(args.sets)]:
        divided = [
            drawn(seed) if name == "drawn" else divide_set(name, seed) for seed in range(args.seeds)
        ]
        models = [fitted(parts[0], seed) for seed, parts in enumerate(divided)]
        for chain in CHAINS:
            for point in POINTS:
                found = [
                    figures(each, chain, point, parts, args.turns)
                    for each, parts in zip(models, divided, strict=True)
                ]
                cells = [spread(column) for column in np.transpose(found)]
                rows.append([name, ", ".join(map(str, chain)), point.description, *cells])
                print(*rows[-1], sep=" | ", flush=True)
    print(table(rows, HEADER))


if __name__ == "__main__":
    main()

"""Time of classifiers in a row that scikit-learn or ONNX Runtime executes.

Logistic regression before a forest, and before boosting, is fitted to the training samples, and
thresholds are chosen on the held-out samples: the cheapest that lose at most half a point. Calls
with 1, 256 and 10,000 test samples take turns on one thread, each turn with other samples, between
`predict` of the last classifier alone, and `predict` and the predictor of the cascade in both
runtimes. Samples are in single precision.

Printed are medians in milliseconds, the share of the test samples that reach the last classifier,
and the share whose label is the same in both runtimes.

    python benchmarks/chain_runtimes.py
    python benchmarks/chain_runtimes.py --sets letter --turns 50
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
from _harness.command import available, make_parser
from _harness.measure import seconds
from _harness.report import table
from _harness.samples import divide_set
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skearlyexit import AccuracyDrop, CascadeClassifier

SIZES = (1, 256, 10_000)
LAST: dict[str, Any] = {
    "forest": RandomForestClassifier(100),
    "boosting": HistGradientBoostingClassifier(early_stopping=False),
}
ROWS = ["last alone", "predict", "predict, ONNX", "predictor", "predictor, ONNX"]
HEADER = ["set", "last", *(f"{n:,} sample(s)" for n in SIZES)]


def fit(last: Any, parts: Any) -> CascadeClassifier:
    """Cascade at its operating point."""
    train, held_out, _ = parts
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    clf = CascadeClassifier(
        [("linear", linear), ("last", last)], cost=[1, 50], calibration=None, random_state=0
    )
    return clf.fit(*train).calibrate(*held_out, operating_point=AccuracyDrop(0.005))


def medians(calls: dict[str, Callable[[Any], Any]], X: np.ndarray, n: int, turns: int) -> list[str]:
    """Median of each function in milliseconds."""
    rng = np.random.RandomState(n)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(turns + 1):
        samples = X[rng.choice(len(X), n, replace=n > len(X))]
        for name in rng.permutation(list(calls)):
            took = seconds(lambda: calls[name](samples))  # noqa: B023 - called at once
            if turn:  # the first is to warm up
                times[name].append(took)
    return [f"{1e3 * np.median(times[name]):.3g}" for name in calls]


def study(name: str, label: str, turns: int) -> list[list[str]]:
    """Lines of a set and a last classifier."""
    train, held_out, (X, _) = divide_set(name, 0)
    X = X.astype(np.float32)
    clf = fit(LAST[label], (train, held_out, None))
    fast = copy.deepcopy(clf).set_params(runtime="onnx")
    labels, exits = clf.predict(X, return_exits=True)
    equal = np.mean(fast.predict(X) == labels)
    print(
        f"{name}, {label}: {100 * exits.mean():.1f} % reach the last, "
        f"{100 * equal:.2f} % equal labels"
    )
    models = [clf.estimators_[-1], clf, fast, clf.to_predictor(), fast.to_predictor()]
    calls = {row: model.predict for row, model in zip(ROWS, models, strict=True)}
    columns = [medians(calls, X, n, max(5, round(turns / n**0.5))) for n in SIZES]
    return [[name, f"{label}, {row}", *cells] for row, *cells in zip(ROWS, *columns, strict=True)]


def main() -> None:
    """Measure all cascades."""
    parser = make_parser(__doc__, sets="pendigits")
    parser.add_argument("--turns", type=int, default=200, help="with one sample")
    args = parser.parse_args()
    lines = [
        line
        for name in available(args.sets)
        for label in LAST
        for line in study(name, label, args.turns)
    ]
    print(f"\n{table(lines, HEADER)}")


if __name__ == "__main__":
    main()

"""Costs of the exits of default classifiers in MACs, in seconds of torch, and of ONNX Runtime.

The exits are those of `EarlyExitClassifier()` on the digits of scikit-learn, as vectors (an MLP)
and as images (a CNN). Printed is the cost of each exit in units of the plain network. For times it
is followed by what the cost table says of exiting there without the heads before, and by what
`predict` takes for this.

    python benchmarks/units.py
"""

from __future__ import annotations

from functools import partial

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
from _harness.command import make_parser
from _harness.measure import take_turns
from sklearn.base import clone
from sklearn.datasets import load_digits

from skearlyexit import EarlyExitClassifier, SecondsCost

SIZES = (256, 1)


def alone(clf: EarlyExitClassifier) -> np.ndarray:
    """Seconds per sample to exit at each exit without the heads before it, by the cost table."""
    table = clf.cost_table_
    own = table.head_costs + table.decision_costs
    return np.cumsum(table.stage_costs) + own


def predict(clf: EarlyExitClassifier, thresholds: np.ndarray, X: np.ndarray) -> None:
    clf.thresholds_ = thresholds
    clf.predict(X)


def measured(clf: EarlyExitClassifier, X: np.ndarray, repeats: int) -> np.ndarray:
    """The same for `predict`."""
    calls = {}
    for exit_ in range(clf.n_exits_):
        thresholds = np.full(clf.n_exits_ - 1, np.inf)
        thresholds[exit_ : exit_ + 1] = 0.0
        calls[exit_] = partial(predict, clf, thresholds, X)
    return np.array([np.median(times) for times in take_turns(calls, repeats).values()]) / len(X)


def shown(values: np.ndarray, digits: int) -> str:
    return "".join(f"{value:>8.{digits}f}" for value in values)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=50)
    args = parser.parse_args()
    X, y = load_digits(return_X_y=True)
    for title, samples in {"MLP": X, "CNN": X.reshape(-1, 8, 8)}.items():
        # The times do not depend on how well the network is trained.
        counted = EarlyExitClassifier(
            calibration=None, max_epochs=1, early_stopping=False, random_state=0
        ).fit(samples, y)
        print(f"{title}, exits after {', '.join(counted.exit_names_)}")
        print(f"  {'MACs':<40}{shown(counted.costs_, 3)}")
        for runtime in ("torch", "onnx"):
            for size in SIZES:
                cost = SecondsCost(size, n_repeats=args.repeats)
                clf = clone(counted).set_params(cost=cost, runtime=runtime)
                clf = clf.set_params(exits=counted.exit_names_[:-1]).fit(samples, y)
                name = f"seconds, {runtime}, {size} samples a call"
                print(f"  {name:<40}{shown(clf.costs_, 3)}")
                print(f"  {'  us by the table':<40}{shown(1e6 * alone(clf), 1)}")
                times = measured(clf, samples[:size], args.repeats)
                print(f"  {'  us of predict':<40}{shown(1e6 * times, 1)}")
        print()


if __name__ == "__main__":
    main()

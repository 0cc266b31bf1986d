"""A forest that asks its first trees first, and predicts the same for all but 1 sample in 1,000.

Forests of 500 trees are fitted on 35 % of a set, and thresholds for `from_ensemble` are chosen on
as many others, with a confidence of 90 % that at most 1 in 1,000 new predictions differs from that
of all trees (``RiskControl(0.001, risk="consistency")``). The score is the difference of the two
largest probabilities, which shows better than the largest one whether later trees change the
prediction; ``--policy`` gives another. The cascade and the forest predict
100,000 rows, which repeat the other samples, in turns on one thread.

    python benchmarks/same_predictions.py
"""

from __future__ import annotations

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
from _harness.command import available, make_parser
from _harness.data import SETS
from _harness.measure import ratio, take_turns
from _harness.report import table
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

from skearlyexit import CascadeClassifier
from skearlyexit.calibration import RiskControl

N_ROWS, SIZES = 100_000, [10, 30, 100]


def compare(name: str, turns: int, policy: str) -> list[str]:
    """Row of the table for a set."""
    X, y = SETS[name].load()
    X, X_held, y, y_held = train_test_split(X, y, train_size=0.35, random_state=0)
    X_held, X_test, y_held, _ = train_test_split(X_held, y_held, train_size=0.54, random_state=0)
    rows = X_test[np.arange(N_ROWS) % len(X_test)]
    forest = RandomForestClassifier(500, random_state=0).fit(X, y)
    clf = CascadeClassifier.from_ensemble(
        forest,
        SIZES,
        policy=policy,
        cost="macs",
        operating_point=RiskControl(0.001, risk="consistency"),
    ).fit(X_held, y_held)
    labels, exits = clf.predict(rows, return_exits=True)
    different = float(np.mean(labels != forest.predict(rows)))
    times = take_turns(
        {"forest": lambda: forest.predict(rows), "cascade": lambda: clf.predict(rows)}, turns
    )
    shares = np.bincount(exits, minlength=clf.n_exits_) / len(exits)
    return [
        SETS[name].title,
        f"{len(X_held):,}",
        f"{1000 * different:.2f}",
        " ".join(f"{100 * share:.0f}" for share in shares),
        f"{clf.costs_[exits].mean():.2f}",
        ratio(times["forest"], times["cascade"])[1],
    ]


def main() -> None:
    """Print a table."""
    parser = make_parser(__doc__, sets="adult,letter,magic")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--policy", default="margin")
    args = parser.parse_args()
    header = [
        "set",
        "held-out samples",
        "different, of 1,000",
        "% that exit after 10, 30, 100, 500 trees",
        "mean cost",
        "times as fast",
    ]
    print(table([compare(name, args.turns, args.policy) for name in available(args.sets)], header))


if __name__ == "__main__":
    main()

"""How well a budget is kept on new samples, also when their distribution shifts.

The calibration and test samples of trained cascades are divided anew for each split. The first set
the thresholds; the second are predicted as they are and after a shift: images rotated by 15 to 30
degrees to either side; tables with classes in other shares, drawn with weights that vary by a
factor of about e, and with noise of a quarter of its standard deviation on every feature. Compared
are

- looked up: ``predict(X, budget=b)``, for all samples at once;
- strict: ``predict(X, budget=Budget(b, strict=True))``, in batches of 256 samples;
- moved: ``predict(X, budget=b)`` on each batch of 256, then ``partial_calibrate`` with it, whose
  own cost is not counted; for all samples, and for the second half of them.

"Largest" is over the splits, of strict budgets over single batches.

    python benchmarks/budgets.py
    python benchmarks/budgets.py --sets letter --splits 2
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
from _harness.cascades import load, splits
from _harness.command import DEFAULT_SETS, available, make_parser, numbers, write_table
from _harness.data import SETS
from _harness.report import table
from _harness.samples import divide_set
from scipy.ndimage import rotate

from skearlyexit import EarlyExitClassifier
from skearlyexit.calibration import Budget

N_BATCH = 256


def shifts(
    name: str, X: np.ndarray, y: np.ndarray, rng: np.random.RandomState
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The samples as they are, and shifted."""
    yield "as calibrated", X, y
    shape = SETS[name].image_shape
    if shape is not None:
        angles = rng.uniform(15, 30, size=len(X)) * rng.choice([-1, 1], size=len(X))
        turned = [
            rotate(row.reshape(shape), angle, reshape=False, order=1).ravel()
            for row, angle in zip(X, angles, strict=True)
        ]
        yield "rotated", np.array(turned, dtype=X.dtype), y
        return
    classes, index = np.unique(y, return_inverse=True)
    weight = np.exp(rng.randn(len(classes)))[index]
    drawn = rng.choice(len(X), size=len(X), p=weight / weight.sum())
    yield "other classes", X[drawn], y[drawn]
    noise = 0.25 * X.std(axis=0) * rng.randn(*X.shape)
    yield "noise", (X + noise).astype(X.dtype), y


def batches(X: np.ndarray) -> Iterator[np.ndarray]:
    """Consecutive samples."""
    for start in range(0, len(X), N_BATCH):
        yield X[start : start + N_BATCH]


def predictions(
    clf: EarlyExitClassifier, X: np.ndarray, budgets: list[float]
) -> dict[tuple[str, float], tuple[np.ndarray, np.ndarray]]:
    """Labels and exits by way and budget; the thresholds of the classifier are changed."""
    found: dict[tuple[str, float], list[Any]] = defaultdict(list)
    for budget in budgets:
        found["looked up", budget].append(clf.predict(X, budget=budget, return_exits=True))
        for batch in batches(X):
            asked = Budget(budget, strict=True)
            found["strict", budget].append(clf.predict(batch, budget=asked, return_exits=True))
    for batch in batches(X):
        for budget in budgets:
            found["moved", budget].append(clf.predict(batch, budget=budget, return_exits=True))
        clf.partial_calibrate(batch)
    joined = {}
    for (way, budget), pairs in found.items():
        labels, exits = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        joined[way, budget] = labels, exits
    return joined


def study(name: str, args: argparse.Namespace) -> str:
    """All splits and shifts of one set."""
    # By shift, budget and way: mean cost, largest cost, accuracy.
    found: dict[tuple[str, float, str], list[tuple[float, float, float]]] = defaultdict(list)
    for seed in range(args.seeds):
        clf = load(name, seed, args.cache).clf
        _, (X_pool, y_pool), (X_test, y_test) = divide_set(name, seed)
        X, y = np.concatenate([X_pool, X_test]), np.concatenate([y_pool, y_test])
        for known, others, rng in splits(seed, len(y_pool), len(y), args):
            new = others[: args.samples]
            for shift, rows, labels in shifts(name, X[new], y[new], rng):
                clf.calibrate(X[known], y[known])
                for (way, budget), (predicted, exits) in predictions(
                    clf, rows, args.budgets
                ).items():
                    costs = clf.costs_[exits]
                    parts = batches(costs) if way == "strict" else [costs]
                    largest = max(float(part.mean()) for part in parts)
                    right = predicted == labels
                    found[shift, budget, way].append((costs.mean(), largest, right.mean()))
                    if way == "moved":
                        late = costs[len(costs) // 2 :].mean()
                        later = right[len(costs) // 2 :].mean()
                        found[shift, budget, "moved, later"].append((late, late, later))
        print(f"  {name}, seed {seed}", flush=True)
    lines = []
    for (shift, budget, way), results in sorted(found.items(), key=_order(found)):
        mean, largest, right = np.array(results).T
        lines.append(
            [
                shift,
                str(budget),
                way,
                f"{mean.mean():.3f}",
                f"{largest.max() - budget:+.4f}",
                f"{np.sum(mean > budget + 1e-9)} of {len(mean)}",
                f"{100 * right.mean():.2f}",
            ]
        )
    header = ["samples", "budget", "way", "mean cost", "largest excess", "splits above", "accuracy"]
    return (
        f"### {SETS[name].title}\n\n{args.splits} splits, {len(known)} calibration and {len(new)} "
        f"test samples.\n\n{table(lines, header)}"
    )


def _order(found: dict[tuple[str, float, str], Any]) -> Any:
    """By shift and way as they came, budgets ascending."""
    firsts = [list(dict.fromkeys(key[i] for key in found)) for i in (0, 2)]
    return lambda item: (firsts[0].index(item[0][0]), item[0][1], firsts[1].index(item[0][2]))


def main() -> None:
    parser = make_parser(__doc__, sets=DEFAULT_SETS, seeds=5, cache=True, output=True)
    parser.add_argument("--budgets", type=numbers, default="0.3,0.5,0.7")
    parser.add_argument("--splits", type=int, default=10, help="of each set, over all seeds")
    parser.add_argument("--samples", type=int, default=2560, help="test samples, at most")
    args = parser.parse_args()
    parts = ["## Budgets kept\n"]
    for name in available(args.sets):
        parts.append(study(name, args))
        print(parts[-1], flush=True)
    write_table(args.output, "budgets", "\n".join(parts))


if __name__ == "__main__":
    main()

"""What early exits save in regression if the error may rise by 1 %, and what else costs as little.

"early exits" is `EarlyExitRegressor` with its default operating point, ``ErrorRise(0.01)``: the
root mean squared error (RMSE) on the calibration samples is at most 1 % above that of its last
exit, with a confidence of 95 %. "rise" is that on test samples, with the lowest and the highest of
the seeds. "change" is the same network with ``policy="change"``. "plain" is the network without
early exits. "smaller" is a plain network of at most the mean cost that "early exits" has on test
samples, the better of two shapes by its error on a fifth of the training samples. "boosting" is
`HistGradientBoostingRegressor`. All have their default parameters otherwise. Errors are those on
test samples, in standard deviations of the target, and costs are in units of the plain network.

    python benchmarks/regression.py
    python benchmarks/regression.py --report
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
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import train_test_split

from skearlyexit import EarlyExitRegressor, MLPBackbone, list_exits

NAMES = "house_value,diamonds,computers,diabetes"
#: Number of training samples and of test samples at most.
N_TRAIN, N_TEST = 8000, 5000
#: Shapes of smaller networks.
SHAPES = [
    MLPBackbone(n_blocks, width=width, hidden=hidden)
    for n_blocks in range(7)
    for width in (16, 32, 48, 64, 80, 96, 128)
    for hidden in (width, 2 * width, 3 * width)
]


def operations(backbone: MLPBackbone, X: np.ndarray) -> float:
    """Multiply-accumulates of a plain network for one sample."""
    return float(list_exits(backbone, X[:4], n_classes=1).costs[-1])


def of_cost(X: np.ndarray, limit: float) -> list[MLPBackbone]:
    """Two shapes of at most a cost, a shallow and a deep one, each the largest of its depth."""
    best: dict[int, tuple[float, MLPBackbone]] = {}
    for backbone in SHAPES:
        cost = operations(backbone, X)
        if best.get(backbone.n_blocks, (0.0, None))[0] < cost <= limit:
            best[backbone.n_blocks] = (cost, backbone)
    # A shape that leaves much of the cost unused is not a fair choice.
    least = 0.8 * max(cost for cost, _ in best.values())
    usable = [best[depth][1] for depth in sorted(best) if best[depth][0] >= least]
    return [usable[i] for i in sorted({0, len(usable) - 1})]


def error(y: np.ndarray, predicted: np.ndarray) -> float:
    """RMSE in standard deviations of the target."""
    return float(np.sqrt(np.mean(np.square(y - predicted))) / y.std())


def smaller(X: np.ndarray, y: np.ndarray, limit: float, seed: int) -> EarlyExitRegressor:
    """Plain network of at most a cost, fitted."""
    plain = EarlyExitRegressor(exits=1, random_state=seed)
    X_fit, X_val, y_fit, y_val = train_test_split(X, y, test_size=0.2, random_state=seed)
    models = [clone(plain).set_params(backbone=shape) for shape in of_cost(X, limit)]
    errors = [error(y_val, model.fit(X_fit, y_fit).predict(X_val)) for model in models]
    return models[int(np.argmin(errors))].fit(X, y)


def run(name: str, seed: int) -> dict[str, Any]:
    """Errors of all models, and costs in units of the plain network."""
    X, y = SETS[name].load()
    y = np.asarray(y, dtype=np.float64)
    n_test = min(N_TEST, len(X) // 4)
    order = np.random.RandomState(seed).permutation(len(X))[: n_test + N_TRAIN]
    test, train = order[:n_test], order[n_test:]
    X_test, y_test, X, y = X[test], y[test], X[train], y[train]

    entry = {}
    with tempfile.TemporaryDirectory() as folder:
        for title, policy in (("early exits", None), ("change", "change")):
            reg = EarlyExitRegressor(policy=policy, memory=folder, random_state=seed).fit(X, y)
            predicted, exits = reg.predict(X_test, return_exits=True)
            *_, last = reg.staged_predict(X_test)
            entry |= {
                title: error(y_test, predicted),
                f"cost of {title}": float(reg.costs_[exits].mean()),
                f"rise of {title}": error(y_test, predicted) / error(y_test, last) - 1,
            }
    entry["last exit"] = error(y_test, last)
    plain = EarlyExitRegressor(exits=1, random_state=seed).fit(X, y)
    whole = operations(MLPBackbone(), X)
    small = smaller(X, y, 1.02 * entry["cost of early exits"] * whole, seed)
    boosting = HistGradientBoostingRegressor(random_state=seed).fit(X, y)
    return {
        **entry,
        "plain": error(y_test, plain.predict(X_test)),
        "smaller": error(y_test, small.predict(X_test)),
        "cost of smaller": operations(small.backbone, X) / whole,
        "boosting": error(y_test, boosting.predict(X_test)),
    }


def report(entries: list[dict[str, Any]]) -> None:
    """Print means over the seeds."""
    lines = []
    for name in dict.fromkeys(entry["set"] for entry in entries):
        chosen = [entry for entry in entries if entry["set"] == name]
        mean = {
            key: float(np.mean([entry[key] for entry in chosen]))
            for key, value in chosen[0].items()
            if isinstance(value, float)
        }
        against = [entry["early exits"] / entry["plain"] - 1 for entry in chosen]
        rises = [entry["rise of early exits"] for entry in chosen]
        lines.append(
            [
                SETS[name].title,
                f"{mean['early exits']:.4f} @ {mean['cost of early exits']:.2f}",
                f"{mean['rise of early exits']:+.1%} ({min(rises):+.1%} to {max(rises):+.1%})",
                f"{100 * np.mean(against):+.1f} %",
                f"{mean['change']:.4f} @ {mean['cost of change']:.2f}",
                f"{100 * mean['rise of change']:+.1f} %",
                f"{mean['plain']:.4f}",
                f"{mean['smaller']:.4f} @ {mean['cost of smaller']:.2f}",
                f"{mean['boosting']:.4f}",
            ]
        )
    header = ["", "early exits", "rise", "against plain", "change", "rise", "plain", "smaller"]
    print(table(lines, [*header, "boosting"]))
    n_seeds = len({entry["seed"] for entry in entries})
    print(f"RMSE in standard deviations of the target @ mean cost; means over {n_seeds} seeds.")


def main() -> None:
    """Run what is missing, and print all results."""
    parser = make_parser(__doc__, sets=NAMES, seeds=10, output=True)
    parser.add_argument("--report", action="store_true", help="only print what is saved")
    args = parser.parse_args()
    path = args.output / "regression.jsonl"
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    report(read_lines(path) if args.report else run_missing(path, args.sets, args.seeds, run))


if __name__ == "__main__":
    main()

"""Early exits against a smaller plain network of the same mean cost.

"early exits" is `EarlyExitClassifier` with a budget of 0.3, "smaller plain" a plain network of at
most the mean cost that the former has on test samples. Both have the same recipe, are trained until
20 epochs (10 for images) bring no improvement, and are tuned by their log loss on a fifth of the
training samples: for tables both over three rates of dropout, and the smaller network, in as many
CPU seconds as the search and training of the other one take, over shapes, from few wide layers to
many narrow ones, and for images over three learning rates. Each is then trained on all training
samples. Differences are paired: both models of a seed have the same training and test samples.
"first exit" and "last exit" are the accuracies of the network with early exits if all samples exit
there.

    python benchmarks/against_smaller.py
    python benchmarks/against_smaller.py --report
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness.command import make_parser
from _harness.data import SETS
from _harness.lines import read_lines, run_missing
from _harness.report import table
from scipy.stats import ttest_rel
from sklearn.base import clone
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from skearlyexit import CNNBackbone, EarlyExitClassifier, MLPBackbone, list_exits

NAMES = (
    "letter,magic,pendigits,satimage,optdigits,spambase,segment,marketing,german,contraceptive,"
    "banana,adult,mnist5k,fashion,mnist"
)
#: Number of training samples and of test samples at most, by the kind of data.
SIZES = {"tabular": (5000, 4000), "image": (2500, 4000)}
#: Shapes of smaller networks, the default ones among them.
SHAPES = {
    "tabular": [
        MLPBackbone(n_blocks, width=width, hidden=hidden)
        for n_blocks in range(7)
        for width in (16, 32, 48, 64, 80, 96, 128)
        for hidden in (width, 2 * width, 3 * width)
    ],
    "image": [
        CNNBackbone([width * 2**i for i in range(n_groups)], n_blocks=n_blocks, stem_stride=stride)
        for stride in ("auto", 4)
        for n_groups in (1, 2, 3)
        for n_blocks in (1, 2, 3, 4)
        for width in (4, 6, 8, 10, 12, 14, 16, 20, 24, 32)
    ],
}
DROPOUT_RATES = (0.05, 0.3)  # besides the default one
LEARNING_RATES = (0.0025, 0.01)  # besides the default one
BUDGET = 0.3
PATIENCE = {"tabular": 20, "image": 10}


def operations(backbone: Any, X: np.ndarray, n_classes: int) -> float:
    """Multiply-accumulates of a plain network for one sample."""
    return float(list_exits(backbone, X[:4], n_classes=n_classes).costs[-1])


def of_cost(backbones: list[Any], X: np.ndarray, n_classes: int, limit: float) -> list[Any]:
    """Shapes of at most a cost, each the largest of its kind; those that differ most first."""
    best: dict[Any, tuple[float, Any]] = {}
    for backbone in backbones:
        cost = operations(backbone, X, n_classes)
        if hasattr(backbone, "widths"):
            kind = (len(backbone.widths), backbone.n_blocks, backbone.stem_stride)
        else:
            kind = (backbone.n_blocks, backbone.hidden / backbone.width)
        if best.get(kind, (0.0, None))[0] < cost <= limit:
            best[kind] = (cost, backbone)
    # A shape that leaves much of the cost unused is not a fair choice.
    least = min(0.8 * limit, max(cost for cost, _ in best.values()))
    usable = [best[kind][1] for kind in sorted(best, key=str) if best[kind][0] >= least]
    first = np.unique(np.linspace(0, len(usable) - 1, 3).round().astype(int))
    return [usable[i] for i in (*first, *np.setdiff1d(np.arange(len(usable)), first))]


def candidates(
    backbones: list[Any], tried: list[tuple[float, int, dict[str, Any]]]
) -> Iterator[dict[str, Any]]:
    """Parameters, best guesses first.

    For images all shapes, then the best one with other learning rates. For tables three shapes, the
    best of them with less dropout, the other shapes, and all that is left.
    """
    if not hasattr(backbones[0], "dropout"):
        yield from ({"backbone": backbone} for backbone in backbones)
        best = min(tried)[2]
        yield from ({**best, "lr": rate} for rate in LEARNING_RATES)
        return
    rates = {
        rate: [{"backbone": clone(backbone).set_params(dropout=rate)} for backbone in backbones]
        for rate in (backbones[0].dropout, *DROPOUT_RATES)
    }
    usual, less, more = rates.values()
    yield from usual[:3]
    best_index = min(tried)[1]
    yield less[best_index]
    better, worse = (less, usual) if min(tried)[1] == len(tried) - 1 else (usual, less)
    yield from better[3:]
    yield from worse[3:]
    yield from (each for i, each in enumerate(less[:3]) if i != best_index)
    yield from more


def search(
    model: Any, backbones: list[Any], X: np.ndarray, y: np.ndarray, seconds: float = np.inf
) -> tuple[dict[str, Any], int]:
    """Parameters with the best log loss on a fifth of the samples, and the number of candidates.

    Candidates are tried as long as one more and the final training fit into the CPU seconds.
    """
    X_train, X_val, y_train, y_val = train_test_split(
        X, y, test_size=0.2, stratify=y, random_state=model.random_state
    )
    start = time.process_time()
    tried: list[tuple[float, int, dict[str, Any]]] = []
    for params in candidates(backbones, tried):
        spent = time.process_time() - start
        # The final training has a quarter more samples.
        if tried and spent + 2.25 * spent / len(tried) > seconds:
            break
        fitted = clone(model).set_params(**params).fit(X_train, y_train)
        outputs = fitted.predict_proba(X_val, threshold=np.inf)
        loss = float(log_loss(y_val, outputs, labels=fitted.classes_))
        tried.append((loss, len(tried), params))
    return min(tried)[2], len(tried)


def run(name: str, seed: int) -> dict[str, Any]:
    """Accuracies of both models, costs in units of the default network, and CPU seconds."""
    data = SETS[name]
    X, y = data.load()
    y = np.unique(y, return_inverse=True)[1]
    if data.image_shape is not None:
        X = X.reshape(-1, *data.image_shape)
    n_train, n_test = SIZES[data.kind]
    n_test = min(n_test, len(X) // 4)
    order = np.random.RandomState(seed).permutation(len(X))[: n_test + n_train]
    test, train = order[:n_test], order[n_test:]
    X_test, y_test, X, y = X[test], y[test], X[train], y[train]

    model = EarlyExitClassifier(
        MLPBackbone() if data.kind == "tabular" else CNNBackbone(),
        budget=BUDGET,
        n_iter_no_change=PATIENCE[data.kind],
        random_state=seed,
    )
    start = time.process_time()
    clf = clone(model)
    if data.kind == "tabular":  # otherwise there is nothing to choose
        without = clone(model).set_params(budget=None, threshold=1.0, calibration=None)
        params, _ = search(without, [model.backbone], X, y)
        clf.set_params(**params)
    clf.fit(X, y)
    cpu = time.process_time() - start
    answers, exits = clf.predict(X_test, return_exits=True)
    staged = [float(np.mean(labels == y_test)) for labels in clf.staged_predict(X_test)]
    mean_cost = float(clf.costs_[exits].mean())

    n_classes = len(clf.classes_)
    whole = operations(clf.backbone, X, n_classes)
    shapes = of_cost(SHAPES[data.kind], X, n_classes, 1.02 * mean_cost * whole)
    start = time.process_time()
    plain = clone(model).set_params(budget=None, exits=1)
    params, n_candidates = search(plain, shapes, X, y, seconds=cpu)
    plain.set_params(**params).fit(X, y)
    cpu_smaller = time.process_time() - start
    return {
        "early exits": float(np.mean(answers == y_test)),
        "cost": mean_cost,
        "first exit": staged[0],
        "last exit": staged[-1],
        "smaller plain": plain.score(X_test, y_test),
        "smaller cost": operations(plain.backbone, X, n_classes) / whole,
        "shape": repr(plain.backbone),
        "candidates": n_candidates,
        "cpu": cpu,
        "cpu smaller": cpu_smaller,
    }


def report(entries: list[dict[str, Any]]) -> None:
    """Print means over the seeds, paired differences and how many sets are better or worse."""
    lines = []
    better, worse = 0, 0
    ratios, counts, costs = [], [], []
    for name in dict.fromkeys(entry["set"] for entry in entries):
        chosen = [entry for entry in entries if entry["set"] == name]
        values = {
            key: np.array([entry[key] for entry in chosen])
            for key, value in chosen[0].items()
            if isinstance(value, float)
        }
        difference = 100 * (values["early exits"] - values["smaller plain"])
        several = len(chosen) > 1 and np.ptp(difference) > 0
        error = difference.std(ddof=1) / np.sqrt(len(chosen)) if several else np.nan
        p_value = ttest_rel(values["early exits"], values["smaller plain"]).pvalue if several else 1
        better += difference.mean() > 0
        worse += difference.mean() < 0 and p_value < 0.05
        ratios.append(values["cpu smaller"].mean() / values["cpu"].mean())
        costs.append(values["smaller cost"].mean() / values["cost"].mean())
        counts.append(np.mean([entry["candidates"] for entry in chosen]))
        lines.append(
            [
                SETS[name].title,
                *(f"{100 * values[key].mean():.2f}" for key in ("first exit", "last exit")),
                f"{100 * values['early exits'].mean():.2f} @ {values['cost'].mean():.2f}",
                f"{100 * values['smaller plain'].mean():.2f} @ {values['smaller cost'].mean():.2f}",
                f"{difference.mean():+.2f} ± {error:.2f}",
                f"{p_value:.3f}",
                f"{values['cpu'].mean():.1f}",
                f"{values['cpu smaller'].mean():.1f}",
            ]
        )
    header = ["", "first exit", "last exit", "early exits", "smaller plain", "difference", "p"]
    print(table(lines, [*header, "CPU s", "CPU s, smaller"]))
    n_seeds = len({entry["seed"] for entry in entries})
    print(
        f"{n_seeds} seeds. Early exits are better on {better} of {len(lines)} sets, and worse "
        f"with p < 0.05 (paired t-test) on {worse}. Search and training of the smaller network "
        f"take {min(ratios):.2f} to {max(ratios):.2f} times as long, for "
        f"{min(counts):.1f} to {max(counts):.1f} candidates. It has {min(costs):.2f} to "
        f"{max(costs):.2f} of the mean cost."
    )


def main() -> None:
    """Run what is missing, and print all results."""
    parser = make_parser(__doc__, sets=NAMES, seeds=5, output=True)
    parser.add_argument("--report", action="store_true", help="only print what is saved")
    args = parser.parse_args()
    path = args.output / "against_smaller.jsonl"
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    report(read_lines(path) if args.report else run_missing(path, args.sets, args.seeds, run))


if __name__ == "__main__":
    main()

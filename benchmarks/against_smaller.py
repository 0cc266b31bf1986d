"""Early exits against a smaller plain network of the same mean cost.

"early exits" is `EarlyExitClassifier` with a budget of 0.3, "smaller plain" a plain network of at
most the mean cost that the former has on test samples. Both have the same recipe, are trained until
20 epochs (10 for images) bring no improvement, and are tuned by their log loss on a fifth of the
training samples: the smaller network over three shapes, from few wide layers to many narrow ones,
and for tables both over two rates of dropout. Each is then trained on all training samples.
Differences are paired: both models of a seed have the same training and test samples. "first exit"
and "last exit" are the accuracies of the network with early exits if all samples exit there.

    python benchmarks/against_smaller.py
    python benchmarks/against_smaller.py --report
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
        for n_blocks in (1, 2)
        for width in (4, 6, 8, 10, 12, 14, 16, 20, 24, 32)
    ],
}
N_SHAPES = 3
DROPOUT = 0.05  # besides the default rate
BUDGET = 0.3
PATIENCE = {"tabular": 20, "image": 10}


def operations(backbone: Any, X: np.ndarray, n_classes: int) -> float:
    """Multiply-accumulates of a plain network for one sample."""
    return float(list_exits(backbone, X[:4], n_classes=n_classes).costs[-1])


def of_cost(backbones: list[Any], X: np.ndarray, n_classes: int, limit: float) -> list[Any]:
    """At most three shapes of at most a cost, each the largest of its depth."""
    best: dict[Any, tuple[float, Any]] = {}
    for backbone in backbones:
        cost = operations(backbone, X, n_classes)
        depth = (len(getattr(backbone, "widths", ())), backbone.n_blocks)
        if best.get(depth, (0.0, None))[0] < cost <= limit:
            best[depth] = (cost, backbone)
    # A shape that leaves much of the cost unused is not a fair choice.
    least = min(0.8 * limit, max(cost for cost, _ in best.values()))
    usable = [best[depth][1] for depth in sorted(best) if best[depth][0] >= least]
    chosen = np.unique(np.linspace(0, len(usable) - 1, N_SHAPES).round().astype(int))
    return [usable[i] for i in chosen]


def tuned(model: Any, backbones: list[Any], X: np.ndarray, y: np.ndarray) -> Any:
    """Backbone with the best log loss on a fifth of the samples; for tables also its dropout."""
    X_train, X_val, y_train, y_val = train_test_split(
        X, y, test_size=0.2, stratify=y, random_state=model.random_state
    )

    def loss(backbone: Any) -> float:
        fitted = clone(model).set_params(backbone=backbone).fit(X_train, y_train)
        outputs = fitted.predict_proba(X_val, threshold=np.inf)
        return float(log_loss(y_val, outputs, labels=fitted.classes_))

    best = min((loss(backbone), i) for i, backbone in enumerate(backbones))
    chosen = backbones[best[1]]
    if not hasattr(chosen, "dropout"):
        return chosen
    less = clone(chosen).set_params(dropout=DROPOUT)
    return less if loss(less) < best[0] else chosen


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
    network = model.backbone
    if data.kind == "tabular":  # otherwise there is nothing to choose
        searched = clone(model).set_params(budget=None, threshold=1.0, calibration=None)
        network = tuned(searched, [network], X, y)
    clf = clone(model).set_params(backbone=network).fit(X, y)
    cpu = time.process_time() - start
    answers, exits = clf.predict(X_test, return_exits=True)
    staged = [float(np.mean(labels == y_test)) for labels in clf.staged_predict(X_test)]
    mean_cost = float(clf.costs_[exits].mean())

    n_classes = len(clf.classes_)
    whole = operations(network, X, n_classes)
    shapes = of_cost(SHAPES[data.kind], X, n_classes, 1.02 * mean_cost * whole)
    start = time.process_time()
    plain = clone(model).set_params(budget=None, exits=1)
    plain.set_params(backbone=tuned(plain, shapes, X, y)).fit(X, y)
    cpu_smaller = time.process_time() - start
    return {
        "early exits": float(np.mean(answers == y_test)),
        "cost": mean_cost,
        "first exit": staged[0],
        "last exit": staged[-1],
        "smaller plain": plain.score(X_test, y_test),
        "smaller cost": operations(plain.backbone, X, n_classes) / whole,
        "shape": repr(plain.backbone),
        "cpu": cpu,
        "cpu smaller": cpu_smaller,
    }


def report(entries: list[dict[str, Any]]) -> None:
    """Print means over the seeds, paired differences and how many sets are better or worse."""
    lines = []
    better, worse, ratios = 0, 0, []
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
        ratios.append(values["cpu"].mean() / values["cpu smaller"].mean())
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
        f"with p < 0.05 (paired t-test) on {worse}. Their search and training take "
        f"{min(ratios):.1f} to {max(ratios):.1f} times as long as those of the smaller network."
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

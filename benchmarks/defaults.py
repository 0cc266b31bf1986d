"""Estimators with their default parameters, on fifteen tables of four sizes.

All of them get standardized features, or the pixels of images, of which `EarlyExitClassifier` gets
the shape. "last exit" is `EarlyExitClassifier()` without early exits, and "early exits" the same
model at its default operating point. Of each set at most 4,000 samples, or a quarter, are test
samples. Peers that are not installed are left out: LightGBM, and of ``pytabkit`` RealMLP,
`RealMLP_TD_S_Classifier`, and TabM, `TabM_D_Classifier`, with their own scaling. TabM takes minutes
for 5,000 samples. A set is in the tables of the sizes for which it has enough samples. Every result
is kept in a file, and a run that was interrupted goes on. "Our fit, times as long" is the median of
the ratios of seconds, with the lowest and highest. Means are those of the blocks, a set and a seed
each, that all models in a table have.

    python benchmarks/defaults.py
    python benchmarks/defaults.py --sizes 1000,5000 --seeds 2 --without TabM
    python benchmarks/defaults.py --sets mnist5k,fashion,mnist --sizes 2500 --seeds 3
    python benchmarks/defaults.py --report
"""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness.command import available, make_parser, numbers
from _harness.data import SETS, DataSet
from _harness.lines import read_lines
from _harness.report import Ranks, table
from _harness.samples import limited
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skearlyexit import EarlyExitClassifier

TABLES = (
    "adult,magic,letter,pendigits,satimage,optdigits,spambase,phoneme,segment,banana,marketing,"
    "house,contraceptive,german,saheart"
)
PEERS = {
    "logistic regression": lambda seed: LogisticRegression(max_iter=1000),
    "boosting": lambda seed: HistGradientBoostingClassifier(random_state=seed),
    "MLP": lambda seed: MLPClassifier(random_state=seed),
    "MLP, early stopping": lambda seed: MLPClassifier(early_stopping=True, random_state=seed),
}
try:
    from lightgbm import LGBMClassifier
except ImportError:
    pass
else:
    PEERS["LightGBM"] = lambda seed: LGBMClassifier(random_state=seed, n_jobs=1, verbose=-1)
try:
    from pytabkit import RealMLP_TD_S_Classifier, TabM_D_Classifier
except ImportError:
    pass
else:
    PEERS["RealMLP"] = lambda seed: RealMLP_TD_S_Classifier(
        device="cpu", random_state=seed, n_threads=1
    )
    PEERS["TabM"] = lambda seed: TabM_D_Classifier(device="cpu", random_state=seed, n_threads=1)
OURS = ("last exit", "early exits")


def measured(probabilities: np.ndarray, classes: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Accuracy and log loss."""
    labels = classes[probabilities.argmax(axis=1)]
    # In single precision, they do not sum to 1 exactly.
    probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    loss = log_loss(y, probabilities, labels=classes)
    return {"accuracy": float(np.mean(labels == y)), "log loss": float(loss)}


def scaled(model: Any, data: DataSet) -> Any:
    """Model of standardized features, or of the pixels of images, which are in [0, 1]."""
    return make_pipeline("passthrough" if data.image_shape else StandardScaler(), model)


def of_peer(make: Any, seed: int, parts: list[np.ndarray], data: DataSet) -> dict[str, float]:
    """Results of another estimator."""
    X, y, X_test, y_test = parts
    model = scaled(make(seed), data)
    start = time.process_time()
    model.fit(X, y)
    cpu = time.process_time() - start
    return {"cpu": cpu, **measured(model.predict_proba(X_test), model.classes_, y_test)}


def of_ours(seed: int, parts: list[np.ndarray], data: DataSet) -> dict[str, dict[str, float]]:
    """Results at the last exit, and at the default operating point."""
    X, y, X_test, y_test = parts
    if data.image_shape:
        X, X_test = (each.reshape(-1, 1, *data.image_shape) for each in (X, X_test))
    model = scaled(EarlyExitClassifier(random_state=seed), data)
    start = time.process_time()
    model.fit(X, y)
    cpu = time.process_time() - start
    last = model.predict_proba(X_test, threshold=np.inf)
    early, exits = model.predict_proba(X_test, return_exits=True)
    classes = model.classes_
    return {
        "last exit": {"cpu": cpu, "cost": 1.0, **measured(last, classes, y_test)},
        "early exits": {
            "cpu": cpu,
            "cost": float(model[-1].costs_[exits].mean()),
            **measured(early, classes, y_test),
        },
    }


def run(path: Path, names: list[str], sizes: list[int], seeds: int, peers: dict[str, Any]) -> None:
    """Add the missing results to a file, one in a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done = {_key(entry) for entry in read_lines(path)}
    with path.open("a") as file:
        for name in names:
            X, y = SETS[name].load()
            for size in sizes:
                for seed in range(seeds):
                    parts = limited(X, y, size, seed)
                    facts = {"set": name, "size": size, "rows": len(parts[0]), "seed": seed}
                    found: dict[str, dict[str, float]] = {}
                    for model, make in peers.items():
                        if _key({**facts, "model": model}) not in done:
                            found[model] = of_peer(make, seed, parts, SETS[name])
                    if _key({**facts, "model": OURS[0]}) not in done:
                        found |= of_ours(seed, parts, SETS[name])
                    for model, result in found.items():
                        entry = {**facts, "model": model, **result}
                        file.write(json.dumps(entry) + "\n")
                        done.add(_key(entry))
                    file.flush()


def _key(entry: dict[str, Any]) -> tuple[Any, ...]:
    # Sizes above that of the set are the same samples.
    return entry["set"], entry["rows"], entry["seed"], entry["model"]


def report(entries: list[dict[str, Any]]) -> None:
    """Print a table for each size, then accuracies for each set."""
    sizes = sorted({entry["size"] for entry in entries})
    for size in sizes:
        report_size([entry for entry in entries if entry["size"] == size], size)


def report_size(entries: list[dict[str, Any]], size: int) -> None:
    """Print means of one size: of complete models, then of all models on the blocks they share."""
    by_model: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {}
    for entry in entries:
        by_model.setdefault(entry["model"], {})[_key(entry)[:3]] = entry
    order = {model: i for i, model in enumerate([*PEERS, *OURS])}
    by_model = {model: by_model[model] for model in sorted(by_model, key=lambda m: order.get(m, 0))}
    blocks = set(by_model[OURS[0]])
    complete = {model: found for model, found in by_model.items() if set(found) >= blocks}
    print(f"## At most {size:,} training samples\n")
    report_blocks(complete, sorted(blocks))
    for model in [model for model in by_model if model not in complete]:
        shared = sorted(blocks & set(by_model[model]))
        print(f"The same on the blocks that {model} has:\n")
        report_blocks({**complete, model: by_model[model]}, shared, by_set=False)


def report_blocks(
    by_model: dict[str, Any], blocks: list[tuple[Any, ...]], by_set: bool = True
) -> None:
    """Print means over blocks, which are a set and a seed each."""
    n_sets = len({block[0] for block in blocks})
    n_seeds = len({block[2] for block in blocks})
    print(f"Means over {n_sets} sets and {n_seeds} seeds, {len(blocks)} blocks.\n")
    models = [*(model for model in by_model if model not in OURS), *OURS]

    def column(model: str, name: str) -> np.ndarray:
        return np.array([by_model[model][block].get(name, np.nan) for block in blocks])

    accuracies = np.array([column(model, "accuracy") for model in models])
    ranks = Ranks.of(accuracies.T).average
    lines = []
    for i, model in enumerate(models):
        cost = column(model, "cost").mean()
        times = column(OURS[0], "cpu") / column(model, "cpu")
        lines.append(
            [
                model,
                f"{100 * accuracies[i].mean():.2f}",
                f"{ranks[i]:.2f}",
                f"{column(model, 'log loss').mean():.3f}",
                "" if np.isnan(cost) else f"{cost:.2f}",
                f"{column(model, 'cpu').mean():.2f}",
                ""
                if model in OURS
                else f"{np.median(times):.2g} [{times.min():.2g} .. {times.max():.2g}]",
            ]
        )
    header = ["", "accuracy in %", "mean rank", "log loss", "mean cost", "CPU s of fit"]
    header.append("our fit, times as long")
    print(table(lines, header))
    lines = []
    for name in sorted({block[0] for block in blocks}) if by_set else []:
        chosen = [i for i, block in enumerate(blocks) if block[0] == name]
        cells = [f"{100 * accuracies[i, chosen].mean():.1f}" for i in range(len(models))]
        cost = column("early exits", "cost")[chosen].mean()
        lines.append([SETS[name].title, *cells, f"{cost:.2f}"])
    if by_set:
        print("Accuracy in %, and mean cost with early exits\n")
        print(table(lines, ["", *models, "cost"]))


def main() -> None:
    """Run the comparison, and print it."""
    parser = make_parser(__doc__, sets=TABLES, seeds=5, output=True)
    parser.add_argument("--sizes", type=numbers, default="500,1000,5000,30000")
    parser.add_argument("--without", default="", help="peers to leave out, separated by commas")
    parser.add_argument("--report", action="store_true", help="only print what is saved")
    args = parser.parse_args()
    path = args.output / "defaults.jsonl"
    torch.set_num_threads(1)
    left_out = args.without.split(",")
    if not args.report:
        warnings.simplefilter("ignore")
        peers = {name: make for name, make in PEERS.items() if name not in left_out}
        run(path, available(args.sets), [int(size) for size in args.sizes], args.seeds, peers)
    report([entry for entry in read_lines(path) if entry["model"] not in left_out])


if __name__ == "__main__":
    main()

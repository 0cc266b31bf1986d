"""Neural against classical heads at every exit of one network.

For each seed one backbone is trained without exits ("frozen"), and another jointly with linear
heads at its exits ("joint"); all the heads are fitted on each of them, one kind after the other.
Classical heads are fitted on the frozen embeddings of the training samples; "x3" after a name means
that these are cross-fitted in three folds. Neural heads on the frozen backbone are trained for as
many epochs as it was; with MLP heads the last head is linear, for the same backbone.

Accuracies are those of the test samples if all of them exited there. Costs are multiply-accumulates
in units of the network with its linear head. The operating point is chosen on validation samples:
the cheapest that loses at most 0.2 points against the last exit with its linear head. Times are of
`predict` with all samples exiting at the first exit, on one thread: one sample, and 1,000 samples.

    python benchmarks/heads.py --sets mnist5k,letter --seeds 3
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness.command import available, make_parser, write_table
from _harness.data import SETS
from _harness.measure import repeated, seconds
from _harness.networks import fixed_length
from _harness.report import spread, table
from _harness.samples import divide
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import CNNBackbone, EarlyExitClassifier, MLPBackbone
from skearlyexit.calibration import CalibrationData, compute_frontier
from skearlyexit.heads import EstimatorHead

TREE = DecisionTreeClassifier(min_samples_leaf=10)
FOREST = RandomForestClassifier(50, min_samples_leaf=2)
HEADS = {
    "linear": "linear",
    "MLP": "mlp",
    "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
    "tree": TREE,
    "tree x3": EstimatorHead(TREE, cross_fit=3),
    "forest": FOREST,
    "forest x3": EstimatorHead(FOREST, cross_fit=3),
    "boosting": HistGradientBoostingClassifier(max_iter=20, early_stopping=False),
    "SVM": make_pipeline(StandardScaler(), SVC(C=5)),
    "neighbors": make_pipeline(StandardScaler(), KNeighborsClassifier(10, weights="distance")),
}

#: Settings of the network by kind of data, and the names of its exits.
NETWORKS: dict[str, dict[str, Any]] = {
    "image": {
        "backbone": CNNBackbone((16, 32, 64), n_blocks=1, image_shape=(28, 28), stem_stride=2),
        "exits": ["stem", "group1.block1", "group2.block1"],
    },
    "tabular": {
        "backbone": MLPBackbone(6, width=128, hidden=256, dropout=0.0, smooth_clip=None),
        "exits": ["stem", "block1", "block2", "block4"],
    },
}


def fit(
    network: dict[str, Any], head: Any, training: str, train: Any, seed: int, folder: str, args: Any
) -> tuple[EarlyExitClassifier, float]:
    """Fitted classifier, and the seconds that its heads took."""
    n_exits = len(network["exits"]) + 1
    # Another neural head at the end would train another backbone.
    heads = [head] * (n_exits - 1) + ["linear"] if head == "mlp" else [head] * n_exits
    # Heads that are trained after the backbone take epochs of their own.
    two_phases = training == "separate" and head in ("linear", "mlp")
    clf = fixed_length(
        **network,
        head=heads,
        training=training,
        calibration=None,
        max_epochs=args.epochs * (2 if two_phases else 1),
        memory=folder,
        random_state=seed,
    )
    return clf, seconds(lambda: clf.fit(*train))


def study(
    clf: EarlyExitClassifier, fit_seconds: float, validation: Any, test: Any, unit: float, goal: Any
) -> dict[str, Any]:
    """All numbers of one classifier; `goal` is the accuracy to keep on validation samples."""
    costs = clf.costs_ * clf.cost_table_.plain / unit
    y_val = np.searchsorted(clf.classes_, validation[1])
    data = CalibrationData.from_table(clf.exit_table(validation[0]), y_val, costs)
    frontier = compute_frontier(data)
    goal = data.correct[:, -1].mean() - 0.002 if goal is None else goal
    outputs = clf.exit_table(test[0])
    correct = clf.classes_[outputs.labels] == test[1][:, None]
    exits = outputs.exits(frontier.thresholds[frontier.at_accuracy(goal)])
    first = partial(clf.predict, threshold=0)
    return {
        "goal": goal,
        "alone": correct.mean(axis=0),
        "head_costs": clf.cost_table_.head_costs / unit,
        "costs": costs,
        "accuracy": correct[np.arange(len(exits)), exits].mean(),
        "cost": costs[exits].mean(),
        "fit": fit_seconds,
        "one": np.median(repeated(partial(first, test[0][:1]), 50)),
        "thousand": np.median(repeated(partial(first, test[0][:1000]), 5)),
    }


def study_seed(name: str, seed: int, args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Numbers of all heads on both backbones of a seed."""
    data = SETS[name]
    network = NETWORKS[data.kind]
    X, y = data.load()
    if data.n_test:  # some samples of the largest sets
        chosen = np.random.RandomState(seed).permutation(len(X))[: args.samples]
        X, y = X[chosen], y[chosen]
    train, validation, test = divide(X, y, seed)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for training in ("separate", "joint"):
            unit, goal = None, None
            for label, head in HEADS.items():
                if training == "joint" and head == "mlp":
                    continue  # trained jointly, it would make another backbone
                clf, fit_seconds = fit(network, head, training, train, seed, folder, args)
                unit = clf.cost_table_.plain if unit is None else unit
                result = study(clf, fit_seconds, validation, test, unit, goal)
                goal = result["goal"]
                found[f"{training}, {label}"] = result
                alone = " ".join(f"{100 * value:6.2f}" for value in result["alone"])
                print(
                    f"  {name} seed {seed} {training:>8} {label:<11} {alone}   "
                    f"{100 * result['accuracy']:.2f} at {result['cost']:.3f}   "
                    f"fit {fit_seconds:.1f} s",
                    flush=True,
                )
    return found


def report(name: str, found: list[dict[str, dict[str, Any]]]) -> str:
    """Markdown of the means over seeds."""
    costs = found[0]["separate, linear"]["costs"]
    rows = []
    for label in found[0]:
        results = [each[label] for each in found]
        alone = 100 * np.array([result["alone"] for result in results])

        def mean(key: str, results: Any = results) -> float:
            return float(np.mean([result[key] for result in results]))

        first = np.mean([result["head_costs"][0] for result in results])
        rows.append(
            [
                label,
                *(spread(column, 1) for column in alone.T),
                f"{first:.3f}",
                f"{100 * mean('accuracy'):.2f} at {mean('cost'):.2f}",
                "with the network" if label.endswith((" linear", " MLP")) else f"{mean('fit'):.1f}",
                f"{1e3 * mean('one'):.2f}",
                f"{1e3 * mean('thousand'):.1f}",
            ]
        )
    header = ["backbone, heads", *NETWORKS[SETS[name].kind]["exits"], "end"]
    header += ["head's cost, first exit", "accuracy at cost", "heads' fit, s", "one sample, ms"]
    listed = ", ".join(f"{cost:.2f}" for cost in costs)
    return (
        f"**{SETS[name].title}**, {len(found)} seeds; exits cost {listed} with linear heads\n\n"
        + table(rows, [*header, "1,000 samples, ms"])
    )


def main() -> None:
    parser = make_parser(__doc__, sets="mnist5k,letter", seeds=3, output=True)
    parser.add_argument("--epochs", type=int, default=20, help="of the backbone")
    parser.add_argument("--samples", type=int, default=10_000, help="at most, of the largest sets")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in available(args.sets):
        text = report(name, [study_seed(name, seed, args) for seed in range(args.seeds)])
        print("\n" + text)
        write_table(args.output, f"heads-{name}", text)


if __name__ == "__main__":
    main()

"""Early exits on Letter against the plain network and smaller plain ones.

The backbone is 16 -> 128 and six residual blocks 128 -> 256 -> 128. Training, validation and test
rows are 60, 15 and 25 %. Thresholds and the choice among smaller networks use validation rows only;
every number printed is from the test rows. Costs are multiply-accumulates in units of the plain
network with its linear head, whatever head stands at the exits.

    python benchmarks/letter.py --seeds 5
    python benchmarks/letter.py --seeds 5 --heads linear
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from _data import Arrays, load_letter, split
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import AccuracyDrop, Budget, EarlyExitClassifier, MLPBackbone, RiskControl
from skearlyexit.calibration import Evidence, compute_frontier

BACKBONE = MLPBackbone(6, width=128, hidden=256)

#: What is asked of the validation rows. The claims are about the first.
CLAIMED = "budget 0.30"
POINTS = {
    CLAIMED: Budget(0.30),
    "budget 0.25": Budget(0.25),
    "budget 0.20": Budget(0.20),
    "drop 0.2 %": AccuracyDrop(0.002),
    "risk 0.5 %": RiskControl(0.005),
}

#: A fully grown tree is always sure of itself, so that nobody would go on; hence the leaves of 10.
HEADS = {
    "linear": None,
    "tree": DecisionTreeClassifier(min_samples_leaf=10),
    "forest": RandomForestClassifier(n_estimators=50),
    "svm": make_pipeline(StandardScaler(), SVC(C=10)),
}

#: Blocks and width of the smaller networks, whose inner size follows from their cost.
SMALLER = [(6, 128), (6, 64), (3, 128), (2, 128)]


@dataclass
class Results:
    """Accuracy and cost of every model, by seed."""

    accuracy: dict[str, dict[int, float]] = field(default_factory=dict)
    cost: dict[str, dict[int, float]] = field(default_factory=dict)

    def add(self, name: str, seed: int, accuracy: float, cost: float) -> None:
        """Store one model's numbers."""
        self.accuracy.setdefault(name, {})[seed] = accuracy
        self.cost.setdefault(name, {})[seed] = cost
        print(f"  seed {seed}  {name:<28} accuracy {accuracy:.4f}  cost {cost:.3f}", flush=True)

    def difference(self, name: str, other: str) -> dict[int, float]:
        """Accuracy minus that of another model, seed by seed."""
        mine, theirs = self.accuracy[name], self.accuracy[other]
        return {seed: mine[seed] - theirs[seed] for seed in mine}


def fit(
    args: argparse.Namespace, seed: int, train: Arrays, backbone: MLPBackbone, **params: Any
) -> EarlyExitClassifier:
    """Train a model, with nothing held out."""
    start = time.perf_counter()
    clf = EarlyExitClassifier(
        backbone,
        calibration=None,
        max_epochs=args.epochs,
        n_jobs=args.jobs,
        random_state=seed,
        **params,
    ).fit(*train)
    print(f"  seed {seed}  fitted in {time.perf_counter() - start:.0f} s", flush=True)
    return clf


def smaller_backbone(n_blocks: int, width: int, macs: float) -> MLPBackbone:
    """Network of at least this cost, by the least inner size that reaches it."""
    hidden = (macs - width * (16 + 26)) / (2 * n_blocks * width)
    return MLPBackbone(n_blocks, width=width, hidden=16 * max(1, math.ceil(hidden / 16)))


def study_smaller(
    args: argparse.Namespace, seed: int, parts: Sequence[Arrays], macs: float, unit: float
) -> tuple[float, float, str]:
    """Test accuracy, cost and name of the smaller network that is best on validation rows."""
    train, validation, test = parts
    found = []
    for n_blocks, width in SMALLER:
        backbone = smaller_backbone(n_blocks, width, macs)
        clf = fit(args, seed, train, backbone, exits=1, training="joint")
        name = f"{n_blocks} blocks {width}-{backbone.hidden}-{width}"
        score, cost = clf.score(*validation), clf.plain_macs_ / unit
        print(f"  seed {seed}  {name:<28} validation {score:.4f}  cost {cost:.3f}", flush=True)
        found.append((score, clf.score(*test), cost, name))
    return max(found, key=lambda entry: entry[0])[1:]


def study_exits(
    args: argparse.Namespace,
    seed: int,
    parts: Sequence[Arrays],
    head: str,
    results: Results,
    unit: float,
) -> np.ndarray:
    """Early exits with one kind of head; returns the test accuracy of every exit alone."""
    train, (X_val, y_val), (X_test, y_test) = parts
    clf = fit(
        args, seed, train, BACKBONE, exits=args.exits, head=HEADS[head], training=args.training
    )
    costs = clf.costs_ * clf.plain_macs_ / unit
    # The tables are what predict gives; computed once, they serve for all operating points.
    encoded = np.searchsorted(clf.classes_, y_val)
    evidence = Evidence.from_table(clf.exit_table(X_val), encoded, costs)
    frontier = compute_frontier(evidence)
    table = clf.exit_table(X_test)
    correct = clf.classes_[table.labels] == y_test[:, None]
    for name, point in POINTS.items():
        try:
            thresholds = point.calibrate(evidence, frontier).thresholds
        except ValueError:
            print(f"  seed {seed}  {head}, {name}: below the first exit's cost {costs[0]:.3f}")
            continue
        exits = table.leave(thresholds)
        right = correct[np.arange(len(exits)), exits]
        results.add(f"{head}, {name}", seed, right.mean(), costs[exits].mean())
        if head == "linear" and name == CLAIMED:
            labels = clf.predict(X_test, threshold=thresholds)
            assert np.array_equal(labels == y_test, right), "predict differs from the exit table"
    results.add(f"{head}, last exit", seed, correct[:, -1].mean(), costs[-1])
    return correct.mean(axis=0)


def study_seed(
    args: argparse.Namespace, seed: int, data: Arrays, results: Results
) -> dict[str, np.ndarray]:
    """All models of one seed."""
    parts = split(*data, seed)
    plain = fit(args, seed, parts[0], BACKBONE, exits=1, training="joint")
    unit = plain.plain_macs_
    results.add("plain", seed, plain.score(*parts[2]), 1.0)
    alone = {}
    for head in args.heads:
        if head == "linear" or seed < args.head_seeds:
            alone[head] = study_exits(args, seed, parts, head, results, unit)
    if "linear" in args.heads:
        macs = results.cost[f"linear, {CLAIMED}"][seed] * unit
        accuracy, cost, name = study_smaller(args, seed, parts, macs, unit)
        print(f"  seed {seed}  best smaller network on validation rows: {name}")
        results.add("smaller plain", seed, accuracy, cost)
    return alone


def print_results(results: Results) -> None:
    print("\nTest rows. Accuracy in %, differences to plain in points, seed by seed; mean +- std")
    print(f"{'model':<24}{'accuracy':>16}{'mean cost':>18}{'to plain':>10}   by seed")
    for name, by_seed in results.accuracy.items():
        accuracy, cost = 100 * np.array([*by_seed.values()]), [*results.cost[name].values()]
        points = 100 * np.array([*results.difference(name, "plain").values()])
        each = " ".join(f"{point:+.2f}" for point in points)
        print(
            f"{name:<24}{accuracy.mean():>8.2f} +- {accuracy.std():.2f}"
            f"{np.mean(cost):>10.3f} +- {np.std(cost):.3f}{points.mean():>+10.2f}   {each}"
        )


def print_exits(alone: list[dict[str, np.ndarray]]) -> None:
    print("\nTest accuracy of each exit alone, in %, mean over seeds")
    for head in alone[0]:
        values = np.mean([found[head] for found in alone if head in found], axis=0)
        print(f"{head:<24}" + "".join(f"{100 * value:>8.2f}" for value in values))


def print_claims(results: Results) -> None:
    if "smaller plain" not in results.accuracy:
        return
    ours = f"linear, {CLAIMED}"
    to_plain = 100 * np.mean([*results.difference(ours, "plain").values()])
    cost = np.mean([*results.cost[ours].values()])
    gains = 100 * np.array([*results.difference(ours, "smaller plain").values()])
    print()
    print_claim(
        to_plain >= -0.3 and cost <= 0.30,
        "at most 0.3 points under plain at mean cost <= 0.30: "
        f"{to_plain:+.2f} points at {cost:.3f}",
    )
    print_claim(
        gains.mean() > 0,
        "above the smaller plain network of the same cost: "
        f"{gains.mean():+.2f} points, above in {np.sum(gains > 0)} of {len(gains)} seeds",
    )


def print_claim(holds: bool, text: str) -> None:
    print(f"{'PASS' if holds else 'FAIL'}  {text}")


def names(text: str) -> list[str]:
    """Comma-separated names."""
    return [name for name in text.split(",") if name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--head-seeds", type=int, default=1, help="seeds of heads but the linear")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--heads", type=names, default=[*HEADS], help=f"some of {','.join(HEADS)}")
    parser.add_argument(
        "--exits",
        type=names,
        default=[f"block{i}" for i in range(1, 7)],
        help="blocks with an exit, such as stem,block1,block3; the last always has one",
    )
    parser.add_argument("--training", default="mixed", help="of the networks with exits")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--jobs", type=int, default=None, help="scikit-learn heads fitted at once")
    args = parser.parse_args()
    unknown = set(args.heads) - set(HEADS)
    if unknown:
        parser.error(f"unknown heads {sorted(unknown)}; there are {[*HEADS]}")
    torch.set_num_threads(args.threads)

    data = load_letter()
    results = Results()
    alone = [study_seed(args, seed, data, results) for seed in range(args.seeds)]
    print_results(results)
    print_exits(alone)
    print_claims(results)


if __name__ == "__main__":
    main()

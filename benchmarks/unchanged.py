"""Whether a change of the code changes any prediction: outputs of many configurations, bit by bit.

Each configuration is fitted, and hashes of its results are kept: labels, probabilities and exits
under several operating points, outputs and scores of every exit, costs, thresholds, the frontier
and the losses of training. A change that is meant to move code only must keep all of them, on the
same machine and with the same libraries.

    python benchmarks/unchanged.py record before.json
    python benchmarks/unchanged.py compare before.json
"""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness.command import make_parser
from sklearn.datasets import load_digits, make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

import skearlyexit as see
from skearlyexit import calibration, experimental

MLP = see.MLPBackbone(3, width=32, hidden=32)


def _table() -> tuple[np.ndarray, ...]:
    X, y = make_classification(
        900, 13, n_informative=7, n_redundant=0, n_classes=4, flip_y=0.05, random_state=0
    )
    return X[:500], y[:500], X[500:], y[500:]


def _images() -> tuple[np.ndarray, ...]:
    X, y = load_digits(return_X_y=True)
    X = X.reshape(-1, 1, 8, 8)
    return X[:700], y[:700], X[700:1100], y[700:1100]


def _series() -> tuple[np.ndarray, ...]:
    X, y, X_test, y_test = _images()
    return X[:, 0], y, X_test[:, 0], y_test


def _module() -> torch.nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Linear(13, 24),
            torch.nn.ReLU(inplace=True),
            torch.nn.Linear(24, 24),
            torch.nn.ReLU(inplace=True),
            torch.nn.Linear(24, 4),
        )


TRAININGS: dict[str, Any] = {
    name: name
    for name in (
        *("joint", "separate", "mixed", "distillation", "layerwise", "local_error", "freeze_out"),
        *("auxiliary", "combined", "combiner"),
    )
} | {
    "gated": see.GatedTraining(),
    "bottleneck": experimental.BottleneckTraining(),
    "target": experimental.TargetTraining(),
    "reinforced": experimental.ReinforcedTraining(),
    "ramp": see.JointTraining("ramp"),
    "feedback": see.LocalErrorTraining("feedback"),
    "similarity": see.LocalErrorTraining("similarity"),
}
HEADS: dict[str, Any] = {
    "mlp": "mlp",
    "logistic": LogisticRegression(max_iter=200),
    "svm": make_pipeline(StandardScaler(), SVC()),
    "forest": RandomForestClassifier(10),
    "boosting": HistGradientBoostingClassifier(max_iter=5),
    "neighbors": KNeighborsClassifier(),
    "tree": see.EstimatorHead(DecisionTreeClassifier(max_depth=4), cross_fit=2),
    "mixed": [DecisionTreeClassifier(max_depth=3), "mlp", "linear"],
}
POLICIES: dict[str, Any] = {
    name: name
    for name in ("entropy", "margin", "patience", "learned", "cost_sensitive", "scheduled")
} | {
    "forest": see.LearnedConfidencePolicy(RandomForestClassifier(10)),
    "reinforced": experimental.ReinforcedPolicy(max_iter=20),
}
COMBINATIONS = ("most_confident", "mean", "product", "geometric", "own", "max", "cost_weighted")
POINTS: dict[str, Any] = {
    "budget": see.Budget(0.7),
    "strict": see.Budget(0.7, strict=True),
    "drop": see.AccuracyDrop(0.02),
    "target": see.TargetAccuracy(0.5),
    "feedback": see.TargetAccuracy(0.5, method="feedback"),
    "risk": see.RiskControl(0.2),
    "consistency": see.RiskControl(0.3, risk="consistency", method="ucb"),
    "conformal": see.ConformalRiskControl(0.1),
    "hand": see.Threshold([0.6, 0.8]),
}
PLACEMENTS: dict[str, Any] = {
    "golden": see.CostShare(3, schedule="golden"),
    "named": ["stem", -2],
    "one": 1,
    "test": see.EfficiencyTest(),
    "greedy": see.GreedyPlacement(),
    "adaptive": see.AdaptivePlacement(),
    "exact": see.ExactPlacement(2, budget=0.8),
}
OTHERS: dict[str, dict[str, Any]] = {
    "default": {"backbone": None, "exits": 4},
    "float64": {"dtype": "float64"},
    "early stopping": {"early_stopping": True},
    "folds": {"calibration": 3},
    "no calibration": {"calibration": None, "threshold": 0.8},
    "temperature": {"temperature_scaling": True},
    "balanced": {"class_weight": "balanced"},
    "bytes": {"cost": "bytes"},
    "module": {"backbone": _module(), "exits": [1]},
    "own head": {
        "backbone": _module(),
        "exits": [1],
        "training": "separate",
        "head": ["mlp", "own"],
    },
    "gates": {"training": "gated", "policy": "gate", "combine": "own"},
}


def configurations() -> dict[str, tuple[dict[str, Any], Any]]:
    """Parameters and data by name."""
    found = {f"training {name}": ({"training": each}, _table) for name, each in TRAININGS.items()}
    found |= {f"head {name}": ({"head": each}, _table) for name, each in HEADS.items()}
    found |= {f"policy {name}": ({"policy": each}, _table) for name, each in POLICIES.items()}
    found |= {f"combine {name}": ({"combine": name}, _table) for name in COMBINATIONS}
    found |= {f"point {name}": ({"operating_point": each}, _table) for name, each in POINTS.items()}
    found |= {
        f"exits {name}": ({"exits": each, "backbone": see.MLPBackbone(5, width=16)}, _table)
        for name, each in PLACEMENTS.items()
    }
    found |= {f"other {name}": (params, _table) for name, params in OTHERS.items()}
    found["images"] = {"backbone": see.CNNBackbone((6, 12), n_blocks=1), "exits": 2}, _images
    for name, backbone in (
        ("recurrent", see.RecurrentBackbone(width=16)),
        ("layers", see.RecurrentBackbone("gru", n_layers=2, exits_along="layers", width=16)),
        ("conv1d", see.Conv1DBackbone((8, 12), n_blocks=1)),
        ("transformer", see.TransformerBackbone(2, width=16)),
    ):
        found[f"series {name}"] = {"backbone": backbone, "exits": 2, "max_epochs": 2}, _series
    return found


def results(params: dict[str, Any], data: Any) -> dict[str, str]:
    """Hashes of all results of a configuration."""
    X, y, X_test, y_test = data()
    settings = {"backbone": MLP, "exits": 3, "max_epochs": 4, "calibration": 0.3, "random_state": 0}
    clf = see.EarlyExitClassifier(**{**settings, **params}).fit(X, y)
    arrays: dict[str, Any] = {"costs": clf.costs_, "thresholds": clf.thresholds_}
    arrays["names"] = clf.exit_names_
    arrays["losses"] = [epoch["train_loss"] for epoch in clf.history_]
    table = clf.exit_table(X_test)
    arrays |= {"probabilities": table.probabilities, "scores": table.scores}
    arrays["embedding"] = clf.embed(X_test, 0)
    calls: dict[str, dict[str, Any]] = {"default": {}, "threshold": {"threshold": 0.6}}
    if clf.frontier_ is not None:
        arrays["frontier"] = np.column_stack([clf.frontier_.costs, clf.frontier_.accuracies])
        arrays["frontier thresholds"] = clf.frontier_.thresholds
        budget = float(clf.costs_.mean())
        calls |= {"budget": {"budget": budget}}
        calls |= {"strict": {"budget": calibration.Budget(budget, strict=True)}}
    for name, arguments in calls.items():
        labels, exits = clf.predict(X_test, **arguments, return_exits=True)
        arrays |= {f"{name} labels": labels, f"{name} exits": exits}
        arrays[f"{name} proba"] = clf.predict_proba(X_test, **arguments)
    report = clf.exit_report(X_test, y_test)
    arrays["report"] = [report.overall.accuracy, report.overall.mean_cost, *report.exits.reach_rate]
    return {name: _hash(values) for name, values in arrays.items()}


def _hash(values: Any) -> str:
    array = np.ascontiguousarray(values)
    return hashlib.sha1(f"{array.dtype.kind}{array.shape}".encode() + array.tobytes()).hexdigest()


def main() -> None:
    """Record results, or compare them with recorded ones."""
    parser = make_parser(__doc__)
    parser.add_argument("action", choices=["record", "compare"])
    parser.add_argument("path", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    found = {name: results(*each) for name, each in configurations().items()}
    n_hashes = sum(map(len, found.values()))
    if options.action == "record":
        options.path.write_text(json.dumps(found, indent=1))
        print(f"{len(found)} configurations, {n_hashes} hashes")
        return
    before = json.loads(options.path.read_text())
    other = {
        name: sorted(key for key in each if each[key] != before.get(name, {}).get(key))
        for name, each in found.items()
    }
    for name, keys in other.items():
        if keys:
            print(f"{name}: {', '.join(keys)}")
    n_other = sum(map(len, other.values()))
    print(f"{len(found)} configurations, {n_hashes} hashes, {n_other} differ")
    sys.exit(bool(n_other) or before.keys() != found.keys())


if __name__ == "__main__":
    main()

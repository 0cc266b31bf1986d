"""Time of `predict` with scikit-learn heads, in torch and in ONNX Runtime.

One residual MLP of six blocks is trained with linear heads, and kept; each kind of head is fitted
on its embeddings. Thresholds are chosen on validation samples: the cheapest that lose at most half
a point against the last exit. Accuracy, cost, exit rates and times are those of the test samples.

Calls with 1, 256 and 10,000 samples take turns between the runtimes, each turn with other test
samples. Times are medians; ratios are medians over the turns of the time with ``runtime="torch"``,
where scikit-learn computes the heads, to that with ``runtime="onnx"``, with quartiles: above 1,
ONNX Runtime is faster. What cannot be exported is printed with the reason.

    python benchmarks/estimator_heads.py
    python benchmarks/estimator_heads.py --heads forest,SVM --turns 200
    python benchmarks/estimator_heads.py --print
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from functools import partial
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness.command import available, make_parser, some_of
from _harness.data import SETS
from _harness.measure import ratio, seconds
from _harness.networks import fixed_length
from _harness.raw import Raw, print_facts, saved_or_run
from _harness.report import table
from _harness.samples import divide, subsample
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import AccuracyDrop, EarlyExitClassifier, MLPBackbone
from skearlyexit.runtime import ExportError

HEADS: dict[str, Any] = {
    "linear": "linear",
    "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
    "tree": DecisionTreeClassifier(min_samples_leaf=10),
    "forest": RandomForestClassifier(50, min_samples_leaf=2),
    "hist boosting": HistGradientBoostingClassifier(max_iter=20, early_stopping=False),
    "boosting": GradientBoostingClassifier(n_estimators=20, max_features="sqrt"),
    "SVM": make_pipeline(StandardScaler(), SVC(C=5)),
}
SIZES = (1, 256, 10_000)
RUNTIMES = ("torch", "onnx")


def fit(head: Any, parts: Any, folder: str, args: Any) -> EarlyExitClassifier:
    """Classifier with one kind of head, at its operating point."""
    train, validation, _ = parts
    clf = fixed_length(
        MLPBackbone(6, width=128, hidden=256, dropout=0.0, smooth_clip=None, n_frequencies=0),
        exits=["stem", "block1", "block2", "block4"],
        head=[head] * 5,
        training="joint",
        calibration=None,
        max_epochs=args.epochs,
        memory=folder,
        random_state=0,
    )
    clf.fit(*train)
    return clf.calibrate(*validation, operating_point=AccuracyDrop(0.005))


def measure_times(
    models: dict[str, EarlyExitClassifier], X: np.ndarray, n: int, turns: int
) -> dict[str, list[float]]:
    """Seconds of every turn, each with other samples."""
    rng = np.random.RandomState(n)
    times: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(turns + 1):
        samples = X[rng.choice(len(X), n, replace=n > len(X))]
        for name in rng.permutation(list(models)):
            took = seconds(partial(models[name].predict, samples))
            if turn:  # the first is to warm up
                times[name].append(took)
    return times


def study(name: str, label: str, parts: Any, folder: str, args: Any, raw: Raw) -> None:
    """Fit and measure one kind of head."""
    X, y = parts[2]
    clf = fit(HEADS[label], parts, folder, args)
    labels, exits = clf.predict(X, return_exits=True)
    models = {"torch": clf, "onnx": copy.deepcopy(clf).set_params(runtime="onnx")}
    reason, agree = "", None
    try:
        agree = np.mean(models["onnx"].predict(X) == labels)
    except ExportError as error:
        reason = str(error).splitlines()[0]
        del models["onnx"]
    entry = raw.add(
        set=name,
        head=label,
        accuracy=np.mean(labels == y),
        last_exit=clf.score(X, y, threshold=np.inf),
        cost=clf.costs_[exits].mean(),
        exit_rates=np.bincount(exits, minlength=clf.n_exits_) / len(exits),
        reason=reason,
        agree=agree,
        times={
            str(n): measure_times(models, X, n, max(5, round(args.turns / n**0.5))) for n in SIZES
        },
    )
    print(*line(entry), sep=" | ", flush=True)


def line(entry: dict[str, Any]) -> list[str]:
    """Cells of a kind of head."""
    rates = " ".join(f"{rate:.2f}" for rate in entry["exit_rates"])
    cells = [
        entry["head"],
        f"{100 * entry['accuracy']:.2f} ({100 * entry['last_exit']:.2f})",
        f"{entry['cost']:.2f}",
        rates,
    ]
    for times in entry["times"].values():
        cells.append(f"{1e3 * np.median(times['torch']):.3g}")
        if entry["reason"]:
            cells += ["not exported", ""]
        else:
            cells.append(f"{1e3 * np.median(times['onnx']):.3g}")
            cells.append(ratio(*(np.array(times[runtime]) for runtime in RUNTIMES))[1])
    return [*cells, "" if entry["agree"] is None else f"{100 * entry['agree']:.2f}"]


def report(entries: list[dict[str, Any]]) -> None:
    """Print one table for each set."""
    header = ["heads", "accuracy in % (last exit)", "mean cost", "exit rates"]
    for n in SIZES:
        header += [f"torch, ms: {n:,} sample(s)", "onnx, ms", "ratio"]
    for name in dict.fromkeys(entry["set"] for entry in entries):
        chosen = [entry for entry in entries if entry["set"] == name]
        print(f"\n{SETS[name].title}\n")
        print(table([line(entry) for entry in chosen], [*header, "equal labels, %"]))
        for entry in chosen:
            if entry["reason"]:
                print(f"{entry['head']}: {entry['reason']}\n")


def run(args: Any, raw: Raw) -> None:
    """Measure all sets and kinds of heads."""
    warnings.simplefilter("ignore")
    for name in available(args.sets):
        train, validation, test = divide(*SETS[name].load(), 0)
        parts = subsample(train, args.max_train), validation, test
        with tempfile.TemporaryDirectory() as folder:
            for label in args.heads:
                study(name, label, parts, folder, args, raw)


def main() -> None:
    """Run all kinds of heads, or print what is saved."""
    parser = make_parser(__doc__, sets="pendigits", raw=True)
    default = ",".join(HEADS)
    parser.add_argument("--heads", type=some_of(HEADS), default=default, help="some of the default")
    parser.add_argument("--epochs", type=int, default=20, help="of the network")
    parser.add_argument("--max-train", type=int, default=5000, help="training samples at most")
    parser.add_argument("--turns", type=int, default=500, help="with one sample")
    parser.add_argument("--threads", type=int, default=1, help="of torch and ONNX Runtime")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    content = saved_or_run("estimator-heads", args, partial(run, args))
    report(content["entries"])
    print_facts(content)


if __name__ == "__main__":
    main()

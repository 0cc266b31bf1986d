"""Time of a call on few and on many samples: torch, `predict`, and the exported file.

The models are `EarlyExitClassifier()` at its default operating point. "plain" is the network with
its last head only: in torch, its stages in a loop without anything else, in batches of the best of
several sizes, with convolutions that need not be the same for one image as for several; in ONNX
Runtime, the exported file without early exits. "stages" is what the same loop takes up to the exit
of a sample, with the heads that are needed, the least that early exits could take in torch. Calls
take turns in one process. Times are medians, with the 95th and 99th percentiles for single samples;
ratios are medians over the turns with their quartiles.

    python benchmarks/latency.py
    python benchmarks/latency.py --sets letter --threads 2
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness.command import available, make_parser
from _harness.data import SETS
from _harness.measure import ratio, take_turns
from _harness.report import table

from skearlyexit import EarlyExitClassifier
from skearlyexit._determinism._layers import Convolution
from skearlyexit.runtime import OnnxCascade

SIZES = (1, 16, 256, 4096)
BATCHES = (64, 256, 1024, 4096)
MAX_TRAIN, MAX_TEST = {"tabular": 16_000, "image": 2500}, 4000


def stages_of(clf: EarlyExitClassifier) -> list[torch.nn.Module]:
    """Copies of the stages with the convolutions of torch."""
    stages = copy.deepcopy(clf.stages_)
    for stage in stages:
        for module in stage.modules():
            if isinstance(module, Convolution):
                module.__class__ = torch.nn.Conv2d
    return stages


def run_plain(clf: Any, stages: list[Any], X: torch.Tensor, batch_size: int) -> np.ndarray:
    """Full network in batches, with the last head only."""
    labels = []
    with torch.inference_mode():
        for carry in X.split(batch_size):
            for stage in stages:
                carry, embedding = stage(carry)
            labels.append(clf.heads_[-1](embedding).argmax(dim=1))
        return torch.cat(labels).numpy()


def run_exits(clf: Any, stages: list[Any], row: torch.Tensor, exit_: int) -> np.ndarray:
    """Stages and heads up to the exit of a sample, and nothing else."""
    carry = row
    with torch.inference_mode():
        for i in range(exit_ + 1):
            carry, embedding = stages[i](carry)
            if i == clf.n_exits_ - 1 or clf.thresholds_[i] <= 1:
                answer = torch.softmax(clf.heads_[i](embedding), dim=1)
        return answer.argmax(dim=1).numpy()


def single_samples(clf: Any, cascade: OnnxCascade, X: np.ndarray, repeats: int) -> None:
    """Times of calls with one sample, over many different samples."""
    exits = clf.predict(X, return_exits=True)[1]
    chosen = np.random.RandomState(0).permutation(len(X))[: 40 * repeats]
    never, stages = np.full(clf.n_exits_ - 1, np.inf), stages_of(clf)
    times: dict[str, list[float]] = {}
    for i in chosen:
        X_one = X[i : i + 1]
        row = torch.from_numpy(X_one.copy())
        functions = {
            "plain, torch": partial(run_plain, clf, stages, row, 1),
            "stages, torch": partial(run_exits, clf, stages, row, int(exits[i])),
            "predict": partial(clf.predict, X_one),
            "plain, ONNX Runtime": partial(cascade.predict, X_one, threshold=never),
            "early exits, ONNX Runtime": partial(cascade.predict, X_one),
        }
        for name, each in take_turns(functions, 1).items():
            times.setdefault(name, []).extend(each)
    lines = []
    for name, values in times.items():
        microseconds = 1e6 * np.array(values)
        cells = [f"{np.percentile(microseconds, q):.0f}" for q in (50, 95, 99)]
        lines.append([name, f"{microseconds.mean():.0f}", *cells])
    print(table(lines, ["one sample, microseconds", "mean", "p50", "p95", "p99"]))


def many_samples(clf: Any, cascade: OnnxCascade, X: np.ndarray, n: int, repeats: int) -> list[str]:
    """Line of a table with ratios to the plain network, for calls with many samples."""
    X = np.resize(X, (n, *X.shape[1:])).copy()
    tensor, stages = torch.from_numpy(X), stages_of(clf)
    sizes = {str(size): partial(run_plain, clf, stages, tensor, size) for size in BATCHES}
    first = take_turns(sizes, 3)
    best = int(min(first, key=lambda name: np.median(first[name])))
    never = np.full(clf.n_exits_ - 1, np.inf)
    functions = {
        "plain": partial(run_plain, clf, stages, tensor, best),
        "predict": partial(clf.predict, X),
        "onnx plain": partial(cascade.predict, X, threshold=never),
        "onnx": partial(cascade.predict, X),
    }
    times = take_turns(functions, repeats)
    cells = [f"{1e3 * np.median(times['plain']):.2f}"]
    for name in ("predict", "onnx plain", "onnx"):
        cells.append(ratio(times["plain"], times[name])[1])
    return [str(n), *cells]


def run(name: str, args: Any) -> None:
    """Print the tables of a data set."""
    data = SETS[name]
    X, y = data.load()
    X = X.reshape(-1, *(data.image_shape or X.shape[1:])).astype(np.float32)
    order = np.random.RandomState(0).permutation(len(X))
    X, y = X[order], y[order]
    n_test = min(MAX_TEST, len(X) // 4)
    n_train = MAX_TRAIN[data.kind]
    clf = EarlyExitClassifier(random_state=0).fit(X[n_test:][:n_train], y[n_test:][:n_train])
    X, y = X[:n_test], y[:n_test]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cascade.onnx"
        clf.to_onnx(path)
        cascade = OnnxCascade(path, n_threads=args.threads)
    labels, exits = clf.predict(X, return_exits=True)
    agree = np.mean(cascade.predict(X) == labels)
    last = clf.score(X, y, threshold=np.inf)
    print(
        f"{data.title}: accuracy {np.mean(labels == y):.4f} at a mean cost of "
        f"{clf.costs_[exits].mean():.3f}, last exit {last:.4f}; exported labels equal "
        f"{agree:.4f}\n"
    )
    single_samples(clf, cascade, X, args.repeats)
    lines = [many_samples(clf, cascade, X, n, args.repeats) for n in SIZES]
    header = [
        "samples",
        "plain, torch: ms",
        "predict: times as fast",
        "plain, ONNX Runtime",
        "early exits, ONNX Runtime",
    ]
    print(table(lines, header))


def main() -> None:
    """Run all data sets."""
    parser = make_parser(__doc__, sets="letter,mnist5k")
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    for name in available(args.sets):
        run(name, args)


if __name__ == "__main__":
    main()

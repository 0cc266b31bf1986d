"""B-LeNet of BranchyNet on MNIST: accuracy, operations and time against LeNet.

The network is that of the paper's code: LeNet of three convolutions, and one early exit after the
first of them whose head is a convolution and a linear layer. Both exits are trained jointly, with
equal weights, and the score is the entropy. LeNet is trained by itself, without exits, for as many
epochs.

Thresholds are chosen on validation samples: the cheapest with which the accuracy there is at most
0.1 points below that of LeNet, or, where B-LeNet does not reach this, that of its own last exit.
Accuracies and exit rates are those of the test samples. Operations are multiply-accumulates of all
stages and all heads, those of the early exit counted for every sample; the ratio is that of LeNet
to B-LeNet. Ratios of times are medians over turns, with their quartiles, of LeNet to B-LeNet for
calls with one and with 512 test samples: LeNet in torch without anything else against
``runtime="torch"``, and in ONNX Runtime against ``runtime="onnx"``. Above 1 is faster. B-LeNet is
called by `predict`, and by that of `to_predictor`, which is meant for single samples. "ideal" are
the stages and heads of B-LeNet in torch without decisions, the least that it could take there, and
"all exit early" is the predictor with a threshold of 0.

The paper states 99.20 % for LeNet and 99.25 % for B-LeNet, with 94.3 % of the samples at the first
exit, and 5.4 times the speed for one sample on a CPU. With these networks, even if all samples
exited there, the ratio of operations would be 5.2.

    python benchmarks/lenet.py
    python benchmarks/lenet.py --max-train 5000 --epochs 5 --seeds 1
    python benchmarks/lenet.py --print

Teerapittayanon, McDanel, Kung, "BranchyNet: fast inference via early exiting from deep neural
networks", ICPR 2016.
"""

from __future__ import annotations

import copy
import warnings
from functools import partial
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness.command import make_parser
from _harness.measure import ratio, seconds
from _harness.peers import (
    by_session,
    by_torch,
    ideal_plan,
    onnx_session,
    plain_network,
    plain_parts,
    run_ideal,
)
from _harness.raw import Raw, print_facts, saved_or_run
from _harness.report import spread, table
from _harness.samples import Samples
from torch import nn

from skearlyexit import EarlyExitClassifier, LinearHead, SequentialBackbone, TargetAccuracy

SIZES = (1, 512)
RUNTIMES = ("torch", "onnx")
#: Ways to run B-LeNet, and the runtime of the LeNet that each is compared with.
COMPARED = [
    ("torch", "torch"),
    ("torch, predictor", "torch"),
    ("ideal", "torch"),
    ("onnx", "onnx"),
    ("onnx, predictor", "onnx"),
    ("onnx, all exit early", "onnx"),
]
DROP = 0.001


def pooled() -> list[nn.Module]:
    """Pooling and activation as the paper's code orders them; an incomplete window counts."""
    return [nn.MaxPool2d(2, ceil_mode=True), nn.ReLU()]


def lenet() -> nn.Sequential:
    """LeNet of the paper's code, without its last layer, which is the last head."""
    return nn.Sequential(
        nn.Conv2d(1, 5, 5, padding=3),
        nn.Sequential(*pooled(), nn.Conv2d(5, 10, 5, padding=3)),
        nn.Sequential(*pooled(), nn.Conv2d(10, 20, 5, padding=3), *pooled(), nn.Flatten()),
        nn.Linear(720, 84),
    )


def heads() -> list[LinearHead]:
    """Heads of the early and of the last exit."""
    branch = nn.Sequential(*pooled(), nn.Conv2d(5, 10, 3, padding=1), *pooled())
    return [
        LinearHead(pooling=branch, normalize=False),
        LinearHead(pooling="flatten", normalize=False),
    ]


def fit(with_exit: bool, X: np.ndarray, y: np.ndarray, seed: int, args: Any) -> EarlyExitClassifier:
    """B-LeNet, or LeNet."""
    early, last = heads()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = SequentialBackbone(lenet())
    return EarlyExitClassifier(
        backbone,
        exits=["0"] if with_exit else 1,
        head=[early, last] if with_exit else [last],
        training="joint",
        early_stopping=False,
        optimizer="adamw",
        policy="entropy",
        calibration=None,
        max_epochs=args.epochs,
        random_state=seed,
    ).fit(X, y)


def measure_times(
    plain: EarlyExitClassifier, clf: EarlyExitClassifier, X: np.ndarray, n: int, turns: int
) -> dict[str, list[float]]:
    """Seconds of every turn, each with other samples and in random order."""
    network, rng = plain_network(plain), np.random.RandomState(n)
    session = onnx_session(network, X, torch.get_num_threads())
    functions: dict[str, Any] = {
        "LeNet, torch": partial(by_torch, network, n),
        "LeNet, onnx": partial(by_session, session, n),
    }
    for runtime in RUNTIMES:
        model = copy.deepcopy(clf).set_params(runtime=runtime)
        functions[f"B-LeNet, {runtime}"] = model.predict
        functions[f"B-LeNet, {runtime}, predictor"] = model.to_predictor().predict
    in_onnx = copy.deepcopy(clf).set_params(runtime="onnx")
    functions["B-LeNet, onnx, all exit early"] = in_onnx.to_predictor(threshold=0).predict
    parts = plain_parts(clf)
    names = [*functions, "B-LeNet, ideal"]
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(turns + 1):
        samples = X[rng.choice(len(X), n, replace=n > len(X))]
        calls = {name: partial(function, samples) for name, function in functions.items()}
        plan = ideal_plan(clf, *parts, samples, clf.thresholds_)
        calls["B-LeNet, ideal"] = partial(run_ideal, plan)
        for name in rng.permutation(names):
            took = seconds(calls[name])
            if turn:  # the first is to warm up
                times[name].append(took)
    return times


def study(samples: Samples, seed: int, args: Any, raw: Raw) -> None:
    """Train both networks of a seed, and measure them."""
    (X, y), (X_val, y_val) = samples.parts(seed)
    X_test, y_test = samples.test
    X, X_val, X_test = (rows.reshape(-1, 1, 28, 28) for rows in (X, X_val, X_test))
    plain, clf = (fit(with_exit, X, y, seed, args) for with_exit in (False, True))
    goal = min(plain.score(X_val, y_val) - DROP, clf.score(X_val, y_val, threshold=np.inf))
    clf.calibrate(X_val, y_val, TargetAccuracy(goal))
    labels, exits = clf.predict(X_test, return_exits=True)
    raw.add(
        seed=seed,
        samples=[len(X), len(X_val), len(X_test)],
        plain=plain.score(X_test, y_test),
        last_exit=clf.score(X_test, y_test, threshold=np.inf),
        first_exit=clf.score(X_test, y_test, threshold=0),
        accuracy=np.mean(labels == y_test),
        exit_rate=np.mean(exits == 0),
        bound=1 / clf.costs_[0],
        macs=plain.cost_table_.plain,
        macs_ratio=1 / clf.costs_[exits].mean(),
        times={
            str(n): measure_times(plain, clf, X_test, n, max(5, round(args.turns / n**0.5)))
            for n in SIZES
        },
    )


def report(entries: list[dict[str, Any]]) -> None:
    """Print means over the seeds, and ratios over the turns of all of them."""

    def column(name: str, unit: float, digits: int) -> str:
        return spread(unit * np.array([entry[name] for entry in entries]), digits)

    train, validation, test = entries[0]["samples"]
    print(
        f"MNIST, {train:,} training, {validation:,} validation and {test:,} test samples, "
        f"{len(entries)} seed(s). LeNet: {entries[0]['macs']:,.0f} multiply-accumulates; the ratio "
        f"would be {entries[0]['bound']:.2f} if all samples exited early.\n"
    )
    lines = [
        ["LeNet, accuracy in %", column("plain", 100, 2), "99.20"],
        ["B-LeNet, accuracy in %", column("accuracy", 100, 2), "99.25"],
        ["B-LeNet, all at its last exit", column("last_exit", 100, 2), ""],
        ["B-LeNet, all at its first exit", column("first_exit", 100, 2), ""],
        ["samples at the first exit, %", column("exit_rate", 100, 1), "94.3"],
        ["operations, ratio", column("macs_ratio", 1, 2), ""],
    ]
    for n in SIZES:
        for ours, against in COMPARED:
            of_plain, of_ours = (
                np.concatenate([entry["times"][str(n)][name] for entry in entries])
                for name in (f"LeNet, {against}", f"B-LeNet, {ours}")
            )
            middle = " to ".join(f"{1e3 * np.median(each):.3f}" for each in (of_plain, of_ours))
            lines.append(
                [
                    f"time, ratio: {n} sample(s), {ours} (ms)",
                    f"{ratio(of_plain, of_ours)[1]} ({middle})",
                    "5.4" if n == 1 and ours == "torch" else "",
                ]
            )
    print(table(lines, ["", "here", "paper"]))


def run(args: Any, raw: Raw) -> None:
    """Measure all seeds."""
    warnings.simplefilter("ignore")
    samples = Samples("mnist", args.max_train, 0)
    for seed in range(args.seeds):
        study(samples, seed, args, raw)


def main() -> None:
    """Run all seeds, or print what is saved."""
    parser = make_parser(__doc__, seeds=3, raw=True)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--max-train", type=int, default=0, help="training samples; 0 takes all")
    parser.add_argument("--turns", type=int, default=2000, help="with one sample")
    parser.add_argument("--threads", type=int, default=1, help="of torch and ONNX Runtime")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    content = saved_or_run("lenet", args, partial(run, args))
    report(content["entries"])
    print_facts(content)


if __name__ == "__main__":
    main()

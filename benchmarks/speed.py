"""The clock on Letter, on one thread: prediction, small batches, training, memory.

Functions that are compared run in turns in one process (A B C A B C ...). Times are medians; ratios
are medians over the turns, with their quartiles.

    python benchmarks/speed.py
    python benchmarks/speed.py --sections predict,ideal --epochs 5 --repeats 5
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import pickle
from functools import partial
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from _harness.command import make_parser, some_of
from _harness.data import SETS, Arrays
from _harness.measure import MIB, medians, memory_is_known, ratio, take_turns, watched
from _harness.networks import fixed_length
from _harness.peers import by_torch, ideal_plan, plain_network, run_ideal
from _harness.samples import divide

from skearlyexit import Budget, EarlyExitClassifier, JointTraining, LinearHead, MLPBackbone
from skearlyexit._determinism._layers import round_up
from skearlyexit._determinism._random import isolated_random_state
from skearlyexit.runtime._torch import load_rows
from skearlyexit.training import MultiExitNetwork, Trainer
from skearlyexit.training._options import TrainingOptions, cosine
from skearlyexit.training._rows import to_rows

BACKBONE = MLPBackbone(6, width=128, hidden=256, dropout=0.0, smooth_clip=None, n_frequencies=0)
EXITS = [f"block{i}" for i in range(1, 7)]
EMBEDDING_BYTES = 128 * 4


def print_claim(holds: bool, text: str) -> None:
    print(f"{'PASS' if holds else 'FAIL'}  {text}", flush=True)


def fit_model(args: argparse.Namespace, parts: tuple[Arrays, Arrays, Arrays]) -> Any:
    """Model at the operating point of the claims, calibrated on validation samples."""
    train, validation, (X_test, y_test) = parts
    clf = fixed_length(
        BACKBONE,
        exits=EXITS,
        training="mixed",
        calibration=None,
        max_epochs=args.epochs,
        random_state=0,
    ).fit(*train)
    clf.calibrate(*validation, operating_point=Budget(0.3))
    labels, exits = clf.predict(X_test, return_exits=True)
    shares = np.bincount(exits, minlength=clf.n_exits_) / len(exits)
    print(
        f"Model: {args.epochs} epochs, accuracy {np.mean(labels == y_test):.4f} at mean cost "
        f"{clf.costs_[exits].mean():.3f}; exit rates {shares.round(3).tolist()}"
    )
    return clf


def section_predict(args: argparse.Namespace, clf: Any, parts: tuple[Arrays, ...]) -> None:
    X, plain = parts[2][0], plain_network(clf)
    sizes = {str(2**k): partial(by_torch, plain, 2**k, X) for k in range(6, 14)}
    times = take_turns(sizes, max(3, args.repeats // 3))
    print(f"Plain network on {len(X)} samples by batch size: {medians(times)}")
    best = int(min(times, key=lambda name: np.median(times[name])))
    times = take_turns(
        {"plain": partial(by_torch, plain, best, X), "predict": partial(clf.predict, X)},
        args.repeats,
    )
    gain, text = ratio(times["plain"], times["predict"])
    print(f"In turns, batches of {best}: {medians(times)}")
    print_claim(gain >= 3, f"predict at least 3 times as fast as the plain network: {text}")


def section_ideal(args: argparse.Namespace, clf: Any, parts: tuple[Arrays, ...]) -> None:
    X_test = parts[2][0]
    for n_rows in (4096, 5000, 16384, 65536):
        X = np.resize(X_test, (n_rows, X_test.shape[1]))
        plan = ideal_plan(clf, clf.stages_, clf.heads_, X, clf.thresholds_)
        functions = {
            "predict": partial(clf.predict, X),
            "ideal": partial(run_ideal, plan),
        }
        times = take_turns(functions, args.repeats)
        loss, text = ratio(times["predict"], times["ideal"])
        print_claim(
            loss <= 1.2,
            f"{n_rows} samples at most 1.2 times the ideal run: {text}; {medians(times)}",
        )


def run_bare(clf: EarlyExitClassifier, rows: torch.Tensor, exit_: int, heads: bool) -> None:
    """Stages up to an exit, with the heads before it or not, and nothing else."""
    with torch.inference_mode():
        carry = rows
        for i in range(exit_ + 1):
            carry, embedding = clf.stages_[i](carry)
            if heads or i == exit_:
                torch.softmax(clf.heads_[i](embedding), dim=1)


def forced(n_exits: int, exit_: int, before: float) -> np.ndarray:
    """Thresholds under which every sample exits at one exit."""
    return np.array([before] * exit_ + [0.0] * (n_exits - 1 - exit_))


def section_small(args: argparse.Namespace, clf: Any, parts: tuple[Arrays, ...]) -> None:
    """Calls on few samples: heads before the exit of all samples are skipped or run."""
    n_exits = clf.n_exits_
    X_test = parts[2][0]
    # With a threshold of 1 the head runs and the sample goes on, unless its score is rounded to 1.
    X_test = X_test[(clf.exit_table(X_test).scores < 1).all(axis=1)]
    depth = np.arange(n_exits)
    print("Microseconds per call, by the exit of all samples; line: call + exits passed")
    for before, how in ((np.inf, "skipped"), (1.0, "run")):
        for n_rows in (1, 4, 16, 64):
            X = X_test[:n_rows]
            padded = load_rows(X, "cpu", torch.float32, round_up(len(X)))
            functions = {
                (kind, k): call
                for k in depth
                for kind, call in (
                    ("predict", partial(clf.predict, X, threshold=forced(n_exits, k, before))),
                    ("torch", partial(run_bare, clf, padded, k, before <= 1)),
                )
            }
            times = take_turns(functions, 10 * args.repeats)
            for kind in ("predict", "torch"):
                each = np.array([1e6 * np.median(times[kind, k]) for k in depth])
                slope, fixed = np.polyfit(depth, each, 1)
                print(
                    f"  heads {how:<8}{n_rows:>3} samples  {kind:<8}"
                    + "".join(f"{value:>8.0f}" for value in each)
                    + f"   {fixed:.0f} + {slope:.0f} per exit"
                )


def new_network(X: np.ndarray, n_classes: int) -> MultiExitNetwork:
    with isolated_random_state(0):
        network = BACKBONE.build(X, n_classes)
        stages = network.cut(range(1, 7))
        heads = [LinearHead().build(torch.zeros(2, 128), n_classes) for _ in stages]
    return MultiExitNetwork(stages, heads)


def train_package(X: np.ndarray, y: np.ndarray, n_epochs: int) -> None:
    """Joint training by the package."""
    trainer = Trainer(
        to_rows(X, y, None),
        None,
        TrainingOptions(
            max_epochs=n_epochs,
            batch_size=128,
            lr=0.003,
            optimizer="adamw",
            lr_schedule="cosine",
        ),
    )
    network = new_network(X, int(y.max()) + 1)
    JointTraining().train(network, np.linspace(0.2, 1.0, network.n_exits), trainer)


def train_bare(X: np.ndarray, y: np.ndarray, n_epochs: int) -> None:
    """The same by a loop on torch alone."""
    rows, target, batch_size = torch.tensor(X), torch.tensor(y), 128
    network = new_network(X, int(y.max()) + 1).train()
    pairs = list(zip(network.stages, network.heads, strict=True))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.003, fused=True)
    n_steps, step = n_epochs * -(-len(rows) // batch_size), 0
    for _ in range(n_epochs):
        order = torch.randperm(len(rows))
        for index in order.split(batch_size):
            optimizer.param_groups[0]["lr"] = 0.003 * cosine(step / n_steps)
            carry, y_batch = rows.index_select(0, index), target.index_select(0, index)
            loss = torch.zeros(())
            for stage, head in pairs:
                carry, embedding = stage(carry)
                loss = loss + F.cross_entropy(head(embedding), y_batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1


def section_training(args: argparse.Namespace, parts: tuple[Arrays, ...]) -> None:
    X, labels = parts[0]
    y = np.unique(labels, return_inverse=True)[1]
    functions = {
        "package": partial(train_package, X, y, args.training_epochs),
        "loop": partial(train_bare, X, y, args.training_epochs),
    }
    times = take_turns(functions, args.training_repeats)
    loss, text = ratio(times["package"], times["loop"])
    print(f"{args.training_epochs} epochs on {len(X)} samples: {medians(times, 1.0, 's')}")
    print_claim(loss <= 1.25, f"training at most 1.25 times a bare torch loop: {text}")


def predict_and_watch(pickled: bytes, X_test: np.ndarray, n_rows: int, queue: Any) -> None:
    """In a process of its own: put the rise of resident memory during predict into the queue."""
    torch.set_num_threads(1)
    clf = pickle.loads(pickled)
    clf.predict(X_test[:64])
    X = np.resize(X_test, (n_rows, X_test.shape[1]))
    with watched() as memory:
        clf.predict(X)
    queue.put(memory.rise("all"))


def measure_memory(clf: Any, X_test: np.ndarray, n_rows: int) -> float:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    args = (pickle.dumps(clf), X_test, n_rows, queue)
    process = context.Process(target=predict_and_watch, args=args)
    process.start()
    rise = float(queue.get())
    process.join()
    return rise


def section_memory(args: argparse.Namespace, clf: Any, parts: tuple[Arrays, ...]) -> None:
    if not memory_is_known():
        print("Memory is measured on Linux only.")
        return
    rests = []
    for n_rows in (args.memory_samples, 2 * args.memory_samples):
        rise = measure_memory(clf, parts[2][0], n_rows) / MIB
        embeddings = n_rows * EMBEDDING_BYTES / MIB
        # Indices of classes and exits, and the labels made of the first.
        predictions = n_rows * (8 + 8 + clf.classes_.itemsize) / MIB
        rests.append(rise - predictions)
        print(
            f"{n_rows} samples: peak rise {rise:.0f} MiB, of which predictions {predictions:.0f}, "
            f"rest {rests[-1]:.0f}; one embedding of all {embeddings:.0f} MiB"
        )
        print_claim(rise < embeddings, f"less than one embedding of all {n_rows} samples")
    growth = rests[1] - rests[0]
    allowed = 0.1 * args.memory_samples * EMBEDDING_BYTES / MIB
    print_claim(
        growth <= allowed,
        f"memory besides the predictions does not grow with the samples: {growth:+.0f} MiB on "
        f"doubling (a tenth of the added embeddings is {allowed:.0f})",
    )


SECTIONS = {
    "predict": section_predict,
    "ideal": section_ideal,
    "small": section_small,
    "training": section_training,
    "memory": section_memory,
}


def main() -> None:
    parser = make_parser(__doc__)
    default = ",".join(SECTIONS)
    parser.add_argument(
        "--sections", type=some_of(SECTIONS), default=default, help="some of the default"
    )
    parser.add_argument("--epochs", type=int, default=40, help="of the model that is timed")
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--training-epochs", type=int, default=3)
    parser.add_argument("--training-repeats", type=int, default=5)
    parser.add_argument("--memory-samples", type=int, default=10**6)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread, load {os.getloadavg()}")

    parts = divide(*SETS["letter"].load(), 0)
    clf = fit_model(args, parts) if set(args.sections) - {"training"} else None
    for name in args.sections:
        print(f"\n{name}")
        if name == "training":
            section_training(args, parts)
        else:
            SECTIONS[name](args, clf, parts)


if __name__ == "__main__":
    main()

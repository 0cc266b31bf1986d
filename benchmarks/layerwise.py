"""Layer-wise against joint training: time and memory, with bounded room for kept embeddings.

Networks of twelve stages with an exit after each, a perceptron and a residual convolutional one,
are trained jointly and layer by layer for the same epochs at each stage. Layer-wise training keeps
the outputs of a stage for all samples, from which the next stage is trained without running the
earlier ones; with `max_cache_bytes` it keeps them only where that has room, and otherwise runs the
earlier stages anew in every epoch.

Seconds are medians of fits in turns in one process, on one thread; ratios are medians over the
turns, with quartiles. Memory is the rise of the resident memory's peak during fit, each time in a
process of its own: the median, with the lowest and the highest. "kept" is the most that is kept
between two stages, counted from shapes; while it is computed, its input is in memory as well.

    python benchmarks/layerwise.py
    python benchmarks/layerwise.py --samples 512 --epochs 1 --repeats 2 --processes 1
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from functools import partial
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness.command import available, make_parser, write_table
from _harness.data import SETS, Arrays
from _harness.measure import MIB, once, ratio, take_turns
from _harness.networks import exit_names, fixed_length, make_backbone
from _harness.report import table
from _harness.samples import kept_samples
from _harness.store import kept
from _harness.training_runs import fresh, warm_up

from skearlyexit.training import JointTraining, LayerwiseTraining, TrainingStrategy

NETWORKS: dict[str, dict[str, Any]] = {
    "tabular": {"n_blocks": 12, "width": 128, "hidden": 128, "dropout": 0.0},
    "image": {"widths": (8, 16, 32), "n_blocks": 4},
}


def estimator(name: str, strategy: TrainingStrategy, args: argparse.Namespace) -> Any:
    """Not fitted, with exits after each of twelve blocks."""
    kind = SETS[name].kind
    return fixed_length(
        make_backbone(kind, NETWORKS[kind]),
        exits=exit_names(kind, NETWORKS[kind]),
        training=strategy,
        calibration=None,
        max_epochs=args.epochs,
        batch_size=args.batch_size,
        random_state=0,
    )


def samples_of(name: str, args: argparse.Namespace) -> Arrays:
    """Training samples."""
    train: Arrays = kept(kept_samples(name, 0, args.samples, args.cache))[0]
    return train


def output_bytes(clf: Any, X: np.ndarray) -> list[int]:
    """Bytes of the outputs of each stage but the last, for all samples."""
    sizes = []
    carry: Any = torch.tensor(X[:2])
    with torch.inference_mode():
        for stage in clf.stages_[:-1]:
            carry, _ = stage(carry)
            parts = carry if isinstance(carry, tuple) else (carry,)
            sizes.append(len(X) * sum(part[0].numel() * part.element_size() for part in parts))
    return sizes


def strategies(sizes: list[int]) -> dict[str, TrainingStrategy]:
    """Joint training, and layer-wise training that keeps all, some and nothing."""
    some = (min(sizes) + max(sizes)) // 2 if min(sizes) < max(sizes) else max(sizes) // 2
    return {
        "joint": JointTraining(),
        "layer-wise": LayerwiseTraining(),
        f"layer-wise, at most {some / MIB:.1f} MiB": LayerwiseTraining(some),
        "layer-wise, nothing kept": LayerwiseTraining(0),
    }


def kept_mib(strategy: TrainingStrategy, sizes: list[int]) -> str:
    """Most that a strategy keeps between two stages, in MiB."""
    if not isinstance(strategy, LayerwiseTraining):
        return "-"
    most = max((size for size in sizes if size <= strategy.max_cache_bytes), default=0)
    return f"{most / MIB:.1f}"


def rise(call: tuple[str, TrainingStrategy, argparse.Namespace]) -> float:
    """Bytes by which the peak of memory rises during fit; called in a process of its own."""
    name, strategy, args = call
    torch.set_num_threads(1)
    X, y = samples_of(name, args)
    warm_up(estimator(name, strategy, args), X, y)
    return once(partial(estimator(name, strategy, args).fit, X, y))[1]


def study(name: str, args: argparse.Namespace) -> str:
    """Markdown of one network."""
    X, y = samples_of(name, args)
    probe = estimator(name, JointTraining(), args).set_params(max_epochs=1)
    sizes = output_bytes(probe.fit(X[:128], y[:128]), X)
    compared = strategies(sizes)
    fits = {
        label: partial(estimator(name, strategy, args).fit, X, y)
        for label, strategy in compared.items()
    }
    times = take_turns(fits, args.repeats)
    calls = {
        (label, i): (name, strategy, args)
        for i in range(args.processes)
        for label, strategy in compared.items()
    }
    rises = defaultdict(list)
    for (label, _), result in fresh(rise, calls, 1):
        if isinstance(result, Exception):
            raise result
        rises[label].append(result / MIB)
    lines = [
        [
            label,
            f"{np.median(times[label]):.2f}",
            ratio(times[label], times["joint"])[1],
            f"{np.median(rises[label]):.0f} [{min(rises[label]):.0f} .. {max(rises[label]):.0f}]",
            kept_mib(strategy, sizes),
        ]
        for label, strategy in compared.items()
    ]
    head = (
        f"### {name}, {len(sizes) + 1} stages\n\n{len(X)} samples of "
        f"{X[0].nbytes * len(X) / MIB:.1f} MiB, {args.epochs} epochs, batches of "
        f"{args.batch_size}; outputs of the stages, in MiB: "
        f"{', '.join(f'{size / MIB:.1f}' for size in sizes)}\n\n"
    )
    columns = ["training", "seconds", "to joint", "rise of memory, MiB", "kept, MiB"]
    return head + table(lines, columns)


def main() -> None:
    parser = make_parser(__doc__, sets="letter,fashion", cache=True, output=True)
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=3, help="of every stage")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5, help="turns by the clock")
    parser.add_argument("--processes", type=int, default=3, help="for the memory of each")
    args = parser.parse_args()
    torch.set_num_threads(1)
    texts = []
    for name in available(args.sets):
        texts.append(study(name, args))
        print(texts[-1], flush=True)
    write_table(args.output, "layerwise", "\n".join(texts))


if __name__ == "__main__":
    main()

"""How time and memory of `predict` grow with samples, exits, classes and width.

One of the four varies, the others stay: 20,000 samples, 4 exits, 10 classes and a width of 64, in a
residual MLP of 4 blocks with 20 features; for the question about exits, it has 32 blocks whatever
their number. The network is trained for one epoch on a few random samples, since its weights do not
matter. Either no sample exits early, although all heads are computed, or about half of the samples
that reach an exit do.

Each configuration runs in a process of its own, in both runtimes. Memory is by how much the peak of
resident memory rises during the first call with all samples, after one with a few of them; of it,
labels take 8 bytes a sample. Times are medians of further calls, and per sample.

    python benchmarks/growth.py
    python benchmarks/growth.py --questions exits,classes --samples 5000
    python benchmarks/growth.py --print
"""

from __future__ import annotations

import warnings
from functools import partial
from multiprocessing import get_context
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness.command import make_parser, numbers, some_of
from _harness.measure import MIB, once, repeated
from _harness.raw import Raw, print_facts, saved_or_run
from _harness.report import table

from skearlyexit import EarlyExitClassifier, MLPBackbone

QUESTIONS: dict[str, tuple[int, ...]] = {
    "samples": (1_000, 10_000, 100_000, 1_000_000),
    "exits": (2, 4, 8, 16, 32),
    "classes": (2, 10, 100, 500, 2_000),
    "width": (32, 128, 512, 1024),
}
USUAL = {"exits": 4, "classes": 10, "width": 64, "blocks": 4}
N_FEATURES, RUNTIMES = 20, ("torch", "onnx")
WAYS = ("none early", "half at each")


def half_thresholds(clf: EarlyExitClassifier, X: np.ndarray) -> np.ndarray:
    """Thresholds at which half of the samples that reach an exit leave there."""
    scores = clf.exit_table(X).scores
    thresholds = np.empty(clf.n_exits_ - 1)
    rows = np.arange(len(X))
    for i in range(len(thresholds)):
        thresholds[i] = np.median(scores[rows, i]) if len(rows) else 1.0
        rows = rows[scores[rows, i] < thresholds[i]]
    return thresholds


def measure(
    config: dict[str, int], runtime: str, way: str, repeats: int, n_threads: int
) -> dict[str, Any]:
    """Measure a configuration, in a process of its own."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(n_threads)
    rng = np.random.default_rng(0)
    n_fit = max(2000, 3 * config["classes"])
    X_fit = rng.standard_normal((n_fit, N_FEATURES), dtype=np.float32)
    n_exits, n_blocks = config["exits"], config["blocks"]
    backbone = MLPBackbone(n_blocks, width=config["width"], hidden=config["width"])
    ends = np.linspace(0, n_blocks, n_exits + 1)[1:-1].round().astype(int)
    clf = EarlyExitClassifier(
        backbone,
        exits=[f"block{end}" for end in ends],
        training="joint",
        calibration=None,
        threshold=1.0,
        max_epochs=1,
        early_stopping=False,
        runtime=runtime,
        random_state=0,
    ).fit(X_fit, np.arange(n_fit) % config["classes"])
    if way == WAYS[1]:
        clf.thresholds_ = half_thresholds(clf, X_fit)
    clf.predict(X_fit[:300])  # memory that is allocated once, and the export
    X = rng.standard_normal((config["samples"], N_FEATURES), dtype=np.float32)
    call = partial(clf.predict, X)
    _, peak = once(call)
    exits = clf.predict(X, return_exits=True)[1]
    return {
        "seconds": repeated(call, repeats).tolist(),
        "peak": peak,
        "exit_rates": (np.bincount(exits, minlength=n_exits) / len(X)).tolist(),
    }


def run(args: Any, raw: Raw) -> None:
    """Measure the configurations of all questions."""
    for question in args.questions:
        values = [int(value) for value in args.values or QUESTIONS[question]]
        for value in values:
            config = {**USUAL, "samples": args.samples, question: value}
            if question == "exits":
                config["blocks"] = max(values)
            for way in WAYS:
                for runtime in args.runtimes:
                    given = config, runtime, way, args.repeats, args.threads
                    with get_context("spawn").Pool(1) as pool:
                        found = pool.apply(measure, given)
                    entry = raw.add(
                        question=question,
                        value=value,
                        config=config,
                        runtime=runtime,
                        way=way,
                        **found,
                    )
                    print(f"{question} {value:,}, {way}, {runtime}: {_cell(entry)}", flush=True)


def _cell(entry: dict[str, Any]) -> str:
    took = np.median(entry["seconds"])
    each = 1e6 * took / entry["config"]["samples"]
    return f"{1e3 * took:,.1f} ms, {each:.2f} µs each, {entry['peak'] / MIB:.0f} MiB"


def report(entries: list[dict[str, Any]]) -> None:
    """Print one table for each question."""
    for question in dict.fromkeys(entry["question"] for entry in entries):
        chosen = [entry for entry in entries if entry["question"] == question]
        columns = list(dict.fromkeys((entry["runtime"], entry["way"]) for entry in chosen))
        by_place = {(each["value"], each["runtime"], each["way"]): each for each in chosen}
        lines = []
        for value in dict.fromkeys(entry["value"] for entry in chosen):
            # Those of an interrupted run are not all there.
            found = [by_place.get((value, *column)) for column in columns]
            cells = ["" if entry is None else _cell(entry) for entry in found]
            lines.append([f"{value:,}", *cells])
        titles = [f"{runtime}, {way}" for runtime, way in columns]
        print("\n" + table(lines, [question, *titles]))


def main() -> None:
    """Run all questions, or print what is saved."""
    parser = make_parser(__doc__, raw=True)
    default = ",".join(QUESTIONS)
    parser.add_argument(
        "--questions", type=some_of(QUESTIONS), default=default, help="some of the default"
    )
    parser.add_argument("--runtimes", type=some_of(RUNTIMES), default="torch,onnx")
    parser.add_argument("--values", type=numbers, help="instead of those of the questions")
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of torch and ONNX Runtime")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    content = saved_or_run("growth", args, partial(run, args))
    report(content["entries"])
    print_facts(content)


if __name__ == "__main__":
    main()

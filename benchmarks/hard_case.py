"""How much accuracy a small residual network on Fashion-MNIST loses by early exits.

The drop is against a plain network that was trained alone for the same number of epochs, in points:
both on the 10,000 test samples, with the best thresholds for the budget on validation samples. A
configuration is a way of training with heads. Each is judged with the outputs of the exit's own
head and with weighted geometric means of all heads so far ("+ geometric"), which are learned from
the validation samples, cross-fitted as in a fit. Costs count heads and combinations. Configurations
are sorted by the drop on validation samples.

Every training is a process of its own with one thread, and its outcome is kept in a folder outside
the repository: an interrupted run goes on. Delete the folder after the package has changed.

    python benchmarks/hard_case.py
    python benchmarks/hard_case.py --seeds 1 --configs "joint;mixed;mixed, 0.3"
    python benchmarks/hard_case.py --exits 4 --train-samples 3000 --epochs 4
"""

from __future__ import annotations

import argparse
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness.command import available, make_parser, some_of, write_table
from _harness.networks import NETWORKS, estimator_params
from _harness.outcomes import PLAIN, Outcome
from _harness.report import spread, table
from _harness.samples import kept_samples
from _harness.training_runs import Job, outcomes

from skearlyexit import LinearHead, MLPHead
from skearlyexit.training import (
    CombinedTraining,
    DistillationTraining,
    FreezeOutTraining,
    GatedTraining,
    JointTraining,
    MixedTraining,
    SeparateTraining,
    TrainingStrategy,
)

SET, RULES = "fashion", ("own", "geometric")
BUDGETS = (0.3, 0.4, 0.5, 0.6, 0.7)


def early(head: Any, n_exits: int, n_early: int) -> list[Any]:
    """A head at the first exits, and linear ones at the others."""
    return [head] * n_early + [LinearHead()] * (n_exits - n_early)


def configurations(n_exits: int) -> dict[str, dict[str, Any]]:
    """Parameters of the estimator by name."""
    half = n_exits // 2
    # Of the map's four quarters, each channel's mean.
    quarters = torch.nn.AdaptiveAvgPool2d(2)
    heads = {
        "MLP heads": early("mlp", n_exits, n_exits - 1),
        "MLP heads 128, first half": early(MLPHead((128,)), n_exits, half),
        "linear heads on quarters, first half": early(LinearHead(pooling=quarters), n_exits, half),
        "MLP heads 128 on quarters, first half": early(
            MLPHead((128,), pooling=quarters), n_exits, half
        ),
        "MLP heads 256 on quarters, first": early(MLPHead((256,), pooling=quarters), n_exits, 1),
    }
    trainings: dict[str, TrainingStrategy] = {
        "joint": JointTraining(),
        "joint, 0.3": JointTraining(0.3),
        "joint, depth": JointTraining("depth"),
        "joint, ramp": JointTraining("ramp"),
        "joint, equilibrium": JointTraining(equilibrium=True),
        "mixed": MixedTraining(),
        "mixed, 0.3": MixedTraining(0.3),
        "mixed, 0.1": MixedTraining(0.1),
        "mixed, ramp": MixedTraining("ramp"),
        "mixed, backbone 0.25": MixedTraining(backbone_share=0.25),
        "mixed, backbone 0.75": MixedTraining(backbone_share=0.75),
        "mixed, 0.3, backbone 0.25": MixedTraining(0.3, backbone_share=0.25),
        "separate": SeparateTraining(),
        "separate, backbone 0.8": SeparateTraining(backbone_share=0.8),
        "distillation, last": DistillationTraining(),
        "distillation, last, alpha 1": DistillationTraining(alpha=1.0),
        "distillation, last, temperature 3": DistillationTraining(alpha=0.1, temperature=3.0),
        "distillation, next": DistillationTraining("next"),
        "distillation, later": DistillationTraining("later"),
        "distillation, last, weights 0.3": DistillationTraining(weights=0.3),
        "distillation, last, backbone 0.5": DistillationTraining(backbone_share=0.5),
        "distillation, last, alpha 1, backbone 0.5": DistillationTraining(
            alpha=1.0, backbone_share=0.5
        ),
        "distillation, last, weights 0.3, backbone 0.5": DistillationTraining(
            weights=0.3, backbone_share=0.5
        ),
        "freeze-out": FreezeOutTraining(),
        "combined": CombinedTraining(),
        "gated": GatedTraining(),
        "gated, 0.02": GatedTraining(0.02),
    }
    configs: dict[str, dict[str, Any]] = {
        name: {"training": strategy} for name, strategy in trainings.items()
    }
    for name in ("mixed", "distillation, last"):
        for label, each in heads.items():
            configs[f"{name}, {label}"] = {"training": trainings[name], "head": each}
    return configs


def make_jobs(args: argparse.Namespace) -> dict[tuple[str, int], Job]:
    """A job for each configuration and seed, those of a seed together and mixed."""
    folder = args.cache / "hard-case"
    known = configurations(args.exits)
    chosen: dict[str, dict[str, Any]] = {PLAIN: {"exits": 1, "training": JointTraining()}}
    for name in args.configs:
        # Six are after every block, another number at equal shares of the cost.
        chosen[name] = known[name] if args.exits == 6 else {"exits": args.exits, **known[name]}
    jobs = {}
    for seed in range(args.seeds):
        samples = kept_samples(SET, seed, args.train_samples, folder)
        order = np.random.RandomState(seed).permutation(len(chosen))
        for name in (list(chosen)[i] for i in order):
            params = estimator_params("image", NETWORKS["image"], chosen[name])
            # A training that combines the heads is not judged by another combination.
            combines = chosen[name]["training"].combination(n_classes=2, neural=[True]) is not None
            rules = RULES[:1] if combines else RULES
            jobs[name, seed] = Job(
                f"{name}, seed {seed}", samples, params, seed, args.epochs, folder, rules
            )
    return jobs


def report(done: dict[Any, Outcome], args: argparse.Namespace) -> str:
    """Markdown, the smallest drop on validation samples first, by which one would choose."""
    seeds = range(args.seeds)
    names = [name for name in dict.fromkeys(name for name, _ in done) if name != PLAIN]
    names = [name for name in names if all((name, seed) in done for seed in seeds)]
    plain = np.array([done[PLAIN, seed].alone[-1] for seed in seeds])
    validation = np.array([done[PLAIN, seed].validation for seed in seeds])
    lines = []
    for name in names:
        outcomes = [done[name, seed] for seed in seeds]
        for rule in outcomes[0].curves:
            curves = [outcome.curves[rule] for outcome in outcomes]
            drops = {
                budget: 100 * (plain - np.array([curve.at(budget)[0] for curve in curves]))
                for budget in BUDGETS
            }
            cost = np.mean([curve.at(args.budget)[1] for curve in curves])
            expected = 100 * (
                validation - np.array([curve.expected(args.budget) for curve in curves])
            )
            last = [100 * (p - o.alone[-1]) for p, o in zip(plain, outcomes, strict=True)]
            row = [
                name + ("" if rule == "own" else f" + {rule}"),
                spread(expected) if np.isfinite(expected).all() else "not possible",
                *(spread(d) if np.isfinite(d).all() else "not possible" for d in drops.values()),
                f"{cost:.3f}",
                spread(np.array(last)),
                " ".join(f"{100 * a:.1f}" for a in np.mean([o.alone for o in outcomes], axis=0)),
                f"{np.mean([outcome.seconds for outcome in outcomes]):.0f}",
            ]
            key = float(np.mean(expected))
            lines.append((key if np.isfinite(key) else np.inf, row))
    lines.sort(key=lambda line: line[0])
    header = [
        "configuration",
        f"validation, drop at {args.budget}",
        *(f"drop at {budget}" for budget in BUDGETS),
        f"cost for {args.budget}",
        "drop of the last exit",
        "exits alone",
        "fit, s",
    ]
    return (
        f"## Fashion-MNIST, {args.train_samples} training samples, {args.epochs} epochs, "
        f"{args.exits} exits, {args.seeds} seeds\n\nPlain network {spread(100 * plain)} %. Drops "
        "in points, mean ± spread over seeds, sorted by that on validation samples.\n\n"
        + table([row for _, row in lines], header)
    )


def main() -> None:
    parser = make_parser(__doc__, seeds=3, cache=True, output=True)
    parser.add_argument("--train-samples", type=int, default=12_000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    known = [*configurations(6)]
    parser.add_argument(
        "--configs", type=some_of(known, ";"), default=known, help="names, with semicolons between"
    )
    parser.add_argument("--exits", type=int, default=6, help="6: after every block")
    parser.add_argument("--budget", type=float, default=0.5, choices=BUDGETS, help="to sort by")
    args = parser.parse_args()
    if not available([SET]):
        return
    done = outcomes(make_jobs(args), args.jobs)
    text = report(done, args)
    print("\n" + text)
    write_table(args.output, "hard_case", text)


if __name__ == "__main__":
    main()

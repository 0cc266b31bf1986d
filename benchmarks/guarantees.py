"""Promises of risk: how often each kind of calibration breaks its own.

First by simulation: calibration rows are drawn from a synthetic exit table so large that it stands
for all rows, on which the risk of every threshold is known. It is made so that the risk rises,
falls and rises again on the way down the family. A promise of confidence may be broken in a share
of the draws of at most 1 - confidence, and three standard errors for the number of draws. Beside
it stand what the cheapest threshold with no more than the level among the calibration rows gives,
and the first threshold that could not be certified.

Then on trained cascades: the calibration and test rows of a cascade are divided anew, and what was
calibrated for at most one point of risk or drop on the ones is measured on the others. These are
finite, so that their risk may exceed the level though the true one does not; "clearly" counts the
splits where a binomial test at 5 % tells them apart. `AccuracyDrop` and the package earlyon, which
choose by the drop seen on the calibration rows, promise nothing about others.

    python benchmarks/guarantees.py
    python benchmarks/guarantees.py --draws 200 --sets letter
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
from _harness import earlyon
from _harness.cascades import add_arguments, available, load
from _harness.data import SETS
from _harness.report import table
from _harness.synthetic import Population, draw
from scipy.stats import binom

from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit.calibration import (
    AccuracyDrop,
    CalibrationData,
    ConformalRiskControl,
    NotCertifiedError,
    OperatingPoint,
    RiskControl,
    compute_frontier,
)
from skearlyexit.calibration._base import no_early_exits
from skearlyexit.calibration._risks import FamilyLosses, exit_losses
from skearlyexit.combination import OwnCombination
from skearlyexit.policies import ConfidencePolicy

SIZES, CONFIDENCES, LEVELS = (20, 100, 501), (0.8, 0.9, 0.95), (0.01, 0.02, 0.05)
RISKS = ("performance_gap", "consistency", "accuracy_drop")
N_POPULATION, N_EXITS, BUMP = 200_000, 4, 0.05

#: Parameters, risks and family sizes by name. Betting takes a hundred times as long, and its
#: promise does not depend on the family.
PROCEDURES: dict[str, tuple[dict[str, str], tuple[str, ...], tuple[int, ...]]] = {
    "ltt, binomial": ({"test": "binomial"}, RISKS[:2], SIZES),
    "ltt, Hoeffding-Bentkus": ({"test": "hoeffding_bentkus"}, RISKS, SIZES),
    "ltt, betting": ({"test": "betting"}, ("performance_gap", "accuracy_drop"), SIZES[:1]),
    "ucb, binomial": ({"method": "ucb"}, RISKS[:2], SIZES),
}


def family(size: int) -> np.ndarray:
    """Thresholds from the safest down, spaced as those of the package."""
    return 1.0 - (np.arange(size) / (size - 1)) ** 3


def true_risks(population: Population, risk: str, size: int) -> np.ndarray:
    """Risk of every threshold of a family, row by row."""
    evidence = population.evidence()
    losses, rows = exit_losses(evidence, risk), np.arange(len(population.scores))
    n_choices = evidence.n_exits - 1
    return np.array(
        [losses[rows, evidence.leave(np.full(n_choices, t))].mean() for t in family(size)]
    )


def n_certified(point: OperatingPoint, evidence: CalibrationData, thresholds: np.ndarray) -> int:
    """How many thresholds of the family it lets pass."""
    try:
        chosen = point.thresholds(evidence, None)[0]  # type: ignore[arg-type]
    except NotCertifiedError:
        return 0
    return int(np.searchsorted(-thresholds, -chosen)) + 1


def simulate(args: argparse.Namespace) -> str:
    """All promises on drawn rows."""
    population = draw(N_POPULATION, N_EXITS, 0, bump=BUMP)
    families = {size: family(size) for size in SIZES}
    truth = {(r, size): true_risks(population, r, size) for r in RISKS for size in SIZES}
    controls = {
        (name, risk, size, confidence, level): RiskControl(
            level, confidence_level=confidence, risk=risk, family=families[size], **options
        )
        for name, (options, risks, sizes) in PROCEDURES.items()
        for risk, size, confidence, level in itertools.product(risks, sizes, CONFIDENCES, LEVELS)
    }
    conformal = {
        ("conformal", risk, size, 0.0, level): ConformalRiskControl(
            level, risk=risk, family=families[size]
        )
        for risk, size, level in itertools.product(RISKS[:2], SIZES, LEVELS)
    }
    # Number of thresholds let pass, one entry a draw.
    passed: dict[tuple, list[int]] = defaultdict(list)
    naive: dict[tuple, list[int]] = defaultdict(list)
    rng = np.random.RandomState(1)
    for _ in range(args.draws):
        evidence = population.evidence(rng.randint(N_POPULATION, size=args.rows))
        for key, point in (controls | conformal).items():
            passed[key].append(n_certified(point, evidence, families[key[2]]))
        for size, thresholds in families.items():
            losses = FamilyLosses(
                evidence.scores, exit_losses(evidence, "performance_gap"), thresholds
            )
            means = losses.means(evidence.weight)
            for level in LEVELS:
                below = np.flatnonzero(means <= level)
                naive[size, level].append(int(below[-1]) + 1 if len(below) else 0)

    def risks(risk: str, size: int, counts: list[int]) -> np.ndarray:
        # With none let pass everybody runs to the end, at no risk.
        return np.append(truth[risk, size], 0.0)[np.array(counts) - 1]

    text = (
        f"### Simulation\n\n{args.draws} draws of {args.rows} calibration rows, {N_EXITS} exits; "
        f"families of {', '.join(map(str, SIZES))} thresholds, levels of "
        f"{', '.join(map(str, LEVELS))}.\n\n"
    )
    rows = []
    for name, (_, allowed, sizes) in PROCEDURES.items():
        for risk, confidence in itertools.product(allowed, CONFIDENCES):
            broken, refused = {}, []
            for size, level in itertools.product(sizes, LEVELS):
                counts = passed[name, risk, size, confidence, level]
                broken[size, level] = np.mean(risks(risk, size, counts) > level + 1e-12)
                refused.append(np.mean(np.array(counts) == 0))
            delta = 1 - confidence
            bound = delta + 3 * np.sqrt(delta * confidence / args.draws)
            worst = max(broken, key=lambda key: broken[key])
            rows.append(
                [
                    name,
                    risk,
                    f"{delta:.2f}",
                    f"{bound:.3f}",
                    f"{broken[worst]:.3f}",
                    f"{worst[0]} thresholds, {worst[1]}",
                    f"{np.mean([*broken.values()]):.3f}",
                    f"{np.mean(refused):.0%}",
                    "yes" if broken[worst] <= bound else "NO",
                ]
            )
    header = ["procedure", "risk", "may be broken in", "with 3 s.e.", "worst", "at", "mean"]
    text += table(rows, [*header, "nothing certified", "kept"])
    rows = []
    for key in conformal:
        _, risk, size, _, level = key
        found = risks(risk, size, passed[key])
        error = found.std() / np.sqrt(len(found))
        rows.append(
            [
                risk,
                str(size),
                str(level),
                f"{found.mean():.5f} ± {error:.5f}",
                f"{np.mean(found > level):.2f}",
                "yes" if found.mean() <= level + 3 * error else "NO",
            ]
        )
    header = ["risk", "thresholds", "level", "mean risk ± s.e.", "single draws above", "kept"]
    text += "\nConformal risk control, which promises the mean:\n\n" + table(rows, header)
    rows = []
    for size, level in itertools.product(SIZES, LEVELS):
        certified = passed["ltt, binomial", "performance_gap", size, 0.9, level]
        first_failed = [min(count + 1, size) for count in certified]
        rows.append(
            [
                str(size),
                str(level),
                f"{np.mean(risks('performance_gap', size, certified) > level):.3f}",
                f"{np.mean(risks('performance_gap', size, first_failed) > level):.3f}",
                f"{np.mean(risks('performance_gap', size, naive[size, level]) > level):.3f}",
                f"{risks('performance_gap', size, naive[size, level]).mean():.4f}",
            ]
        )
    header = ["thresholds", "level", "certified at 0.9", "first not certified"]
    header += ["cheapest that looks safe", "its mean risk"]
    return text + "\nHarm above the level, share of the draws:\n\n" + table(rows, header)


#: From outputs, classes by index, evidence and costs of calibration rows to a function from outputs
#: to exits; raises NotCertifiedError.
Chooser = Callable[[np.ndarray, np.ndarray, CalibrationData], Callable[[np.ndarray], np.ndarray]]

DECISION = ExitRule(None, OwnCombination(), ConfidencePolicy())


def asking(point: OperatingPoint) -> Chooser:
    """Of this package."""

    def choose(outputs: np.ndarray, y: np.ndarray, evidence: CalibrationData) -> Any:
        known = compute_frontier(evidence) if isinstance(point, AccuracyDrop) else None
        thresholds = point.thresholds(evidence, known)  # type: ignore[arg-type]
        return lambda rows: DECISION.tabulate(rows).leave(thresholds)

    return choose


def of_earlyon(*, fine: bool, tempered: bool) -> Chooser:
    """Of the other package."""

    def choose(outputs: np.ndarray, y: np.ndarray, evidence: CalibrationData) -> Any:
        return earlyon.calibrate(
            outputs, y, evidence.costs, 0.01, fine=fine, tempered=tempered
        ).leave

    return choose


CHOOSERS = {
    "RiskControl(0.01), harm": asking(RiskControl(0.01)),
    'RiskControl(0.01, risk="accuracy_drop")': asking(RiskControl(0.01, risk="accuracy_drop")),
    "ConformalRiskControl(0.01), harm": asking(ConformalRiskControl(0.01)),
    "AccuracyDrop(0.01)": asking(AccuracyDrop(0.01)),
    "earlyon, drop 0.01, its own grid": of_earlyon(fine=False, tempered=False),
    "earlyon, drop 0.01, fine grid": of_earlyon(fine=True, tempered=False),
    "earlyon, drop 0.01, fine grid and temperatures": of_earlyon(fine=True, tempered=True),
}


def measure(name: str, args: argparse.Namespace) -> str:
    """All promises on the rows of one set."""
    found: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    choosers = CHOOSERS
    if not earlyon.is_installed():
        print(f"earlyon is not installed. Get it by\n  {earlyon.COMMAND}")
        choosers = {key: chooser for key, chooser in CHOOSERS.items() if "earlyon" not in key}
    for seed in range(args.seeds):
        saved = load(name, seed, args.cache)
        outputs = np.concatenate([saved.pool, saved.test])
        y = np.concatenate([saved.y_pool, saved.y_test])
        correct = outputs.argmax(axis=2) == y[:, None]
        n_pool, costs = len(saved.y_pool), saved.costs(DECISION)
        n_splits = args.splits // args.seeds + (seed < args.splits % args.seeds)
        for split in range(n_splits):
            order = np.random.RandomState(1000 * seed + split).permutation(len(y))
            known, new = order[:n_pool], order[n_pool:]
            evidence = CalibrationData.from_table(
                DECISION.tabulate(outputs[known]), y[known], costs
            )
            for label, chooser in choosers.items():
                certified = 1.0
                try:
                    exits = chooser(outputs[known], y[known], evidence)(outputs[new])
                except NotCertifiedError:
                    certified = 0.0
                    exits = DECISION.tabulate(outputs[new]).leave(no_early_exits(evidence.n_exits))
                right, end = correct[new, exits], correct[new, -1]
                n_harmed = int(np.sum(~right & end))
                clear = binom.sf(n_harmed - 1, len(new), 0.01) < 0.05
                drop = float(end.mean() - right.mean())
                found[label].append(
                    (certified, n_harmed / len(new), drop, costs[exits].mean(), float(clear))
                )
    n_test = len(y) - n_pool
    rows = []
    for label, results in found.items():
        certified, harm, drop, cost, clear = np.array(results).T
        rows.append(
            [
                label,
                f"{100 * harm.mean():.2f}",
                f"{np.mean(harm > 0.01):.0%}",
                f"{clear.mean():.0%}",
                f"{100 * drop.mean():+.2f}",
                f"{np.mean(drop > 0.01):.0%}",
                f"{100 * drop.max():+.2f}",
                f"{cost.mean():.3f}",
                f"{np.mean(certified == 0):.0%}",
            ]
        )
    header = ["calibration", "harm, %", "above 1 %", "clearly", "drop, points", "above 1"]
    header += ["largest", "mean cost", "nothing certified"]
    return (
        f"### {SETS[name].title}\n\n{args.splits} splits into {n_pool} calibration and {n_test} "
        f"test rows, on cascades of {args.seeds} seeds.\n\n{table(rows, header)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--draws", type=int, default=2000, help="of the simulation; 0 for none")
    parser.add_argument("--rows", type=int, default=1000, help="calibration rows of a draw")
    parser.add_argument("--splits", type=int, default=50, help="of each set, over all seeds")
    args = parser.parse_args()
    parts = ["## Promises of risk\n"]
    for name in available(args.sets):
        parts.append(measure(name, args))
        print(parts[-1], flush=True)
    if args.draws:
        parts.append(simulate(args))
        print(parts[-1])
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "guarantees.md").write_text("\n".join(parts))


if __name__ == "__main__":
    main()

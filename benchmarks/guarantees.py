"""How often each kind of calibration breaks its own guarantee.

First by simulation: calibration samples are drawn from a synthetic exit table that is large enough
to be the whole population, on which the risk of every threshold is known. In it the risk rises,
falls and rises again as thresholds fall. A guarantee may be broken in a share of the draws of at
most 1 - confidence, and three standard errors for the number of draws. Beside it are the results of
the cheapest threshold with no more than the level among the calibration samples, and of the first
threshold that could not be certified.

Then on trained cascades: the calibration and test samples of a cascade are divided anew, and what
was calibrated for at most one point of risk or drop on the first is measured on the second. These
are finite, and their risk may exceed the level though the true one does not; "clearly" counts the
splits where a binomial test at 5 % finds that it does. `AccuracyDrop` and the package earlyon,
which choose by the drop on the calibration samples, guarantee nothing about others.

    python benchmarks/guarantees.py
    python benchmarks/guarantees.py --draws 200 --sets letter
"""

from __future__ import annotations

import argparse
import itertools
import math
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness.cascades import load, splits
from _harness.command import DEFAULT_SETS, available, make_parser, write_table
from _harness.data import SETS
from _harness.peers import EARLYON
from _harness.report import table
from _harness.synthetic import Population, draw
from scipy.stats import binom

from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._exit_table import Outputs
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
#: guarantee does not depend on the family.
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
    """Risk of every threshold of a family, sample by sample."""
    data = population.calibration_data()
    losses, rows = exit_losses(data, risk), np.arange(len(population.scores))
    n_choices = data.n_exits - 1
    return np.array([losses[rows, data.exits(np.full(n_choices, t))].mean() for t in family(size)])


def n_certified(point: OperatingPoint, data: CalibrationData, thresholds: np.ndarray) -> int:
    """Number of thresholds of the family that it certifies."""
    try:
        chosen = point.thresholds(data, None)[0]  # type: ignore[arg-type]
    except NotCertifiedError:
        return 0
    return int(np.searchsorted(-thresholds, -chosen)) + 1


class Simulation:
    """Thresholds that each procedure certifies on drawn calibration samples.

    Parameters
    ----------
    n_draws, n_samples : int
        Draws, and calibration samples of each.

    Attributes
    ----------
    passed : dict of tuple to list of int
        Number of thresholds that are certified, one entry for each draw, by procedure, risk, size
        of the family, confidence and level; a size and a level only are those of the cheapest
        threshold with no more than the level among the calibration samples.
    """

    def __init__(self, n_draws: int, n_samples: int) -> None:
        self.n_draws = n_draws
        population = draw(N_POPULATION, N_EXITS, 0, bump=BUMP)
        self.truth = {(r, size): true_risks(population, r, size) for r in RISKS for size in SIZES}
        self.passed: dict[tuple, list[int]] = defaultdict(list)
        points = controls() | conformal()
        rng = np.random.RandomState(1)
        for _ in range(n_draws):
            data = population.calibration_data(rng.randint(N_POPULATION, size=n_samples))
            for key, point in points.items():
                self.passed[key].append(n_certified(point, data, family(key[2])))
            losses = exit_losses(data, "performance_gap")
            for size in SIZES:
                means = FamilyLosses(data.scores, losses, family(size)).means(data.weight)
                for level in LEVELS:
                    below = np.flatnonzero(means <= level)
                    self.passed[size, level].append(int(below[-1]) + 1 if len(below) else 0)

    def risks(self, risk: str, size: int, counts: list[int]) -> np.ndarray:
        """True risk for each draw."""
        # Where none is certified no sample exits early, at no risk.
        return np.append(self.truth[risk, size], 0.0)[np.array(counts) - 1]

    def broken(self, risk: str, size: int, level: float, counts: list[int]) -> float:
        """Share of the draws whose true risk is above the level."""
        return float(np.mean(self.risks(risk, size, counts) > level + 1e-12))


def controls() -> dict[tuple, OperatingPoint]:
    """`RiskControl` by procedure, risk, size of the family, confidence and level."""
    return {
        (name, risk, size, confidence, level): RiskControl(
            level, confidence_level=confidence, risk=risk, family=family(size), **options
        )
        for name, (options, risks, sizes) in PROCEDURES.items()
        for risk, size, confidence, level in itertools.product(risks, sizes, CONFIDENCES, LEVELS)
    }


def conformal() -> dict[tuple, OperatingPoint]:
    """`ConformalRiskControl` by the same, without a confidence."""
    return {
        ("conformal", risk, size, 0.0, level): ConformalRiskControl(
            level, risk=risk, family=family(size)
        )
        for risk, size, level in itertools.product(RISKS[:2], SIZES, LEVELS)
    }


def tests_table(found: Simulation) -> str:
    """How often the procedures with a confidence break their guarantee."""
    rows = []
    for name, (_, allowed, sizes) in PROCEDURES.items():
        for risk, confidence in itertools.product(allowed, CONFIDENCES):
            broken, refused = {}, []
            for size, level in itertools.product(sizes, LEVELS):
                counts = found.passed[name, risk, size, confidence, level]
                broken[size, level] = found.broken(risk, size, level, counts)
                refused.append(np.mean(np.array(counts) == 0))
            delta = 1 - confidence
            bound = delta + 3 * np.sqrt(delta * confidence / found.n_draws)
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
    return table(rows, [*header, "nothing certified", "kept"])


def conformal_table(found: Simulation) -> str:
    """Mean risk of conformal risk control."""
    rows = []
    for key in conformal():
        _, risk, size, _, level = key
        risks = found.risks(risk, size, found.passed[key])
        error = risks.std() / np.sqrt(len(risks))
        rows.append(
            [
                risk,
                str(size),
                str(level),
                f"{risks.mean():.5f} ± {error:.5f}",
                f"{np.mean(risks > level):.2f}",
                "yes" if risks.mean() <= level + 3 * error else "NO",
            ]
        )
    header = ["risk", "thresholds", "level", "mean risk ± s.e.", "single draws above", "kept"]
    return table(rows, header)


def neighbors_table(found: Simulation) -> str:
    """The certified threshold, the one after it, and the cheapest that looks safe."""
    rows = []
    for size, level in itertools.product(SIZES, LEVELS):
        certified = found.passed["ltt, binomial", "performance_gap", size, 0.9, level]
        first_failed = [min(count + 1, size) for count in certified]
        naive = found.passed[size, level]
        rows.append(
            [
                str(size),
                str(level),
                *(
                    f"{found.broken('performance_gap', size, level, counts):.3f}"
                    for counts in (certified, first_failed, naive)
                ),
                f"{found.risks('performance_gap', size, naive).mean():.4f}",
            ]
        )
    header = ["thresholds", "level", "certified at 0.9", "first not certified"]
    return table(rows, [*header, "cheapest that looks safe", "its mean risk"])


def simulate(args: argparse.Namespace) -> str:
    """All guarantees on drawn samples."""
    found = Simulation(args.draws, args.samples)
    return (
        f"### Simulation\n\n{args.draws} draws of {args.samples} calibration samples, {N_EXITS} "
        f"exits; families of {', '.join(map(str, SIZES))} thresholds, levels of "
        f"{', '.join(map(str, LEVELS))}.\n\n{tests_table(found)}"
        f"\nConformal risk control, which guarantees the mean:\n\n{conformal_table(found)}"
        f"\nPerformance gap above the level, share of the draws:\n\n{neighbors_table(found)}"
    )


#: From outputs, classes by index, data and costs of calibration samples to a function from
#: outputs to exits; raises NotCertifiedError.
Chooser = Callable[[np.ndarray, np.ndarray, CalibrationData], Callable[[np.ndarray], np.ndarray]]

DECISION = ExitRule(None, OwnCombination(), ConfidencePolicy())


def by_point(point: OperatingPoint) -> Chooser:
    """Calibration by this package."""

    def choose(outputs: np.ndarray, y: np.ndarray, data: CalibrationData) -> Any:
        known = compute_frontier(data) if isinstance(point, AccuracyDrop) else None
        thresholds = point.thresholds(data, known)  # type: ignore[arg-type]
        return lambda new: DECISION.tabulate(Outputs(new)).exits(thresholds)

    return choose


#: From high to low, dense near 1; its own has nine values from 0.99 to 0.5.
FINE_GRID = tuple(float(value) for value in 1 - np.linspace(0, 1, 42)[1:-1] ** 3)


def has_earlyon() -> bool:
    """Whether the package earlyon can be imported."""
    try:
        import earlyon.core.thresholds  # noqa: F401
    except ImportError:
        return False
    return True


class _StandIn(torch.nn.Module):
    """A network whose input is the outputs of its heads, shape (n_samples, n_exits, n_classes).

    earlyon calibrates a network with hooks, of which it uses the outputs of all heads, the
    configuration and the costs of the exits. This has nothing else.
    """

    def __init__(self, costs: np.ndarray, n_classes: int) -> None:
        from earlyon.core.types import EarlyExitConfig, ExitPoint

        super().__init__()
        names = [f"exit{i}" for i in range(len(costs) - 1)]
        points = [ExitPoint(name, name, n_classes) for name in names]
        self.config = EarlyExitConfig("stand-in", n_classes, points)
        self._flops_at = dict(zip(names, costs[:-1] / costs[-1], strict=True))

    def forward(self, logits: torch.Tensor, mode: str) -> list[torch.Tensor]:
        return list(logits.unbind(dim=1))


@dataclass(frozen=True)
class Calibrated:
    """What it chose.

    Attributes
    ----------
    thresholds : ndarray of shape (n_exits - 1,)
        Infinite where an exit is not used.
    temperatures : ndarray of shape (n_exits,)
    """

    thresholds: np.ndarray
    temperatures: np.ndarray

    def leave(self, outputs: np.ndarray) -> np.ndarray:
        """Exit of each sample, from outputs of shape (n_samples, n_exits, n_classes)."""
        logits = _logits(outputs)
        scores = torch.stack(
            [
                torch.softmax(logits[:, i] / temperature, dim=1).max(dim=1).values
                for i, temperature in enumerate(self.temperatures[:-1])
            ],
            dim=1,
        )
        reached = scores.double().numpy() >= self.thresholds
        return np.where(reached.any(axis=1), reached.argmax(axis=1), len(self.thresholds))


def calibrate_earlyon(
    outputs: np.ndarray,
    y: np.ndarray,
    costs: np.ndarray,
    drop: float,
    *,
    fine: bool,
    tempered: bool,
) -> Calibrated:
    """Thresholds for a drop of accuracy; temperatures, if any, come from half of the samples."""
    from earlyon.core.thresholds import calibrate_thresholds

    model = _StandIn(costs, outputs.shape[2])
    options: dict[str, Any] = {"grid": FINE_GRID} if fine else {}
    half = len(y) // 2 if tempered else 0
    batch = _logits(outputs[half:]), torch.tensor(y[half:])
    if tempered:
        options["temperature_loader"] = [(_logits(outputs[:half]), torch.tensor(y[:half]))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = calibrate_thresholds(
            model, [batch], target_accuracy_drop=drop, fit_temperature=tempered, **options
        )
    thresholds = np.where(result.enabled_exits, result.thresholds, math.inf)
    names = model.config.head_names
    return Calibrated(thresholds, np.array([model.config.temperatures[name] for name in names]))


def _logits(outputs: np.ndarray) -> torch.Tensor:
    return torch.tensor(np.log(np.maximum(outputs, 1e-12)), dtype=torch.float32)


def by_earlyon(*, fine: bool, tempered: bool) -> Chooser:
    """Calibration by earlyon."""

    def choose(outputs: np.ndarray, y: np.ndarray, data: CalibrationData) -> Any:
        return calibrate_earlyon(outputs, y, data.costs, 0.01, fine=fine, tempered=tempered).leave

    return choose


CHOOSERS = {
    "RiskControl(0.01)": by_point(RiskControl(0.01, family="common")),
    'RiskControl(0.01, risk="accuracy_drop")': by_point(
        RiskControl(0.01, risk="accuracy_drop", family="common")
    ),
    "ConformalRiskControl(0.01)": by_point(ConformalRiskControl(0.01, family="common")),
    "AccuracyDrop(0.01)": by_point(AccuracyDrop(0.01)),
    "earlyon, drop 0.01, its own grid": by_earlyon(fine=False, tempered=False),
    "earlyon, drop 0.01, fine grid": by_earlyon(fine=True, tempered=False),
    "earlyon, drop 0.01, fine grid and temperatures": by_earlyon(fine=True, tempered=True),
}


def measure(name: str, args: argparse.Namespace) -> str:
    """All guarantees on the samples of one set."""
    found: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    choosers = CHOOSERS
    if not has_earlyon():
        print(f"earlyon is not installed. Get it by\n  {EARLYON}")
        choosers = {key: chooser for key, chooser in CHOOSERS.items() if "earlyon" not in key}
    for seed in range(args.seeds):
        saved = load(name, seed, args.cache)
        outputs = np.concatenate([saved.pool, saved.test])
        y = np.concatenate([saved.y_pool, saved.y_test])
        costs = saved.costs(DECISION)
        for known, new, _ in splits(seed, len(saved.y_pool), len(y), args):
            data = CalibrationData.from_table(
                DECISION.tabulate(Outputs(outputs[known])), y[known], costs
            )
            for label, chooser in choosers.items():
                certified = True
                try:
                    exits = chooser(outputs[known], y[known], data)(outputs[new])
                except NotCertifiedError:
                    certified = False
                    exits = DECISION.tabulate(Outputs(outputs[new])).exits(
                        no_early_exits(data.n_exits)
                    )
                found[label].append((certified, *judge(outputs[new], y[new], exits, costs)))
    return (
        f"### {SETS[name].title}\n\n{args.splits} splits into {len(known)} calibration and "
        f"{len(new)} test samples, on cascades of {args.seeds} seeds.\n\n{splits_table(found)}"
    )


def judge(
    outputs: np.ndarray, y: np.ndarray, exits: np.ndarray, costs: np.ndarray
) -> tuple[float, float, float, bool]:
    """Performance gap, drop of accuracy, mean cost, and whether the gap is clearly above 1 %."""
    correct = outputs.argmax(axis=2) == y[:, None]
    right, end = correct[np.arange(len(y)), exits], correct[:, -1]
    n_lost = int(np.sum(~right & end))
    clear = bool(binom.sf(n_lost - 1, len(y), 0.01) < 0.05)
    return n_lost / len(y), float(end.mean() - right.mean()), costs[exits].mean(), clear


def splits_table(found: dict[str, list[tuple[float, ...]]]) -> str:
    """Markdown of what `measure` has found."""
    rows = []
    for label, results in found.items():
        certified, gap, drop, cost, clear = np.array(results, dtype=float).T
        rows.append(
            [
                label,
                f"{100 * gap.mean():.2f}",
                f"{np.mean(gap > 0.01):.0%}",
                f"{clear.mean():.0%}",
                f"{100 * drop.mean():+.2f}",
                f"{np.mean(drop > 0.01):.0%}",
                f"{100 * drop.max():+.2f}",
                f"{cost.mean():.3f}",
                f"{np.mean(certified == 0):.0%}",
            ]
        )
    header = ["calibration", "gap, %", "above 1 %", "clearly", "drop, points", "above 1"]
    return table(rows, [*header, "largest", "mean cost", "nothing certified"])


def main() -> None:
    parser = make_parser(__doc__, sets=DEFAULT_SETS, seeds=5, cache=True, output=True)
    parser.add_argument("--draws", type=int, default=2000, help="of the simulation; 0 for none")
    parser.add_argument("--samples", type=int, default=1000, help="calibration samples of a draw")
    parser.add_argument("--splits", type=int, default=50, help="of each set, over all seeds")
    args = parser.parse_args()
    parts = ["## Guarantees of risk\n"]
    for name in available(args.sets):
        parts.append(measure(name, args))
        print(parts[-1], flush=True)
    if args.draws:
        parts.append(simulate(args))
        print(parts[-1])
    write_table(args.output, "guarantees", "\n".join(parts))


if __name__ == "__main__":
    main()

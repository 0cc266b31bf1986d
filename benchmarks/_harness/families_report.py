"""Tables of the ways of training, and what is known of them from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from _harness.data import SETS
from _harness.families import BASE, PLAIN, REFERENCE
from _harness.ranks import Ranks, against
from _harness.report import spread, table
from _harness.training_runs import Curve, Outcome

DROPS = (0.0, 0.5)


@dataclass(frozen=True)
class Found:
    """Outcomes of all trainings.

    Attributes
    ----------
    sets, strategies : list of str
    seeds : int
    outcomes : dict of (set, strategy, seed) to Outcome
    macs : dict of (set, strategy) to float
        Multiply-accumulates of a training.
    """

    sets: list[str]
    strategies: list[str]
    seeds: int
    outcomes: dict[Any, Outcome]
    macs: dict[Any, float]

    def of(self, name: str, strategy: str) -> list[Outcome]:
        """Outcomes of all seeds."""
        return [self.outcomes[name, strategy, seed] for seed in range(self.seeds)]

    def curves(self, name: str, strategy: str) -> list[Curve]:
        """Curves of all seeds."""
        return [outcome.curves["own"] for outcome in self.of(name, strategy)]

    @property
    def cascades(self) -> list[str]:
        """Strategies that leave exits to choose among."""
        return [
            strategy
            for strategy in self.strategies
            if len(self.of(self.sets[0], strategy)[0].exit_costs) > 1
        ]

    def low(self, name: str) -> float:
        """Smallest budget of the area: all cascades of a set can meet it."""
        return max(
            float(curve.expected_costs[0])
            for strategy in self.cascades
            for curve in self.curves(name, strategy)
        )

    def each(self, value: Callable[[str, str, int], float], strategy: str) -> np.ndarray:
        """A number for every set and seed, shape (n_sets, n_seeds)."""
        seeds = range(self.seeds)
        return np.array([[value(name, strategy, seed) for seed in seeds] for name in self.sets])

    def area(self, name: str, strategy: str, seed: int) -> float:
        """Mean accuracy over budgets, in %."""
        return 100 * self.curves(name, strategy)[seed].area(self.low(name))

    def accuracy(self, budget: float, name: str, strategy: str, seed: int) -> float:
        """In %, at a budget."""
        return 100 * self.curves(name, strategy)[seed].at(budget)[0]

    def to_plain(self, budget: float, strategy: str) -> float:
        """Points at a budget above the plain network, mean over sets and seeds."""

        def gain(name: str, strategy: str, seed: int) -> float:
            return self.accuracy(budget, name, strategy, seed) - self.end(name, PLAIN, seed)

        return float(self.each(gain, strategy).mean())

    def seconds_to_base(self, strategy: str) -> float:
        """Processor seconds over those of joint training, mean over sets and seeds."""

        def quotient(name: str, strategy: str, seed: int) -> float:
            return self.of(name, strategy)[seed].seconds / self.of(name, BASE)[seed].seconds

        return float(self.each(quotient, strategy).mean())

    def end(self, name: str, strategy: str, seed: int) -> float:
        """Of the last exit, in %."""
        return 100 * float(self.of(name, strategy)[seed].alone[-1])


def told(values: Any, digits: int = 2) -> str:
    """Mean and spread, or nothing where there are no numbers."""
    values = np.asarray(values, dtype=float)
    return spread(values, digits) if np.isfinite(values).all() else "-"


def cheapest(found: Found, name: str, strategy: str, drop: float) -> str:
    """Cost on test rows of what loses little on validation rows, and what it loses there."""
    costs, lost = [], []
    plain = found.of(name, PLAIN)
    for curve, end in zip(found.curves(name, strategy), plain, strict=True):
        cost, accuracy = curve.cheapest(end.validation - drop / 100)
        costs.append(cost)
        lost.append(100 * (end.alone[-1] - accuracy))
    some = np.isfinite(costs)
    if not some.any():
        return "never"
    text = f"{spread(np.array(costs)[some])}, loses {np.mean(np.array(lost)[some]):.2f}"
    return text + ("" if some.all() else f" ({some.sum()} of {len(some)})")


def set_tables(found: Found, name: str, budgets: list[float]) -> str:
    """Markdown of one set."""
    plain = np.array([outcome.alone[-1] for outcome in found.of(name, PLAIN)])
    base = np.array([outcome.seconds for outcome in found.of(name, BASE)])
    exits, numbers = [], []
    for strategy in found.strategies:
        outcomes, curves = found.of(name, strategy), found.curves(name, strategy)
        alone = 100 * np.array([outcome.alone for outcome in outcomes])
        several = strategy in found.cascades
        exits.append([strategy, *[told(column) for column in alone.T]])
        gains = []
        for budget in budgets:
            at = np.array([curve.at(budget)[0] for curve in curves])
            gains.append(told(100 * (at - plain)))
        seeds = range(found.seeds)
        numbers.append(
            [
                strategy,
                told([found.area(name, strategy, seed) for seed in seeds]) if several else "-",
                *(gains if several else ["-"] * len(budgets)),
                told(100 * (alone[:, -1] / 100 - plain)),
                *(cheapest(found, name, strategy, d) if several else "-" for d in DROPS),
                told([o.seconds / b for o, b in zip(outcomes, base, strict=True)]),
                told([outcome.peak_bytes / 2**20 for outcome in outcomes], 0),
                f"{outcomes[0].epochs}",
                f"{found.macs[name, strategy] / 1e9:.1f}",
            ]
        )
    n_exits = max(len(line) for line in exits) - 1
    exits = [[line[0], *["-"] * (n_exits + 1 - len(line)), *line[1:]] for line in exits]
    costs = found.of(name, BASE)[0].exit_costs
    header = [f"exit {i + 1}, cost {cost:.2f}" for i, cost in enumerate(costs)]
    columns = [
        "strategy",
        f"area from {found.low(name):.2f}",
        *(f"at {budget}, to plain" for budget in budgets),
        "last exit, to plain",
        *(f"cheapest within {drop} points" for drop in DROPS),
        "seconds to joint",
        "peak, MiB",
        "epochs",
        "GMACs",
    ]
    return (
        f"### {SETS[name].title}\n\nTest accuracy of every exit in %, mean ± spread over seeds.\n\n"
        + table(exits, ["strategy", *header])
        + f"\nPlain network {told(100 * plain)} %; joint training took {told(base, 1)} s.\n\n"
        + table(numbers, columns)
    )


def summary(found: Found, budgets: list[float]) -> str:
    """Ranks over blocks, and differences from the strategy that the others are held against."""
    methods = found.cascades
    blocks = [(name, budget) for name in found.sets for budget in budgets]
    scores = np.array(
        [
            [
                np.mean([found.accuracy(budget, name, m, seed) for seed in range(found.seeds)])
                for m in methods
            ]
            for name, budget in blocks
        ]
    )
    scores = np.where(np.isnan(scores), -np.inf, scores)
    areas = {m: found.each(found.area, m) for m in methods}
    base = {
        "scores": scores[:, methods.index(REFERENCE)],
        "areas": areas[REFERENCE].ravel(),
    }
    ranks = Ranks.of(scores) if len(methods) > 2 else None
    average = np.zeros(len(methods)) if ranks is None else ranks.average
    rows = []
    for j in np.argsort(average, kind="stable"):
        possible = np.isfinite(scores[:, j])
        mean, above, below, p_value = against(scores[possible, j], base["scores"][possible])
        gain = against(areas[methods[j]].ravel(), base["areas"])
        same = methods[j] == REFERENCE
        ends = found.each(found.end, methods[j]) - found.each(found.end, PLAIN)
        rows.append(
            [
                methods[j],
                f"{average[j]:.2f}",
                f"{mean:+.3f}",
                f"{above} : {below}",
                "" if same else f"{p_value:.3f}",
                f"{areas[methods[j]].mean():.2f}",
                f"{gain[0]:+.3f}",
                f"{gain[1]} : {gain[2]}",
                "" if same else f"{gain[3]:.3f}",
                *(f"{found.to_plain(budget, methods[j]):+.2f}" for budget in budgets),
                f"{ends.mean():+.2f}",
                f"{found.seconds_to_base(methods[j]):.2f}",
            ]
        )
    header = [
        "strategy",
        "average rank",
        f"to {REFERENCE}, points",
        "above : below",
        "Wilcoxon p",
        "area",
        f"area to {REFERENCE}",
        "above : below, sets and seeds",
        "Wilcoxon p",
        *(f"at {budget}, to plain" for budget in budgets),
        "last exit, to plain",
        f"seconds to {BASE}",
    ]
    tests = (
        ""
        if ranks is None
        else f"Friedman p = {ranks.p_value:.2g}, critical difference of average ranks (Nemenyi, "
        f"5 %) {ranks.critical:.2f}.\n\n"
    )
    return f"### All sets\n\n{len(blocks)} blocks of one set and budget. {tests}" + table(
        rows, header
    )


def report(found: Found, budgets: list[float]) -> str:
    """Markdown of all."""
    parts = [set_tables(found, name, budgets) for name in found.sets]
    return "\n".join([*parts, summary(found, budgets)])


def difference(found: Found, value: Callable[[str, str, int], float], one: str, other: str) -> str:
    """Mean difference over sets and seeds, and how often it is above or below."""
    gain = found.each(value, one) - found.each(value, other)
    sets = ", ".join(
        f"{name} {told(values)}" for name, values in zip(found.sets, gain, strict=True)
    )
    there = np.isfinite(gain)
    if not there.any():
        return "not possible"
    mean, above, below, p_value = against(gain[there], np.zeros(there.sum()))
    return (
        f"{mean:+.2f} points (above : below in {above} : {below} sets and seeds, Wilcoxon p = "
        f"{p_value:.3f}); {sets}"
    )


def known_results(found: Found, budgets: list[float]) -> list[str]:
    """Lines on what others have found, as far as the strategies were run."""
    lines = []

    def tell(text: str, value: Callable[[str, str, int], float], one: str, other: str) -> None:
        if {one, other} <= set(found.strategies):
            lines.append(f"- {text}: {difference(found, value, one, other)}")

    small = min(budgets)

    def at_small(name: str, strategy: str, seed: int) -> float:
        return found.accuracy(small, name, strategy, seed)

    tell("Area, mixed against joint", found.area, "mixed", "joint")
    tell("Area, mixed against separate", found.area, "mixed", "separate")
    tell("Area, joint against separate", found.area, "joint", "separate")
    tell("Last exit, joint with equal weights against plain", found.end, "joint", PLAIN)
    tell("Last exit, mixed against plain", found.end, "mixed", PLAIN)
    tell("Last exit, separate against plain", found.end, "separate", PLAIN)
    tell(f"Accuracy at budget {small}, separate against joint", at_small, "separate", "joint")
    tell(f"Accuracy at budget {small}, separate against mixed", at_small, "separate", "mixed")
    return lines

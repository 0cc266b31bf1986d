"""What is kept of a training: accuracy, cost, time and memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from _harness.cascades import Cascade
from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._data._samples import Samples
from skearlyexit._exit_table import ExitTable, Outputs
from skearlyexit._fitting._cross_fit import cross_fit
from skearlyexit.calibration import CalibrationData, Frontier, compute_frontier
from skearlyexit.combination import GeometricCombination
from skearlyexit.metrics import cost_accuracy
from skearlyexit.metrics._curve import mean_of_steps
from skearlyexit.policies import ConfidencePolicy

#: The training whose operations are the budget of all, the one that others are compared with, and
#: the network without exits.
BASE, REFERENCE, PLAIN = "joint", "mixed", "plain network"


@dataclass(frozen=True)
class Curve:
    """Operating points chosen on validation samples, the cheapest first.

    Attributes
    ----------
    expected_costs, expected_accuracies : ndarray of shape (n_points,)
        On validation samples, increasing.
    costs, accuracies : ndarray of shape (n_points,)
        On test samples.
    """

    expected_costs: np.ndarray
    expected_accuracies: np.ndarray
    costs: np.ndarray
    accuracies: np.ndarray

    def at(self, budget: float) -> tuple[float, float]:
        """Accuracy and cost on test samples for a budget; nan where it cannot be met."""
        index = self._index(budget)
        if index < 0:
            return np.nan, np.nan
        return float(self.accuracies[index]), float(self.costs[index])

    def expected(self, budget: float) -> float:
        """Accuracy on validation samples for a budget; nan where it cannot be met."""
        index = self._index(budget)
        return float(self.expected_accuracies[index]) if index >= 0 else np.nan

    def area(self, low: float, high: float = 1.0) -> float:
        """Mean test accuracy over the budgets."""
        if self.expected_costs[0] > high:
            return np.nan
        return mean_of_steps(self.expected_costs, self.accuracies, low=low, high=high, below=0.0)

    def _index(self, budget: float) -> int:
        """The most expensive point within a budget; -1 where there is none."""
        allowed = budget * (1 + 1e-12)
        return int(np.searchsorted(self.expected_costs, allowed, side="right")) - 1

    def cheapest(self, accuracy: float) -> tuple[float, float]:
        """Test cost and accuracy of the first point of a validation accuracy; nan without one."""
        index = int(np.searchsorted(self.expected_accuracies, accuracy - 1e-12, side="left"))
        if index == len(self.costs):
            return np.nan, np.nan
        return float(self.costs[index]), float(self.accuracies[index])


@dataclass(frozen=True)
class Outcome:
    """What is kept of a training.

    Attributes
    ----------
    alone : ndarray of shape (n_exits,)
        Test accuracy of each exit if every sample exited there.
    validation : float
        Validation accuracy of the last exit.
    exit_costs : ndarray of shape (n_exits,)
    curves : dict of str to Curve
        By combination rule.
    seconds, peak_bytes : float
        Of fit.
    epochs : int
        `max_epochs` of the estimator.
    """

    alone: np.ndarray
    validation: float
    exit_costs: np.ndarray
    curves: dict[str, Curve]
    seconds: float
    peak_bytes: float
    epochs: int


def curve_of(
    val: ExitTable, y_val: np.ndarray, test: ExitTable, y_test: np.ndarray, costs: np.ndarray
) -> Curve:
    """The best operating points on validation samples, and what they give on test samples."""
    data = CalibrationData.from_table(val, y_val, costs)
    right = test.labels == y_test[:, None]
    if len(costs) == 1:
        frontier = Frontier(np.empty((1, 0)), costs, data.correct.mean(axis=0))
    else:
        frontier = compute_frontier(data)
    found = cost_accuracy(right, test.scores, costs, frontier.thresholds)
    return Curve(frontier.costs, frontier.accuracies, *found)


def combined_curve(cascade: Cascade, seed: int) -> Curve:
    """Curve with weighted geometric means of the heads, cross-fitted on the validation samples."""
    held = Samples(Outputs(cascade.pool), cascade.y_pool)
    fitted, judged = cross_fit(
        ExitRule(None, GeometricCombination(), ConfidencePolicy()),
        held,
        [len(held)],
        lambda: cascade.bare_costs,
        np.random.RandomState(seed),
    )
    test = fitted.tabulate(Outputs(cascade.test))
    return curve_of(judged.X, judged.y, test, cascade.y_test, cascade.costs(fitted))


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
        """Strategies with early exits in prediction."""
        return [
            strategy
            for strategy in self.strategies
            if len(self.of(self.sets[0], strategy)[0].exit_costs) > 1
        ]

    def low(self, name: str) -> float:
        """Smallest budget of the area: all cascades of a set can keep it."""
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

"""Figures of a report, and how they are computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from skearlyexit.metrics._intervals import effective_rows, mean_interval, proportion_interval


@dataclass(frozen=True, eq=False)
class ExitFigures:
    """Figures of each exit; see `ExitReport`."""

    names: list[str]
    costs: np.ndarray
    thresholds: np.ndarray
    accuracy_alone: np.ndarray
    accuracy_alone_interval: np.ndarray
    reach_rate: np.ndarray
    reach_rate_interval: np.ndarray
    exit_rate: np.ndarray
    exit_rate_interval: np.ndarray
    accuracy_exiting: np.ndarray
    accuracy_exiting_interval: np.ndarray
    skip_rate: np.ndarray | None = None
    skip_rate_interval: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class OverallFigures:
    """Figures of the whole model; see `ExitReport`."""

    n_samples: int
    accuracy: float
    accuracy_interval: np.ndarray
    last_accuracy: float
    last_accuracy_interval: np.ndarray
    drop: float
    drop_interval: np.ndarray
    mean_cost: float
    mean_cost_interval: np.ndarray
    plain_accuracy: float = np.nan
    plain_accuracy_interval: np.ndarray = field(default_factory=lambda: np.full(2, np.nan))
    plain_drop: float = np.nan
    plain_drop_interval: np.ndarray = field(default_factory=lambda: np.full(2, np.nan))


@dataclass(frozen=True, eq=False)
class ClassFigures:
    """Figures of each class; see `ExitReport`."""

    labels: np.ndarray
    n_samples: np.ndarray
    accuracy: np.ndarray
    last_accuracy: np.ndarray
    drop: np.ndarray
    drop_interval: np.ndarray
    mean_cost: np.ndarray


def possible_exits(thresholds: np.ndarray) -> np.ndarray:
    """Whether a score in [0, 1] can make a sample exit at each exit.

    At the others it is certain, and not only observed, that no sample exits.

    Parameters
    ----------
    thresholds : ndarray of shape (n_exits - 1,)

    Returns
    -------
    possible : ndarray of shape (n_exits,), bool
    """
    passed_on = np.concatenate([[True], np.logical_and.accumulate(thresholds > 0)])
    return passed_on & (np.append(thresholds, 0.0) <= 1)


def reach_and_exit_rates(
    exits: np.ndarray,
    possible: np.ndarray,
    share: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Rates at which samples reach each exit and exit there, with their intervals.

    Parameters
    ----------
    exits : ndarray of shape (n_samples,)
        Exit of each sample.
    possible : ndarray of shape (n_exits,), bool
        Whether samples can exit at each exit.
    share : callable
        Function from hits of shape (n_samples, n_exits) to their share at each exit, and its
        interval, of shape (n_exits, 2).

    Returns
    -------
    rates : dict of str to ndarray
        By the names of the figures.
    """
    numbers = np.arange(len(possible))
    reach_rate, reach_rate_interval = share(exits[:, None] >= numbers)
    exit_rate, exit_rate_interval = share(exits[:, None] == numbers)
    exit_rate_interval[~possible] = 0.0
    # Every sample passes exits at which none can exit, and none passes all the others.
    reach_rate_interval[numbers <= numbers[possible][0]] = 1.0
    reach_rate_interval[numbers > numbers[possible][-1]] = 0.0
    if possible.sum() == 1:
        exit_rate_interval[possible] = 1.0
    return {
        "reach_rate": reach_rate,
        "reach_rate_interval": reach_rate_interval,
        "exit_rate": exit_rate,
        "exit_rate_interval": exit_rate_interval,
    }


@dataclass(frozen=True)
class Outcomes:
    """Where samples exit, and which exits are right: what the figures are computed from.

    Parameters
    ----------
    correct : ndarray of shape (n_samples, n_exits), bool
        Whether each exit is right.
    exits : ndarray of shape (n_samples,)
        Exit of each sample.
    paid : ndarray of shape (n_samples,)
        Cost of each sample.
    skipped : ndarray of shape (n_samples, n_exits), bool, or None
        Whether each sample skips each exit before its own. None without a router.
    weight : ndarray of shape (n_samples,)
        Positive.
    costs, least : ndarray of shape (n_exits,)
        Cumulative cost of each exit, and the least that a sample can cost there.
    possible : ndarray of shape (n_exits,), bool
        Whether samples can exit at each exit.
    level : float
        Confidence level of the intervals.
    """

    correct: np.ndarray
    exits: np.ndarray
    paid: np.ndarray
    skipped: np.ndarray | None
    weight: np.ndarray
    costs: np.ndarray
    least: np.ndarray
    possible: np.ndarray
    level: float

    def take(self, samples: np.ndarray) -> Outcomes:
        """Outcomes of some of the samples, given as indices or as a mask."""
        return replace(
            self,
            correct=self.correct[samples],
            exits=self.exits[samples],
            paid=self.paid[samples],
            skipped=None if self.skipped is None else self.skipped[samples],
            weight=self.weight[samples],
        )

    def by_exit(self, names: list[str], thresholds: np.ndarray) -> ExitFigures:
        """Figures of each exit."""
        alone, alone_interval = self._share(self.correct)
        skip_rate = skip_rate_interval = None
        if self.skipped is not None:
            skip_rate, skip_rate_interval = self._share(self.skipped)
            skip_rate_interval[[0, -1]] = 0.0  # the first and the last exit are never skipped
        leaving, leaving_interval = [], []
        for exit_ in range(len(self.costs)):
            there = self.take(self.exits == exit_)
            value, interval = there._share(there.correct[:, exit_])
            leaving.append(value)
            leaving_interval.append(interval)
        return ExitFigures(
            names=names,
            costs=self.costs,
            thresholds=thresholds,
            accuracy_alone=alone,
            accuracy_alone_interval=alone_interval,
            **reach_and_exit_rates(self.exits, self.possible, self._share),
            accuracy_exiting=np.array(leaving),
            accuracy_exiting_interval=np.array(leaving_interval),
            skip_rate=skip_rate,
            skip_rate_interval=skip_rate_interval,
        )

    def overall(self) -> OverallFigures:
        """Figures of the whole model."""
        accuracy, accuracy_interval = self._share(self._right())
        last, last_interval = self._share(self.correct[:, -1])
        cost = self.paid
        bounds = self.least[self.possible].min(), self.costs[self.possible][-1]
        return OverallFigures(
            n_samples=len(self.exits),
            accuracy=float(accuracy),
            accuracy_interval=accuracy_interval,
            last_accuracy=float(last),
            last_accuracy_interval=last_interval,
            drop=float(np.average(self._loss(), weights=self.weight)),
            drop_interval=self._drop_interval(),
            mean_cost=float(np.average(cost, weights=self.weight)),
            mean_cost_interval=mean_interval(cost, *bounds, self.level, weight=self.weight),
        )

    def beside(self, overall: OverallFigures, plain: np.ndarray) -> OverallFigures:
        """Add the figures of another model that is right where `plain` is True."""
        accuracy, interval = self._share(plain)
        loss = plain.astype(np.float64) - self._right()
        return replace(
            overall,
            plain_accuracy=float(accuracy),
            plain_accuracy_interval=interval,
            plain_drop=float(np.average(loss, weights=self.weight)),
            plain_drop_interval=mean_interval(loss, -1.0, 1.0, self.level, weight=self.weight),
        )

    def by_class(self, y_index: np.ndarray, labels: np.ndarray) -> ClassFigures:
        """Figures of each class; nan for one without samples."""
        n_classes = len(labels)
        n_samples = np.bincount(y_index, minlength=n_classes)
        order = np.argsort(y_index, kind="stable")
        values = np.full((4, n_classes), np.nan)
        intervals = np.empty((n_classes, 2))
        for k, samples in enumerate(np.split(order, np.cumsum(n_samples)[:-1])):
            part = self.take(samples)
            intervals[k] = part._drop_interval()
            if len(samples):
                right, last, cost = part._right(), part.correct[:, -1], part.paid
                measured = np.stack([right, last, part._loss(), cost])
                values[:, k] = np.average(measured, axis=1, weights=part.weight)
        return ClassFigures(
            labels=labels,
            n_samples=n_samples,
            accuracy=values[0],
            last_accuracy=values[1],
            drop=values[2],
            drop_interval=intervals,
            mean_cost=values[3],
        )

    def _right(self) -> np.ndarray:
        """Whether each sample is right at its exit, shape (n_samples,)."""
        return np.asarray(self.correct[np.arange(len(self.exits)), self.exits])

    def _loss(self) -> np.ndarray:
        """1 where a sample is wrong and would be right at the end, -1 the other way round."""
        return self.correct[:, -1].astype(np.float64) - self._right()

    def _drop_interval(self) -> np.ndarray:
        """Interval of the mean loss, shape (2,)."""
        # Nothing is lost or won where all samples run to the end.
        bound = float(self.possible[:-1].any())
        return mean_interval(self._loss(), -bound, bound, self.level, weight=self.weight)

    def _share(self, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weighted share of hits, shape (...), and its interval, shape (..., 2).

        Parameters
        ----------
        hits : ndarray of shape (n_samples, ...), bool
        """
        if not len(hits):
            return np.full(hits.shape[1:], np.nan), proportion_interval(
                np.zeros(hits.shape[1:]), 0, self.level
            )
        share = np.average(hits, axis=0, weights=self.weight)
        n_rows = effective_rows(self.weight)
        return np.asarray(share), proportion_interval(share * n_rows, n_rows, self.level)

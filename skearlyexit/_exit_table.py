"""Outputs of the heads, and the exit table.

Thresholds, costs and metrics are computed from the exit table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Outputs:
    """Outputs of the heads, before any temperature, combination or policy.

    Attributes
    ----------
    probabilities : ndarray of shape (n_samples, n_classes) or (n_samples, n_exits, n_classes)
        Class probabilities of one exit or of every exit. In regression, predicted values of the
        targets, in the units in which they are standardized.
    gates : ndarray of shape (n_samples,) or (n_samples, n_exits), or None
        Outputs of the gates; 1 at the last exit, which has no gate. None if gates are not used.
    """

    probabilities: np.ndarray
    gates: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def n_exits(self) -> int:
        """Number of exits, for the outputs of every exit."""
        return int(self.probabilities.shape[1])

    def at(self, exit_: int) -> Outputs:
        """Outputs of one exit, in contiguous memory: kernels may add up in another order."""
        gates = None if self.gates is None else np.ascontiguousarray(self.gates[:, exit_])
        return Outputs(np.ascontiguousarray(self.probabilities[:, exit_]), gates)

    def select(self, chosen: Sequence[int]) -> Outputs:
        """Outputs of some of the exits."""
        chosen = list(chosen)
        gates = None if self.gates is None else self.gates[:, chosen]
        return Outputs(self.probabilities[:, chosen], gates)

    def __getitem__(self, index: np.ndarray | slice) -> Outputs:
        gates = None if self.gates is None else self.gates[index]
        return Outputs(self.probabilities[index], gates)

    @staticmethod
    def concatenate(outputs: Sequence[Outputs]) -> Outputs:
        """Outputs for the samples of several."""
        return Outputs(
            np.concatenate([each.probabilities for each in outputs]),
            _concatenated_gates([each.gates for each in outputs]),
        )


class Router(Protocol):
    """What determines the exits that samples skip; see `skearlyexit.routing.ExitRouter`."""

    def least_scores(self, thresholds: np.ndarray) -> np.ndarray:
        """Least first score with which each exit is asked, shape (n_exits,)."""


@dataclass(frozen=True)
class Routing:
    """Which exits samples skip, and what it saves.

    Attributes
    ----------
    routers : tuple of ExitRouter
        Fitted routers. In cross-fitting, each sample has one that was not fitted to it.
    which : ndarray of shape (n_samples,)
        Index of the router of each sample.
    savings : ndarray of shape (n_exits,)
        Cost that a sample saves which skips the exit, as a share of that of the plain network.
    """

    routers: tuple[Router, ...]
    which: np.ndarray
    savings: np.ndarray

    @classmethod
    def of(cls, router: Router, n_samples: int, savings: np.ndarray) -> Routing:
        """Routing of samples by one router."""
        return cls((router,), np.zeros(n_samples, dtype=np.intp), savings)

    def __getitem__(self, rows: np.ndarray) -> Routing:
        return replace(self, which=self.which[rows])

    def skipped(self, scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
        """Whether each sample skips each exit under given thresholds, shape of `scores`.

        It says so of exits after that of the sample, too, which it does not reach.
        """
        least = np.stack([router.least_scores(thresholds) for router in self.routers])
        return np.asarray(scores[:, :1] < least[self.which])

    def least_costs(self, costs: np.ndarray) -> np.ndarray:
        """Cumulative cost of each exit if all exits between the first and it are skipped."""
        between = np.append(0.0, self.savings[1:])
        return np.asarray(costs - np.cumsum(between) + between)

    @staticmethod
    def concatenate(parts: Sequence[Routing | None]) -> Routing | None:
        """Routing of the samples of several tables, or None if one of them has none."""
        known = [part for part in parts if part is not None]
        if not known or len(known) < len(parts):
            return None
        # The tables of one model have the same router.
        routers = {id(router): router for part in known for router in part.routers}
        numbers = {key: i for i, key in enumerate(routers)}
        which = [np.array([numbers[id(each)] for each in p.routers])[p.which] for p in known]
        return replace(known[0], routers=tuple(routers.values()), which=np.concatenate(which))


class ScoredExits:
    """Base class of tables with a score for each sample and exit."""

    scores: np.ndarray
    routing: Routing | None = None

    @property
    def n_exits(self) -> int:
        """Number of exits, the last included."""
        return int(self.scores.shape[1])

    def __len__(self) -> int:
        return len(self.scores)

    def exits(self, thresholds: np.ndarray) -> np.ndarray:
        """Compute the exit of each sample under given thresholds.

        A sample exits at the first exit at which its score reaches the threshold, and at the last
        exit if there is none. Exits that it skips do not count.

        Parameters
        ----------
        thresholds : array-like of shape (n_exits - 1,)
            Thresholds of all exits but the last.

        Returns
        -------
        exits : ndarray of shape (n_samples,)
            Index of the exit of each sample.
        """
        return exits_of(self.scores, np.asarray(thresholds, dtype=np.float64), self.routing)

    def skipped(self, thresholds: np.ndarray) -> np.ndarray:
        """Compute which exits before its own each sample skips under given thresholds.

        Parameters
        ----------
        thresholds : array-like of shape (n_exits - 1,)
            Thresholds of all exits but the last.

        Returns
        -------
        skipped : ndarray of shape (n_samples, n_exits), bool
            Whether the sample skips the exit. All are False without a router.
        """
        if self.routing is None:
            return np.zeros(self.scores.shape, dtype=bool)
        thresholds = np.asarray(thresholds, dtype=np.float64)
        before = np.arange(self.n_exits) < self.exits(thresholds)[:, None]
        return self.routing.skipped(self.scores, thresholds) & before

    def outcomes(self, thresholds: np.ndarray, costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute the exit and the cost of each sample under given thresholds.

        Parameters
        ----------
        thresholds : array-like of shape (n_exits - 1,)
            Thresholds of all exits but the last.
        costs : array-like of shape (n_exits,)
            Cumulative cost of exiting at each exit if none is skipped, such as `costs_` of an
            estimator.

        Returns
        -------
        exits : ndarray of shape (n_samples,)
            Index of the exit of each sample.
        paid : ndarray of shape (n_samples,)
            Cost of the exit of each sample, less the costs of heads and decisions of the exits that
            it skips.
        """
        thresholds = np.asarray(thresholds, dtype=np.float64)
        return outcomes_of(self.scores, thresholds, np.asarray(costs), self.routing)


@dataclass(frozen=True)
class LabelTable(ScoredExits):
    """Labels and scores of every exit, without the probabilities.

    Its size does not depend on the number of classes.

    Attributes
    ----------
    labels : ndarray of shape (n_samples, n_exits)
        Index of the most probable class.
    scores : ndarray of shape (n_samples, n_exits)
        As in `ExitTable`.
    routing : Routing or None, default=None
        As in `ExitTable`.
    """

    labels: np.ndarray
    scores: np.ndarray
    routing: Routing | None = None

    @staticmethod
    def concatenate(tables: Sequence[LabelTable]) -> LabelTable:
        """Concatenate tables along the samples."""
        return LabelTable(
            np.concatenate([table.labels for table in tables]),
            np.concatenate([table.scores for table in tables]),
            Routing.concatenate([table.routing for table in tables]),
        )


@dataclass(frozen=True)
class ExitTable(ScoredExits):
    """Outputs of every exit for a set of samples.

    Parameters
    ----------
    probabilities : ndarray of shape (n_samples, n_exits, n_classes)
        Predicted class probabilities. If a head predicts labels only, the predicted label has
        probability 1.
    scores : ndarray of shape (n_samples, n_exits)
        Scores of the policy, in [0, 1]; a higher score means a more confident prediction.
    gates : ndarray of shape (n_samples, n_exits), default=None
        Outputs of the gates; 1 at the last exit, which has no gate. None if gates are not used.
    routing : Routing, default=None
        Which exits samples skip, in the exit tables of a classifier with a router. None if all are
        asked.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit import ExitTable
    >>> probabilities = np.array([[[0.9, 0.1], [0.8, 0.2]], [[0.6, 0.4], [0.3, 0.7]]])
    >>> table = ExitTable(probabilities, scores=probabilities.max(axis=2))
    >>> table.labels
    array([[0, 0],
           [0, 1]])
    >>> table.exits([0.75])  # the threshold of every exit but the last
    array([0, 1])
    """

    probabilities: np.ndarray
    scores: np.ndarray
    gates: np.ndarray | None = None
    routing: Routing | None = None

    @property
    def labels(self) -> np.ndarray:
        """Index of the most probable class at each exit, shape (n_samples, n_exits)."""
        return np.asarray(self.probabilities.argmax(axis=2))

    @staticmethod
    def concatenate(tables: Sequence[ExitTable]) -> ExitTable:
        """Concatenate tables along the samples.

        Parameters
        ----------
        tables : sequence of ExitTable
            Tables of the same exits and classes.

        Returns
        -------
        table : ExitTable
            Its `gates` are None if those of any of the tables are.
        """
        return ExitTable(
            np.concatenate([table.probabilities for table in tables]),
            np.concatenate([table.scores for table in tables]),
            _concatenated_gates([table.gates for table in tables]),
            Routing.concatenate([table.routing for table in tables]),
        )


@dataclass(frozen=True)
class PredictionTable(ScoredExits):
    """Predicted values of every exit for a set of samples, in regression.

    Parameters
    ----------
    predictions : ndarray of shape (n_samples, n_exits) or (n_samples, n_exits, n_targets)
        Predicted values. The last axis is left out if y in `fit` was of shape (n_samples,).
    scores : ndarray of shape (n_samples, n_exits)
        Scores of the policy, in [0, 1]; a higher score means a more confident prediction.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit import PredictionTable
    >>> predictions = np.array([[2.0, 2.1], [3.0, 4.0]])
    >>> table = PredictionTable(predictions, scores=np.array([[0.9, 0.9], [0.5, 0.8]]))
    >>> table.exits([0.75])  # the threshold of every exit but the last
    array([0, 1])
    """

    predictions: np.ndarray
    scores: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """What is predicted at each exit, which are the values themselves."""
        return self.predictions

    @staticmethod
    def concatenate(tables: Sequence[PredictionTable]) -> PredictionTable:
        """Concatenate tables along the samples.

        Parameters
        ----------
        tables : sequence of PredictionTable
            Tables of the same exits and targets.

        Returns
        -------
        table : PredictionTable
            Table of all samples.
        """
        return PredictionTable(
            np.concatenate([table.predictions for table in tables]),
            np.concatenate([table.scores for table in tables]),
        )


def _concatenated_gates(gates: Sequence[Any]) -> np.ndarray | None:
    return None if any(each is None for each in gates) else np.concatenate(gates)


def exits_of(
    scores: np.ndarray, thresholds: np.ndarray, routing: Routing | None = None
) -> np.ndarray:
    """First exit at which the score of a sample reaches the threshold, or else the last exit.

    Parameters
    ----------
    scores : ndarray of shape (n_samples, n_exits)
    thresholds : ndarray of shape (n_exits - 1,)
    routing : Routing or None, default=None
        Exits that samples skip, at which they do not exit.

    Returns
    -------
    exits : ndarray of shape (n_samples,)
    """
    reached = _reached(scores, thresholds)
    if routing is not None:
        reached &= ~routing.skipped(scores, thresholds)
    return np.asarray(reached.argmax(axis=1))


def outcomes_of(
    scores: np.ndarray,
    thresholds: np.ndarray,
    costs: np.ndarray,
    routing: Routing | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Exit of each sample, as in `exits_of`, and what it costs.

    Parameters
    ----------
    scores : ndarray of shape (n_samples, n_exits)
    thresholds : ndarray of shape (n_exits - 1,)
    costs : ndarray of shape (n_exits,)
        Cumulative cost of exiting at each exit if none is skipped.
    routing : Routing or None, default=None
        Exits that samples skip, and what it saves.

    Returns
    -------
    exits : ndarray of shape (n_samples,)
    paid : ndarray of shape (n_samples,)
        Cost of the exit, less what is saved by the exits that are skipped before it.
    """
    if routing is None:
        exits = exits_of(scores, thresholds)
        return exits, costs[exits]
    skipped = routing.skipped(scores, thresholds)
    exits = np.asarray((_reached(scores, thresholds) & ~skipped).argmax(axis=1))
    before = np.arange(scores.shape[1]) < exits[:, None]
    return exits, costs[exits] - (skipped & before) @ routing.savings


def _reached(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Whether each score reaches the threshold, as every score does at the last exit."""
    return np.asarray(scores >= np.append(thresholds, -np.inf))

"""Fitted estimators in a row."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from skearlyexit._data._given import GivenRows
from skearlyexit._determinism._estimator import BatchInvariantEstimator
from skearlyexit._output_kind import PROBABILITIES, OutputKind
from skearlyexit.costs import CostInput

#: Largest number of samples in a call of an estimator. A call of a forest or of boosting takes
#: milliseconds, whatever their number is.
ROWS_PER_CALL = 4096


@dataclass(frozen=True)
class State:
    """What a link passes to the next one.

    Attributes
    ----------
    values : ndarray of shape (n_samples, n_values)
        Values of each sample.
    """

    values: np.ndarray

    def take(self, rows: np.ndarray) -> Self:
        """State of some of the samples, by index."""
        return replace(self, values=self.values[rows])

    @staticmethod
    def joined(parts: Sequence[State]) -> State:
        """State of all samples of several parts, from the same link."""
        return replace(parts[0], values=np.concatenate([part.values for part in parts]))


class Link(metaclass=ABCMeta):
    """Base class of fitted estimators in a row.

    Attributes
    ----------
    model : fitted estimator
        The estimator.
    """

    model: Any

    @abstractmethod
    def advance(self, rows: GivenRows, state: State | None) -> State | None:
        """Compute the state at this exit from that of the previous link, if there is one."""

    @abstractmethod
    def predict_proba(self, rows: GivenRows, state: State | None) -> np.ndarray:
        """Probabilities of shape (n_samples, n_classes), given the state at this exit.

        In regression, values of the targets, standardized as in calibration.
        """

    @abstractmethod
    def cost_input(self, rows: GivenRows, state: State | None) -> CostInput:
        """Input of the measurement of the cost of this link after one with this state."""


@dataclass(frozen=True)
class Alone(Link):
    """Estimator that uses nothing of those before it.

    Attributes
    ----------
    steady : BatchInvariantEstimator
        Calls the estimator.
    """

    steady: BatchInvariantEstimator

    @property
    def model(self) -> Any:
        """The estimator."""
        return self.steady.model

    def advance(self, rows: GivenRows, state: State | None) -> None:
        return None

    def predict_proba(self, rows: GivenRows, state: State | None) -> np.ndarray:
        return self.steady.outputs(rows)

    def cost_input(self, rows: GivenRows, state: State | None) -> CostInput:
        return CostInput(self.steady.outputs, rows, self.model)


@dataclass(frozen=True)
class OfColumns(Link):
    """Fitted estimator that is given some columns only.

    Attributes
    ----------
    link : Link
        The estimator.
    columns : ndarray of int
        Positions of the columns.
    """

    link: Link
    columns: np.ndarray

    @property
    def model(self) -> Any:
        """The estimator."""
        return self.link.model

    def advance(self, rows: GivenRows, state: State | None) -> State | None:
        return self.link.advance(rows.of_columns(self.columns), state)

    def predict_proba(self, rows: GivenRows, state: State | None) -> np.ndarray:
        return self.link.predict_proba(rows.of_columns(self.columns), state)

    def cost_input(self, rows: GivenRows, state: State | None) -> CostInput:
        return self.link.cost_input(rows.of_columns(self.columns), state)


@dataclass(frozen=True)
class FittedChain:
    """Fitted estimators in a row, each of which is an exit.

    Attributes
    ----------
    links : list of Link
        Estimator of each exit.
    n_classes : int
        Number of classes, or of targets in regression.
    kind : OutputKind, default=PROBABILITIES
        What the outputs of the estimators are.
    """

    links: list[Link]
    n_classes: int
    kind: OutputKind = PROBABILITIES

    @property
    def n_exits(self) -> int:
        """Number of exits, including the last one."""
        return len(self.links)

"""Estimators in a row whose features include the probabilities predicted before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from skearlyexit._cascade._chain import Link, State
from skearlyexit._data._given import GivenRows
from skearlyexit._determinism._classifier import BatchInvariantClassifier
from skearlyexit.costs import CostInput


@dataclass(frozen=True)
class Informed(Link):
    """Classifier whose features include the probabilities predicted before.

    The values of a state are the probabilities that the classifiers up to an exit predict, from the
    first to the last.

    Attributes
    ----------
    steady : BatchInvariantClassifier
        Calls the classifier.
    names : list of str
        Names of the features that are added. Empty for the first classifier.
    """

    steady: BatchInvariantClassifier
    names: list[str]

    @property
    def model(self) -> Any:
        """The classifier."""
        return self.steady.model

    def advance(self, rows: GivenRows, state: State | None) -> State:
        found = self.steady.predict_proba(informed_rows(rows, state, self.names))
        return State(found if state is None else np.hstack([state.values, found]))

    def predict_proba(self, rows: GivenRows, state: Any) -> np.ndarray:
        return np.ascontiguousarray(state.values[:, -self.steady.n_classes :])

    def cost_input(self, rows: GivenRows, state: Any) -> CostInput:
        informed = informed_rows(rows, state, self.names)
        return CostInput(self.steady.predict_proba, informed, self.model)


def informed_rows(rows: GivenRows, state: State | None, names: list[str]) -> GivenRows:
    """Samples with the probabilities predicted before as further features, if there are any."""
    return rows if state is None else rows.beside(state.values, names)

"""Estimators in a row whose features include what was predicted before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from skearlyexit._cascade._chain import Link, State
from skearlyexit._data._given import GivenRows
from skearlyexit._determinism._estimator import BatchInvariantEstimator
from skearlyexit.costs import CostInput


@dataclass(frozen=True)
class PassedOn:
    """Outputs of the estimators before as further features of an estimator.

    Attributes
    ----------
    names : list of str
        Names of the features. Empty for the first estimator.
    scale : ndarray of shape (n_outputs,)
        Factors from the outputs of an estimator to the features: powers of two, so that no digit is
        lost.
    noun : str
        What the outputs are called.
    """

    names: list[str]
    scale: np.ndarray
    noun: str

    def beside(self, rows: GivenRows, state: State | None) -> GivenRows:
        """Samples with the outputs before, if there are any."""
        if state is None:
            return rows
        n_before = state.values.shape[1] // len(self.scale)
        return rows.beside(state.values * np.tile(self.scale, n_before), self.names, self.noun)


@dataclass(frozen=True)
class Informed(Link):
    """Estimator whose features include what was predicted before.

    The values of a state are the outputs of the estimators up to an exit, from the first to the
    last.

    Attributes
    ----------
    steady : BatchInvariantEstimator
        Calls the estimator.
    passed : PassedOn
        Features that are added.
    """

    steady: BatchInvariantEstimator
    passed: PassedOn

    @property
    def model(self) -> Any:
        """The estimator."""
        return self.steady.model

    def advance(self, rows: GivenRows, state: State | None) -> State:
        found = self.steady.outputs(self.passed.beside(rows, state))
        return State(found if state is None else np.hstack([state.values, found]))

    def predict_proba(self, rows: GivenRows, state: Any) -> np.ndarray:
        return np.ascontiguousarray(state.values[:, -len(self.passed.scale) :])

    def cost_input(self, rows: GivenRows, state: Any) -> CostInput:
        return CostInput(self.steady.outputs, self.passed.beside(rows, state), self.model)

"""Scikit-learn regressors whose prediction for a sample does not depend on the other samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state

from skearlyexit._data._given import GivenRows, copied
from skearlyexit._data._targets import Targets
from skearlyexit._determinism._estimator import (
    USUAL_CALLS,
    BatchInvariantEstimator,
    Calls,
    drawn_by_weight,
    fit_weighted,
    last_step,
    set_seeds,
)
from skearlyexit._determinism._random import isolated_random_state
from skearlyexit._onnx._estimators import add_estimator
from skearlyexit._onnx._graph import Graph


@dataclass
class BatchInvariantRegressor(BatchInvariantEstimator):
    """A fitted scikit-learn regressor whose predictions do not depend on the batch.

    The regressor predicts in the units of the user, and the outputs are standardized.

    Attributes
    ----------
    targets : Targets
        Mean and scale of the targets.
    """

    targets: Targets

    @classmethod
    def fit(
        cls,
        estimator: Any,
        X: np.ndarray | GivenRows,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        *,
        targets: Targets,
        seed: int,
        calls: Calls = USUAL_CALLS,
    ) -> BatchInvariantRegressor:
        """Fit a clone of a regressor or pipeline.

        A regressor whose `fit` does not support `sample_weight` is fitted on samples drawn by
        weight. Parameters `random_state` that are None are set to seeds derived from `seed`.
        `n_jobs` is set to 1 after fitting, which makes predictions reproducible.

        Parameters
        ----------
        estimator : scikit-learn regressor or pipeline
        X : ndarray of shape (n_samples, n_features), float64, or GivenRows
        y : ndarray of shape (n_samples, n_targets)
            Standardized targets.
        sample_weight : ndarray of shape (n_samples,) or None
        targets : Targets
            Mean and scale of the targets. The regressor is fitted in the units of the user.
        seed : int
        calls : Calls, default=Calls()
            How the fitted estimator is called.

        Returns
        -------
        fitted : BatchInvariantRegressor
        """
        rng = check_random_state(seed)
        estimator = clone(estimator)
        set_seeds(estimator, rng)
        y = targets.given(y)
        X, y, weight = drawn_by_weight(estimator, X, y, sample_weight, rng)
        with isolated_random_state(int(rng.randint(np.iinfo(np.int32).max)), shared=True):
            fit_weighted(estimator, X, y, weight)
            return cls(estimator, targets)._tested(X, calls)

    @classmethod
    def of_fitted(
        cls,
        estimator: Any,
        X: np.ndarray | GivenRows,
        targets: Targets,
        calls: Calls,
    ) -> BatchInvariantRegressor:
        """Make it from a regressor that was fitted on these targets.

        Parameters
        ----------
        estimator : fitted regressor or pipeline
            Its parameters `n_jobs` are changed.
        X : ndarray of shape (n_samples, n_features), float64, or GivenRows
            Samples, with some of which it is tested whether predictions depend on other samples.
        targets : Targets
            Mean and scale of the targets.
        calls : Calls
            How the fitted estimator is called.

        Returns
        -------
        fitted : BatchInvariantRegressor
        """
        return cls(estimator, targets)._tested(X, calls)

    def _predict(self, vectors: np.ndarray | GivenRows) -> np.ndarray:
        found = np.asarray(self.model.predict(copied(vectors)), dtype=np.float64)
        n_targets = self.targets.n_targets
        if found.size != len(vectors) * n_targets:
            raise ValueError(
                f"predict of {type(last_step(self.model)).__name__} must return {n_targets} "
                f"value(s) for each sample. Got an array of shape {found.shape} for {len(vectors)} "
                "samples."
            )
        return self.targets.standardized(found.reshape(len(vectors), n_targets))

    def onnx(self, graph: Graph, vectors: str, example: np.ndarray, what: str) -> str:
        targets = self.targets
        found = add_estimator(
            graph,
            vectors,
            self.model,
            "predict",
            self._examples(example),
            what,
            scale=targets.scale,
        )
        # Some conversions return the values of several targets in one column.
        columns = graph.op("Reshape", found, graph.constant([-1, targets.n_targets]))
        centered = graph.op("Sub", columns, graph.constant(targets.mean))
        return graph.op("Div", centered, graph.constant(targets.scale))

"""Scikit-learn regressors whose prediction for a sample does not depend on the other samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state

from skearlyexit._data._given import GivenRows, copied
from skearlyexit._determinism._estimator import (
    LARGEST_CALL,
    BatchInvariantEstimator,
    fit_weighted,
    last_step,
    set_seeds,
    takes_weights,
)
from skearlyexit._determinism._random import isolated_random_state


@dataclass
class BatchInvariantRegressor(BatchInvariantEstimator):
    """A fitted scikit-learn regressor whose predictions do not depend on the batch.

    Attributes
    ----------
    n_targets : int
        Number of targets.
    """

    n_targets: int

    @classmethod
    def fit(
        cls,
        estimator: Any,
        X: np.ndarray | GivenRows,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        *,
        seed: int,
        largest_call: int = LARGEST_CALL,
    ) -> BatchInvariantRegressor:
        """Fit a clone of a regressor or pipeline.

        A regressor whose `fit` does not support `sample_weight` is fitted on samples drawn by
        weight. Parameters `random_state` that are None are set to seeds derived from `seed`.
        `n_jobs` is set to 1 after fitting, which makes predictions reproducible.

        Parameters
        ----------
        estimator : scikit-learn regressor or pipeline
        X : ndarray of shape (n_samples, n_features), float64, or GivenRows
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
        sample_weight : ndarray of shape (n_samples,) or None
        seed : int
        largest_call : int, default=1024
            Largest number of samples in a call.

        Returns
        -------
        fitted : BatchInvariantRegressor
        """
        rng = check_random_state(seed)
        estimator = clone(estimator)
        set_seeds(estimator, rng)
        weight = sample_weight
        if weight is not None and not takes_weights(estimator):
            rows = rng.choice(len(y), size=len(y), p=weight / weight.sum())
            X, y, weight = X[rows], y[rows], None
        with isolated_random_state(int(rng.randint(np.iinfo(np.int32).max)), shared=True):
            # Copies, since some estimators change their input in place.
            fit_weighted(estimator, copied(X), y, None if weight is None else weight.copy())
            n_targets = 1 if y.ndim == 1 else y.shape[1]
            return cls(estimator, n_targets)._tested(X, largest_call)

    def _predict(self, vectors: np.ndarray | GivenRows) -> np.ndarray:
        found = np.asarray(self.model.predict(copied(vectors)), dtype=np.float64)
        if found.size != len(vectors) * self.n_targets:
            raise ValueError(
                f"predict of {type(last_step(self.model)).__name__} must return {self.n_targets} "
                f"values for each sample. Got an array of shape {found.shape} for {len(vectors)} "
                "samples."
            )
        return found.reshape(len(vectors), self.n_targets)

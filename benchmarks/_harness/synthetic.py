"""Exit tables of any size whose samples are drawn from a known distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from skearlyexit.calibration import CalibrationData


@dataclass(frozen=True)
class Population:
    """Samples to draw from.

    Attributes
    ----------
    scores : ndarray of shape (n_samples, n_exits)
    labels : ndarray of shape (n_samples, n_exits)
        Class 0 is the true one of every sample.
    costs : ndarray of shape (n_exits,)
    """

    scores: np.ndarray
    labels: np.ndarray
    costs: np.ndarray

    def calibration_data(self, rows: np.ndarray | slice = slice(None)) -> CalibrationData:
        """Some of the samples as calibration samples."""
        labels = self.labels[rows]
        y = np.zeros(len(labels), dtype=int)
        return CalibrationData(
            self.scores[rows], labels == 0, self.costs, np.ones(len(y)), labels, y
        )


def draw(n_rows: int, n_exits: int, seed: int, *, bump: float = 0.0) -> Population:
    """Samples of varying difficulty, exits that get better, and scores that rise with correctness.

    Parameters
    ----------
    n_rows, n_exits, seed : int
    bump : float, default=0.0
        Share of the samples that the second exit gets wrong with a score of 0.75 to 0.9, and the
        first right with 0.5 to 0.75: as thresholds fall, the risk rises and falls.
    """
    rng = np.random.RandomState(seed)
    strength = np.linspace(2.5, 3.5, n_exits)
    difficulty = rng.randn(n_rows, 1)
    probability = expit(3.0 * (strength - 1.5 * difficulty + 0.3 * rng.randn(n_rows, n_exits)))
    shared, own = rng.randn(n_rows, 1), rng.randn(n_rows, n_exits)
    right = norm.cdf(0.8 * shared + 0.6 * own) < probability
    labels = np.where(right, 0, rng.randint(1, 3, size=right.shape))
    scores = expit(np.log(probability / (1 - probability)) + 0.3 * rng.randn(n_rows, n_exits))
    odd = np.flatnonzero(rng.uniform(size=n_rows) < bump)
    labels[odd], labels[odd, 1] = 0, 1
    scores[odd, 0] = rng.uniform(0.5, 0.75, size=len(odd))
    scores[odd, 1] = rng.uniform(0.75, 0.9, size=len(odd))
    return Population(scores, labels, np.linspace(1 / n_exits, 1.0, n_exits))

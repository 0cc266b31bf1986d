"""Losses of samples that skip exits under each of a family of thresholds."""

from __future__ import annotations

from copy import copy

import numpy as np

from skearlyexit.calibration._calibration_data import CalibrationData
from skearlyexit.calibration._risks import FamilyLosses


class RoutedLosses(FamilyLosses):
    """Losses of samples under each of a family of thresholds, some of which skip exits.

    Which exits they skip differs from threshold to threshold, so that a sample may also exit later
    under lower thresholds.

    Parameters
    ----------
    data : CalibrationData
        With a routing.
    losses : ndarray of shape (n_samples, n_exits)
    family : ndarray of shape (n_thresholds,) or (n_thresholds, n_exits - 1)
        As in `FamilyLosses`.
    """

    def __init__(self, data: CalibrationData, losses: np.ndarray, family: np.ndarray) -> None:
        self.losses, self.n_thresholds = losses, len(family)
        self.rows = np.arange(len(losses))
        #: Exit of each sample under each of the thresholds, shape (n_thresholds, n_samples).
        self.exits = np.empty((len(family), len(losses)), np.min_scalar_type(data.n_exits))
        for i, thresholds in enumerate(family):
            self.exits[i] = data.exits(np.broadcast_to(thresholds, data.n_exits - 1))
        before = np.vstack([np.full_like(self.exits[:1], data.n_exits - 1), self.exits[:-1]])
        self.changes = (self.exits != before).any(axis=1)

    def means(self, weight: np.ndarray) -> np.ndarray:
        each = (weight @ self.at(i) for i in range(self.n_thresholds))
        return np.fromiter(each, np.float64, self.n_thresholds) / weight.sum()

    def at(self, index: int) -> np.ndarray:
        return np.asarray(self.losses[self.rows, self.exits[index]])

    def monotone(self) -> RoutedLosses:
        twin = copy(self)
        twin.exits = self.exits.copy()
        for i in range(1, self.n_thresholds):
            # The exit with the largest loss so far.
            better = self.at(i) < twin.at(i - 1)
            twin.exits[i, better] = twin.exits[i - 1, better]
        return twin

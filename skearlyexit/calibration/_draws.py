"""Independent draws of which the calibration samples consist: single samples, or groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skearlyexit.calibration._calibration_data import CalibrationData


@dataclass(frozen=True)
class Draws:
    """Independent draws, on whose number the confidence of a test depends.

    Attributes
    ----------
    weight : ndarray of shape (n_draws,)
        Weights divided by an upper bound of the weight of any draw. Those of groups are 1.
    sample_weight : ndarray of shape (n_samples,)
        Weights of the samples. Those of a group add up to the weight of the group.
    group_of : ndarray of shape (n_samples,) or None
        Index of the group of each sample. None if each sample is a draw.
    """

    weight: np.ndarray
    sample_weight: np.ndarray
    group_of: np.ndarray | None = None

    @classmethod
    def of_samples(cls, weight: np.ndarray) -> Draws:
        """Make each sample a draw."""
        return cls(weight, weight)

    @classmethod
    def of_groups(cls, data: CalibrationData) -> Draws:
        """Make each group a draw, whose loss is the mean of those of its samples."""
        assert data.group_of is not None
        sizes = np.bincount(data.group_of)
        return cls(np.ones(len(sizes)), 1.0 / sizes[data.group_of], data.group_of)

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def noun(self) -> str:
        """What the draws are."""
        return "calibration samples" if self.group_of is None else "groups of calibration samples"

    def losses(self, of_samples: np.ndarray) -> np.ndarray:
        """Loss of each draw, given that of each sample."""
        if self.group_of is None:
            return of_samples
        return np.bincount(self.group_of, of_samples * self.sample_weight, len(self))

    def rows(self, draws: np.ndarray) -> np.ndarray:
        """Indices of the samples of some draws, in ascending order."""
        if self.group_of is None:
            return np.sort(draws)
        return np.flatnonzero(np.isin(self.group_of, draws))

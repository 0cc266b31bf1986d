"""Targets of a regression, which are standardized for the training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import _check_y, check_consistent_length

from skearlyexit._utils._interrupts import quietly


@dataclass(frozen=True)
class Targets:
    """Mean and scale of the targets, by which networks, policies and calibration see them.

    Attributes
    ----------
    mean : ndarray of shape (n_targets,)
        Mean of each target.
    scale : ndarray of shape (n_targets,)
        Value of each target that is standardized to 1.
    deviation : ndarray of shape (n_targets,)
        Standard deviation of each target, or 1 if it is constant. The same as `scale`, or near it.
    flat : bool
        Whether the user gives one target as an array of shape (n_samples,).
    """

    mean: np.ndarray
    scale: np.ndarray
    deviation: np.ndarray
    flat: bool

    @classmethod
    def of(cls, y: np.ndarray) -> Targets:
        """Mean and scale of the targets of some samples.

        Parameters
        ----------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            Targets of at least one sample.

        Returns
        -------
        targets : Targets

        Raises
        ------
        ValueError
            If double precision cannot hold the variance of a target.
        """
        columns = _columns(y)
        mean = quietly(lambda: columns.mean(axis=0), "over")
        centered = quietly(lambda: columns - mean, "over", "invalid")
        largest = np.abs(centered).max(axis=0)
        if not np.isfinite(largest).all():
            raise ValueError(
                "y must hold numbers whose sum double precision can hold. Got values from "
                f"{columns.min():g} to {columns.max():g}. Divide them by their largest."
            )
        # Relative to the largest, whose square may overflow or underflow. The deviation of a
        # constant target may differ from 0 by rounding.
        constant = largest <= 1e-14 * np.abs(mean)
        largest = np.where(constant, 1.0, largest)
        spread = np.sqrt(np.square(centered / largest).mean(axis=0))
        deviation = np.where(constant, 1.0, largest * spread)
        return cls(mean, deviation, deviation, y.ndim == 1)

    @classmethod
    def exact(cls, y: np.ndarray) -> Targets:
        """As `of`, but not centered, and scaled by the nearest powers of two.

        Standardized targets are then restored to the last bit, which estimators depend on that
        compare targets, such as trees.
        """
        found = cls.of(y)
        scale = np.exp2(np.round(np.log2(found.scale)))
        return cls(np.zeros_like(found.mean), scale, found.deviation, found.flat)

    @classmethod
    def unscaled(cls) -> Targets:
        """One target that is not standardized, of shape (n_samples,)."""
        return cls(np.zeros(1), np.ones(1), np.ones(1), flat=True)

    @property
    def n_targets(self) -> int:
        """Number of targets."""
        return len(self.mean)

    @property
    def in_deviations(self) -> np.ndarray:
        """Factors from standardized values to standard deviations, shape (n_targets,)."""
        return np.asarray(self.scale / self.deviation)

    def standardized(self, y: np.ndarray) -> np.ndarray:
        """Targets as the network sees them.

        Parameters
        ----------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)

        Returns
        -------
        values : ndarray of shape (n_samples, n_targets)

        Raises
        ------
        ValueError
            If y holds another number of targets.
        """
        columns = _columns(y)
        if columns.shape[1] != self.n_targets:
            raise ValueError(
                f"y must hold {self.n_targets} target(s) for each sample, as in the first fit. Got "
                f"{columns.shape[1]}."
            )
        return np.asarray((columns - self.mean) / self.scale)

    def restored(self, values: np.ndarray) -> np.ndarray:
        """Targets in the units of the user.

        Parameters
        ----------
        values : ndarray of shape (..., n_targets)

        Returns
        -------
        y : ndarray of shape (..., n_targets), or of shape (...) if the targets are flat
        """
        y = np.asarray(values * self.scale + self.mean)
        return y[..., 0] if self.flat else y

    def given(self, values: np.ndarray) -> np.ndarray:
        """Targets as the user gave them, with whole numbers and zeros free of rounding.

        Losses for counts do not accept a value that is below 0 by rounding.

        Parameters
        ----------
        values : ndarray of shape (n_samples, n_targets)

        Returns
        -------
        y : ndarray of shape (n_samples,) if there is one target, else (n_samples, n_targets)
        """
        y = values * self.scale + self.mean
        step = np.exp2(np.floor(np.log2(1e-12 * (np.abs(self.mean) + self.scale))))
        is_exact = (self.mean == 0) & (np.frexp(self.scale)[0] == 0.5)  # powers of two
        y = np.where(is_exact, y, np.round(y / step) * step)
        return y[:, 0] if self.n_targets == 1 else y


def _columns(y: Any) -> np.ndarray:
    try:
        y = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "y must be a dense array of numbers, of shape (n_samples,) or (n_samples, n_targets). "
            f"Got {type(y).__name__} of {getattr(y, 'dtype', 'unknown type')}. ({error})"
        ) from error
    return y[:, None] if y.ndim == 1 else y


def checked_targets(y: Any, X: Any) -> np.ndarray:
    """Validate targets of further samples.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_targets)
    X : ndarray of shape (n_samples, ...)
        The samples.

    Returns
    -------
    y : ndarray of shape (n_samples,) or (n_samples, n_targets)

    Raises
    ------
    ValueError
        If there are no finite numbers for each sample.
    """
    y = _check_y(y, multi_output=True, y_numeric=True)
    check_consistent_length(X, y)
    return np.asarray(y)

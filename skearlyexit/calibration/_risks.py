"""Losses of exiting early, for each sample and exit."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

import numpy as np

from skearlyexit.calibration._calibration_data import CalibrationData

#: Names of risks, all of which compare predictions with those of the last exit.
RISKS = {"performance_gap", "consistency", "accuracy_drop"}

Risk = str | Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def exit_losses(data: CalibrationData, risk: Risk) -> np.ndarray:
    """Loss of each sample at each exit.

    Parameters
    ----------
    data : CalibrationData
    risk : str or callable
        - ``"performance_gap"``: 1 if a sample is misclassified at the exit and classified correctly
          at the last exit, and 0 otherwise.
        - ``"consistency"``: 1 if the two predictions differ, and 0 otherwise.
        - ``"accuracy_drop"``: as ``"performance_gap"``, but -1 if a sample is classified correctly
          at the exit and misclassified at the last exit. The mean is the loss of accuracy.
        - callable: function of the true labels, those predicted at the exit and those predicted at
          the last exit, each of shape (n_samples,). It returns losses in [0, 1].

    Returns
    -------
    losses : ndarray of shape (n_samples, n_exits)

    Raises
    ------
    ValueError
        If a callable returns other values.
    """
    right = data.correct
    if risk == "performance_gap":
        assert right is not None
        return (~right & right[:, -1:]).astype(np.float64)
    if risk == "accuracy_drop":
        assert right is not None
        return right[:, -1:].astype(np.float64) - right
    assert data.labels is not None
    assert data.y is not None
    if risk == "consistency":
        return (data.labels != data.labels[:, -1:]).astype(np.float64)
    assert callable(risk)
    columns = []
    for exit_ in range(data.n_exits):
        losses = np.asarray(
            risk(data.y, data.labels[:, exit_], data.labels[:, -1]), dtype=np.float64
        )
        if losses.shape != (len(data.y),) or not np.all((losses >= 0) & (losses <= 1)):
            raise ValueError(
                f"The 'risk' function must return a loss in [0, 1] for each of {len(data.y)} "
                f"samples. Got shape {losses.shape}, values {losses.min(initial=np.inf):.4g} to "
                f"{losses.max(initial=-np.inf):.4g}."
            )
        columns.append(losses)
    return np.stack(columns, axis=1)


class FamilyLosses:
    """Losses of samples under each of a family of thresholds.

    Parameters
    ----------
    scores : ndarray of shape (n_samples, n_exits)
    losses : ndarray of shape (n_samples, n_exits)
    family : ndarray of shape (n_thresholds,) or (n_thresholds, n_exits - 1)
        Common thresholds of all exits, or thresholds of each exit, in descending order.
    """

    def __init__(self, scores: np.ndarray, losses: np.ndarray, family: np.ndarray) -> None:
        n_samples, n_exits = scores.shape
        self.losses, self.n_thresholds = losses, len(family)
        each = family if family.ndim == 2 else family[:, None]
        columns = np.broadcast_to(each, (len(family), n_exits - 1)).T
        # Index of the first thresholds of the family that a score reaches.
        reached = np.empty((n_samples, n_exits - 1), dtype=np.intp)
        for i, column in enumerate(columns):
            reached[:, i] = np.searchsorted(-column, -scores[:, i], side="left")
        # A sample exits at exit i from the first thresholds that its score reaches, to the first
        # that its score at an earlier exit reaches.
        self.first = np.minimum.accumulate(reached, axis=1)
        never = np.full((n_samples, 1), len(family))
        self.stop = np.concatenate([never, self.first[:, :-1]], axis=1)
        #: Whether the exit of any sample differs from that under the previous thresholds.
        self.changes = np.isin(np.arange(len(family)), self.first)

    def means(self, weight: np.ndarray) -> np.ndarray:
        """Weighted mean loss under each threshold, shape (n_thresholds,)."""
        last = self.losses[:, -1:]
        gain = weight[:, None] * (self.losses[:, :-1] - last)
        counts = (self.first < self.stop) & (gain != 0)
        size = self.n_thresholds + 1
        changes = np.bincount(self.first[counts], gain[counts], minlength=size)
        changes -= np.bincount(self.stop[counts], gain[counts], minlength=size)
        total = changes.cumsum()[: self.n_thresholds] + weight @ last[:, 0]
        return np.asarray(total / weight.sum())

    def at(self, index: int) -> np.ndarray:
        """Loss of each sample under one of the thresholds, shape (n_samples,)."""
        leaves = self.first <= index
        exits = np.where(leaves.any(axis=1), leaves.argmax(axis=1), leaves.shape[1])
        return np.asarray(self.losses[np.arange(len(exits)), exits])

    def monotone(self) -> FamilyLosses:
        """The same with each loss replaced by the largest under any higher threshold."""
        twin = copy(self)
        # With descending thresholds, a sample moves from the last exit to the first.
        twin.losses = np.maximum.accumulate(
            np.where(self._visited(), self.losses, -np.inf)[:, ::-1], axis=1
        )[:, ::-1]
        return twin

    def _visited(self) -> np.ndarray:
        """Whether a sample exits at an exit under any threshold; always True for the last exit."""
        visited = self.first < np.minimum(self.stop, self.n_thresholds)
        return np.concatenate([visited, np.ones((len(visited), 1), dtype=bool)], axis=1)

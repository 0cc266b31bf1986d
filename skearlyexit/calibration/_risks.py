"""What is lost by leaving: one loss for each row and exit."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

import numpy as np

from skearlyexit.calibration._evidence import CalibrationData

#: Risks by name; all compare with the last exit.
RISKS = {"performance_gap", "consistency", "accuracy_drop"}

Risk = str | Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def exit_losses(evidence: CalibrationData, risk: Risk) -> np.ndarray:
    """Loss of each row at each exit.

    Parameters
    ----------
    evidence : CalibrationData
    risk : str or callable
        ``"performance_gap"``: 1 for a sample that is wrong at the exit and right at the last one.
        ``"consistency"``: 1 where the two predictions differ, whichever is right.
        ``"accuracy_drop"``: 1 for a sample that is wrong at the exit and right at the last one, -1
        for the reverse, so that the mean is the accuracy lost. Or a function of the true labels,
        those at the exit and those at the last, each of shape (n_samples,), that returns losses in
        [0, 1].

    Returns
    -------
    losses : ndarray of shape (n_samples, n_exits)

    Raises
    ------
    ValueError
        If a function returns anything but such losses.
    """
    right = evidence.correct
    if risk == "performance_gap":
        return (~right & right[:, -1:]).astype(np.float64)
    if risk == "accuracy_drop":
        return right[:, -1:].astype(np.float64) - right
    assert evidence.labels is not None
    assert evidence.y is not None
    if risk == "consistency":
        return (evidence.labels != evidence.labels[:, -1:]).astype(np.float64)
    assert callable(risk)
    columns = []
    for exit_ in range(evidence.n_exits):
        losses = np.asarray(
            risk(evidence.y, evidence.labels[:, exit_], evidence.labels[:, -1]), dtype=np.float64
        )
        if losses.shape != (len(right),) or not np.all((losses >= 0) & (losses <= 1)):
            raise ValueError(
                f"The 'risk' function must return a loss in [0, 1] for each of {len(right)} rows. "
                f"Got shape {losses.shape}, values {losses.min(initial=np.inf):.4g} to "
                f"{losses.max(initial=-np.inf):.4g}."
            )
        columns.append(losses)
    return np.stack(columns, axis=1)


class FamilyLosses:
    """Losses of rows under common thresholds, from the safest down.

    Parameters
    ----------
    scores : ndarray of shape (n_samples, n_exits)
    losses : ndarray of shape (n_samples, n_exits)
    family : ndarray of shape (n_thresholds,)
        Descending.
    """

    def __init__(self, scores: np.ndarray, losses: np.ndarray, family: np.ndarray) -> None:
        n_rows = len(scores)
        # A row leaves exit i for the thresholds between the largest score before it and its own.
        largest = np.maximum.accumulate(scores[:, :-1], axis=1)
        before = np.concatenate([np.full((n_rows, 1), -np.inf), largest[:, :-1]], axis=1)
        self.losses, self.n_thresholds = losses, len(family)
        # In the order of the family: from the first threshold that the score reaches, to the first
        # that an earlier exit reached.
        self.first = np.searchsorted(-family, -largest, side="left")
        self.stop = np.searchsorted(-family, -before, side="left")
        #: Whether any row leaves elsewhere than under the threshold before.
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
        """Loss of each row under one of the thresholds, shape (n_samples,)."""
        leaves = self.first <= index
        exits = np.where(leaves.any(axis=1), leaves.argmax(axis=1), leaves.shape[1])
        return np.asarray(self.losses[np.arange(len(exits)), exits])

    def monotone(self) -> FamilyLosses:
        """The same, each row's loss the largest so far on the way down the family."""
        twin = copy(self)
        # On the way down a row moves from the last exit to the first.
        twin.losses = np.maximum.accumulate(
            np.where(self._visited(), self.losses, -np.inf)[:, ::-1], axis=1
        )[:, ::-1]
        return twin

    def _visited(self) -> np.ndarray:
        """Whether a row leaves an exit under any threshold; the last one counts always."""
        visited = self.first < np.minimum(self.stop, self.n_thresholds)
        return np.concatenate([visited, np.ones((len(visited), 1), dtype=bool)], axis=1)

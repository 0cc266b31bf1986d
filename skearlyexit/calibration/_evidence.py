"""What calibration knows: scores, correctness and costs on rows that nothing was fitted on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from skearlyexit._data._weights import scaled
from skearlyexit._exit_table import ExitTable, LabelTable, exits_of


@dataclass(frozen=True)
class CalibrationData:
    """Held-out rows, reduced to what thresholds depend on.

    Attributes
    ----------
    scores : ndarray of shape (n_samples, n_exits)
        In [0, 1]; those of the last exit are not used.
    correct : ndarray of shape (n_samples, n_exits), bool
        Whether each exit is right.
    costs : ndarray of shape (n_exits,)
        Cumulative, increasing.
    weight : ndarray of shape (n_samples,)
        Sample weights; where `largest_weight` is given, they and it are divided by the power of two
        above it, so that sums of weights are finite.
    labels : ndarray of shape (n_samples, n_exits) or None, default=None
        What each exit answers; without, only the share of right answers can be judged.
    y : ndarray of shape (n_samples,) or None, default=None
        The true labels.
    largest_weight : float or None, default=None
        Largest sample weight that was given, of these samples or of others that came with them, in
        the units of `sample_weight`.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.calibration import CalibrationData
    >>> scores = np.array([[0.9, 1.0], [0.8, 1.0], [0.7, 1.0], [0.6, 1.0]])
    >>> correct = np.array([[True, True], [True, True], [False, True], [True, True]])
    >>> evidence = CalibrationData(scores, correct, costs=np.array([0.5, 1.0]), weight=np.ones(4))
    >>> evidence.leave(np.array([0.75]))
    array([0, 0, 1, 1])
    >>> evidence.evaluate(np.array([0.75]))  # mean cost and accuracy
    (0.75, 1.0)
    """

    scores: np.ndarray
    correct: np.ndarray
    costs: np.ndarray
    weight: np.ndarray
    labels: np.ndarray | None = None
    y: np.ndarray | None = None
    largest_weight: float | None = None

    @classmethod
    def from_table(
        cls,
        table: ExitTable | LabelTable,
        y: np.ndarray,
        costs: np.ndarray,
        weight: np.ndarray | None = None,
        classes: np.ndarray | None = None,
        largest_weight: float | None = None,
    ) -> CalibrationData:
        """Evidence of an exit table and the true classes by index; weight 0 leaves a row out.

        With `classes`, labels are those that they stand for.
        """
        weight, largest = _scaled(len(table), weight, largest_weight)
        if isinstance(table, ExitTable) and np.isnan(table.probabilities).any():
            raise ValueError("Some exit answers with NaN on the calibration rows.")
        used = weight > 0
        labels, y = table.labels[used], y[used]
        correct = labels == y[:, None]
        if classes is not None:
            labels, y = classes[labels], classes[y]
        return cls(table.scores[used], correct, costs, weight[used], labels, y, largest)

    @classmethod
    def unanswered(
        cls, n_rows: int, weight: np.ndarray | None, largest_weight: float | None
    ) -> CalibrationData:
        """Evidence of samples before training: two exits, and every score at its best."""
        weight, largest = _scaled(n_rows, weight, largest_weight)
        best = np.ones((n_rows, 2))
        return cls(best, best.astype(bool), np.ones(2), weight, largest_weight=largest)

    @property
    def n_exits(self) -> int:
        """Number of exits, the last included."""
        return int(self.scores.shape[1])

    @property
    def weight_shares(self) -> tuple[np.ndarray, float]:
        """Weights as shares of the largest sample weight that was given, and that weight."""
        if self.largest_weight is None:
            largest = float(self.weight.max())
            return self.weight / largest, largest
        return self.weight / scaled(np.float64(self.largest_weight)), self.largest_weight

    @cached_property
    def order(self) -> np.ndarray:
        """Samples by descending score at each exit but the last, shape (n_exits - 1, n_samples)."""
        return np.argsort(-self.scores[:, :-1].T, axis=1, kind="stable")

    def take(self, rows: np.ndarray) -> CalibrationData:
        """Some of the samples."""
        return CalibrationData(
            self.scores[rows],
            self.correct[rows],
            self.costs,
            self.weight[rows],
            None if self.labels is None else self.labels[rows],
            None if self.y is None else self.y[rows],
            self.largest_weight,
        )

    def leave(self, thresholds: np.ndarray) -> np.ndarray:
        """Exit at which each row leaves, shape (n_samples,)."""
        return exits_of(self.scores, thresholds)

    def evaluate(self, thresholds: np.ndarray) -> tuple[float, float]:
        """Mean cost and accuracy under these thresholds."""
        return self.outcome(self.leave(thresholds))

    def outcome(self, exits: np.ndarray) -> tuple[float, float]:
        """Mean cost and accuracy if samples exit there."""
        right = self.correct[np.arange(len(exits)), exits]
        return (
            float(np.average(self.costs[exits], weights=self.weight)),
            float(np.average(right, weights=self.weight)),
        )

    def shares(self, thresholds: np.ndarray) -> np.ndarray:
        """Share of the rows that leaves at each exit, shape (n_exits,)."""
        return self.exit_rates(self.leave(thresholds))

    def exit_rates(self, exits: np.ndarray) -> np.ndarray:
        """Share of the samples at each exit if they exit there, shape (n_exits,)."""
        left = np.bincount(exits, self.weight, self.n_exits)
        return np.asarray(left / self.weight.sum())


def _scaled(
    n_rows: int, weight: np.ndarray | None, largest: float | None
) -> tuple[np.ndarray, float]:
    """Weights divided by a power of two, unless `largest` says that they are, and the largest."""
    weight = np.ones(n_rows) if weight is None else np.asarray(weight, dtype=np.float64)
    if largest is not None:
        return weight, largest
    return scaled(weight), float(weight.max(initial=0.0))

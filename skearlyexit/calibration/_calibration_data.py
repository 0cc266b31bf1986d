"""Data of the calibration: scores, correctness and costs of the exits on held-out samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from skearlyexit._data._weights import scaled
from skearlyexit._exit_table import ExitTable, LabelTable, Routing, exits_of, outcomes_of


@dataclass(frozen=True)
class ErrorScale:
    """Conversion of a mean loss, divided by that of the best constant prediction, to an error.

    Attributes
    ----------
    is_root : bool
        Whether the error is the root of the mean loss, as for squared errors.
    unit : float
        Error of the best constant prediction.
    """

    is_root: bool
    unit: float

    def error(self, loss: float) -> float:
        """Error for a mean loss."""
        return float(self.unit * (np.sqrt(max(loss, 0.0)) if self.is_root else loss))


@dataclass(frozen=True)
class CalibrationData:
    """Calibration data: scores, correctness and costs of the exits.

    It is usually made by `from_table` from an exit table and the true classes.

    Parameters
    ----------
    scores : ndarray of shape (n_samples, n_exits)
        Score of each sample at each exit, in [0, 1]. Those of the last exit are not used.
    correct : ndarray of shape (n_samples, n_exits), bool, or None
        Whether the prediction at each exit is correct. None in regression.
    costs : ndarray of shape (n_exits,)
        Cumulative cost of exiting at each exit if none is skipped, increasing.
    weight : ndarray of shape (n_samples,)
        Sample weights. If `largest_weight` is given, they must have been divided by the smallest
        power of two above it, to avoid overflow in sums.
    labels : ndarray of shape (n_samples, n_exits), default=None
        Label predicted at each exit. Required for metrics other than accuracy, and for risks that
        depend on labels.
    y : ndarray of shape (n_samples,), default=None
        True labels. Required like `labels`.
    largest_weight : float, default=None
        Largest sample weight in the units of `sample_weight`, before any division. It may be that
        of a sample that is not among these.
    probabilities : ndarray of shape (n_samples, n_exits, n_classes), default=None
        Probabilities predicted at each exit. Required for metrics of probabilities.
    classes : ndarray of shape (n_classes,), default=None
        Class labels, in the order of `probabilities`. If None, they are the labels that occur.
    losses : ndarray of shape (n_samples, n_exits), default=None
        In regression, the loss of each sample at each exit, divided by the mean loss of the best
        constant prediction. `labels` and `y` are then values of the targets.
    error_scale : ErrorScale, default=None
        Conversion of a mean of these losses to an error. Required with `losses`.
    routing : Routing, default=None
        Which exits samples skip; see `ExitTable`. None if all are asked.
    groups : ndarray of shape (n_samples,), default=None
        Group of each sample. Samples of different groups are independent of each other. If None,
        all samples are.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.calibration import CalibrationData
    >>> scores = np.array([[0.9, 1.0], [0.8, 1.0], [0.7, 1.0], [0.6, 1.0]])
    >>> correct = np.array([[True, True], [True, True], [False, True], [True, True]])
    >>> data = CalibrationData(scores, correct, costs=np.array([0.5, 1.0]), weight=np.ones(4))
    >>> data.exits(np.array([0.75]))
    array([0, 0, 1, 1])
    >>> data.evaluate(np.array([0.75]))  # mean cost and accuracy
    (0.75, 1.0)
    """

    scores: np.ndarray
    correct: Any
    costs: np.ndarray
    weight: np.ndarray
    labels: np.ndarray | None = None
    y: np.ndarray | None = None
    largest_weight: float | None = None
    probabilities: np.ndarray | None = None
    classes: np.ndarray | None = None
    losses: np.ndarray | None = None
    error_scale: ErrorScale | None = None
    routing: Routing | None = None
    groups: np.ndarray | None = None

    @classmethod
    def from_table(
        cls,
        table: ExitTable | LabelTable,
        y: np.ndarray,
        costs: np.ndarray,
        weight: np.ndarray | None = None,
        classes: np.ndarray | None = None,
        largest_weight: float | None = None,
        groups: np.ndarray | None = None,
    ) -> CalibrationData:
        """Make calibration data from an exit table.

        Parameters
        ----------
        table : ExitTable or LabelTable
            Outputs of the exits for the calibration samples. Metrics of probabilities require an
            exit table.
        y : ndarray of shape (n_samples,)
            Index of the true class of each sample.
        costs : ndarray of shape (n_exits,)
            Cumulative cost of exiting at each exit.
        weight : ndarray of shape (n_samples,), default=None
            Sample weights. Samples of weight 0 are left out. If None, all are 1.
        classes : ndarray of shape (n_classes,), default=None
            Class labels. If None, labels are class indices.
        largest_weight : float, default=None
            Largest sample weight, as in the class. If None, it is the largest of `weight`, which is
            then divided by a power of two.
        groups : ndarray of shape (n_samples,), default=None
            Group of each sample, as in the class.

        Returns
        -------
        data : CalibrationData
            Calibration data of the samples with positive weight.

        Raises
        ------
        ValueError
            If a predicted probability is NaN.
        """
        weight, largest = _scaled(len(table), weight, largest_weight)
        used = weight > 0
        probabilities = None
        if isinstance(table, ExitTable):
            if np.isnan(table.probabilities).any():
                raise ValueError("Probabilities predicted for the calibration samples are NaN.")
            # Not copied without need, since no other array is as large.
            probabilities = table.probabilities if used.all() else table.probabilities[used]
            classes = np.arange(probabilities.shape[2]) if classes is None else classes
        labels, y = table.labels[used], y[used]
        correct = labels == y[:, None]
        if classes is not None:
            labels, y = classes[labels], classes[y]
        return cls(
            table.scores[used],
            correct,
            costs,
            weight[used],
            labels,
            y,
            largest,
            probabilities,
            classes,
            routing=None if table.routing is None else table.routing[used],
            groups=None if groups is None else groups[used],
        )

    @classmethod
    def from_predictions(
        cls,
        predictions: np.ndarray,
        y: np.ndarray,
        losses: np.ndarray,
        scores: np.ndarray,
        costs: np.ndarray,
        error_scale: ErrorScale,
        weight: np.ndarray | None = None,
        largest_weight: float | None = None,
        groups: np.ndarray | None = None,
    ) -> CalibrationData:
        """Make calibration data of a regression.

        Parameters
        ----------
        predictions : ndarray of shape (n_samples, n_exits, ...)
            Predicted values.
        y : ndarray of shape (n_samples, ...)
            Targets.
        losses : ndarray of shape (n_samples, n_exits)
            Losses, as in the class.
        scores : ndarray of shape (n_samples, n_exits)
            Scores, as in the class.
        costs : ndarray of shape (n_exits,)
            Cumulative cost of exiting at each exit.
        error_scale : ErrorScale
            Conversion of a mean loss to an error.
        weight : ndarray of shape (n_samples,), default=None
            Sample weights. Samples of weight 0 are left out. If None, all are 1.
        largest_weight : float, default=None
            Largest sample weight, as in `from_table`.
        groups : ndarray of shape (n_samples,), default=None
            Group of each sample, as in the class.

        Returns
        -------
        data : CalibrationData
            Calibration data of the samples with positive weight.
        """
        weight, largest = _scaled(len(y), weight, largest_weight)
        used = weight > 0
        return cls(
            scores[used],
            None,
            costs,
            weight[used],
            predictions[used],
            y[used],
            largest,
            losses=losses[used],
            error_scale=error_scale,
            groups=None if groups is None else groups[used],
        )

    @classmethod
    def before_training(
        cls,
        n_samples: int,
        weight: np.ndarray | None,
        largest_weight: float | None,
        groups: np.ndarray | None = None,
    ) -> CalibrationData:
        """Make calibration data before training, of two exits that are always correct.

        It shows what the calibration samples could achieve at best.

        Parameters
        ----------
        n_samples : int
            Number of calibration samples.
        weight : ndarray of shape (n_samples,) or None
            Sample weights. If None, all are 1.
        largest_weight : float or None
            Largest sample weight, as in `from_table`.
        groups : ndarray of shape (n_samples,), default=None
            Group of each sample, as in the class.

        Returns
        -------
        data : CalibrationData
            Calibration data with all scores equal to 1.
        """
        weight, largest = _scaled(n_samples, weight, largest_weight)
        best = np.ones((n_samples, 2))
        right = best.astype(bool)
        return cls(best, right, np.ones(2), weight, largest_weight=largest, groups=groups)

    @cached_property
    def gains(self) -> np.ndarray:
        """What is to be as large as possible in the mean, shape (n_samples, n_exits).

        Whether the prediction at each exit is correct, or in regression one minus its loss.
        """
        if self.losses is not None:
            return np.asarray(1.0 - self.losses)
        correct: np.ndarray = self.correct
        return correct

    def error_of(self, accuracy: float) -> float:
        """Error in regression for a mean of `gains`, or NaN in classification."""
        if self.error_scale is None:
            return float("nan")
        return self.error_scale.error(1.0 - accuracy)

    @property
    def n_exits(self) -> int:
        """Number of exits, the last included."""
        return int(self.scores.shape[1])

    @cached_property
    def group_of(self) -> np.ndarray | None:
        """Index of the group of each sample, from 0 on. None if all samples are independent."""
        if self.groups is None:
            return None
        return np.asarray(np.unique(self.groups, return_inverse=True)[1])

    @property
    def n_draws(self) -> int:
        """Number of groups, or of samples if all samples are independent."""
        return len(self.weight) if self.group_of is None else int(self.group_of.max()) + 1

    @property
    def weight_shares(self) -> tuple[np.ndarray, float]:
        """Weights divided by the largest sample weight, and the largest sample weight itself."""
        if self.largest_weight is None:
            largest = float(self.weight.max())
            return self.weight / largest, largest
        return self.weight / scaled(np.float64(self.largest_weight)), self.largest_weight

    @cached_property
    def _total_weight(self) -> float:
        return float(self.weight.sum())

    @cached_property
    def order(self) -> np.ndarray:
        """Indices of the samples by descending score, shape (n_exits - 1, n_samples)."""
        return np.argsort(-self.scores[:, :-1].T, axis=1, kind="stable")

    def take(self, rows: np.ndarray) -> CalibrationData:
        """Select samples.

        Parameters
        ----------
        rows : ndarray of int or bool
            Indices or mask of the samples.

        Returns
        -------
        data : CalibrationData
            Calibration data of the selected samples.
        """

        def part(values: Any) -> Any:
            return None if values is None else values[rows]

        return replace(
            self,
            scores=self.scores[rows],
            correct=part(self.correct),
            weight=self.weight[rows],
            labels=part(self.labels),
            y=part(self.y),
            probabilities=part(self.probabilities),
            losses=part(self.losses),
            routing=part(self.routing),
            groups=part(self.groups),
        )

    def exits(self, thresholds: np.ndarray) -> np.ndarray:
        """Compute the exit of each sample under given thresholds.

        Parameters
        ----------
        thresholds : ndarray of shape (n_exits - 1,)
            Thresholds of all exits but the last.

        Returns
        -------
        exits : ndarray of shape (n_samples,)
            Index of the exit of each sample.
        """
        return exits_of(self.scores, thresholds, self.routing)

    def outcomes(self, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute the exit and the cost of each sample under given thresholds.

        Parameters
        ----------
        thresholds : ndarray of shape (n_exits - 1,)
            Thresholds of all exits but the last.

        Returns
        -------
        exits : ndarray of shape (n_samples,)
            Index of the exit of each sample.
        paid : ndarray of shape (n_samples,)
            Cost of each sample: that of its exit, less what it saves by skipping others.
        """
        return outcomes_of(self.scores, thresholds, self.costs, self.routing)

    def evaluate(self, thresholds: np.ndarray) -> tuple[float, float]:
        """Compute the mean cost and the accuracy under given thresholds.

        Parameters
        ----------
        thresholds : ndarray of shape (n_exits - 1,)
            Thresholds of all exits but the last.

        Returns
        -------
        cost : float
            Weighted mean cost.
        accuracy : float
            Weighted accuracy.
        """
        return self.means(*self.outcomes(thresholds))

    def means(self, exits: np.ndarray, paid: np.ndarray) -> tuple[float, float]:
        """Compute the mean cost and the accuracy for given exits and costs.

        Parameters
        ----------
        exits, paid : ndarray of shape (n_samples,)
            Exit and cost of each sample, as `outcomes` returns them.

        Returns
        -------
        cost : float
            Weighted mean cost.
        accuracy : float
            Weighted accuracy.
        """
        gains = self.gains[np.arange(len(exits)), exits]
        # As numpy.average, which is slow for as many calls as a search needs.
        total = self._total_weight
        return (
            float((paid * self.weight).sum() / total),
            float((gains * self.weight).sum() / total),
        )

    def shares(self, thresholds: np.ndarray) -> np.ndarray:
        """Compute the exit rates under given thresholds.

        Parameters
        ----------
        thresholds : ndarray of shape (n_exits - 1,)
            Thresholds of all exits but the last.

        Returns
        -------
        shares : ndarray of shape (n_exits,)
            Share of the samples that exits at each exit, whatever their weights.
        """
        return self.exit_rates(self.exits(thresholds))

    def exit_rates(self, exits: np.ndarray) -> np.ndarray:
        """Compute the exit rates for given exits.

        Parameters
        ----------
        exits : ndarray of shape (n_samples,)
            Index of the exit of each sample.

        Returns
        -------
        shares : ndarray of shape (n_exits,)
            Share of the samples that exits at each exit. Each counts once, whatever its weight:
            they are compared with those of new samples, which have no weights.
        """
        return np.bincount(exits, minlength=self.n_exits) / len(exits)


def _scaled(
    n_samples: int, weight: np.ndarray | None, largest: float | None
) -> tuple[np.ndarray, float]:
    """Weights, divided by a power of two unless `largest` is given, and the largest weight."""
    weight = np.ones(n_samples) if weight is None else np.asarray(weight, dtype=np.float64)
    if largest is not None:
        return weight, largest
    return scaled(weight), float(weight.max(initial=0.0))

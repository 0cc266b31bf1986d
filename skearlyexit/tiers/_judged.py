"""What is known of a fitted model and labeled samples before it is divided among machines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skearlyexit._cascade._cascade import Cascade
from skearlyexit._data._encode import checked_groups
from skearlyexit._data._sources import labels_of
from skearlyexit._data._weights import checked_weight
from skearlyexit._utils._unwrap import last_step
from skearlyexit.calibration import CalibratedPoint, CalibrationData
from skearlyexit.runtime._driver import label_table, run, tabulate
from skearlyexit.tiers._compression import compressed
from skearlyexit.tiers._parts import ModelParts, parts_of


def accuracy_at(data: CalibrationData, exits: np.ndarray) -> float:
    """Accuracy at given exits; in regression, the share of the loss that is explained."""
    return data.means(exits, data.costs[exits])[1]


@dataclass(frozen=True, eq=False)
class Judged:
    """A model and its outputs for labeled samples of positive weight.

    Attributes
    ----------
    parts : ModelParts
        Work and bytes of the exits.
    data : CalibrationData
        Scores and correctness, or losses, of all exits.
    exits : ndarray of shape (n_samples,)
        Exit of each sample at the operating point.
    uncompressed_accuracy : float, default=nan
        Accuracy at the operating point without compression. NaN if there is none.
    """

    parts: ModelParts
    data: CalibrationData
    exits: np.ndarray
    uncompressed_accuracy: float = np.nan

    @property
    def accuracy(self) -> float:
        """Accuracy at these exits; in regression, the share of the loss that is explained."""
        return accuracy_at(self.data, self.exits)

    @property
    def last_accuracy(self) -> float:
        """The same if no sample exited early."""
        return accuracy_at(self.data, np.full(len(self.exits), self.data.n_exits - 1))


@dataclass(frozen=True, eq=False)
class LabeledRows:
    """A fitted model and validated labeled samples for it.

    Attributes
    ----------
    model : estimator with exits
        The model.
    rows : ndarray or GivenRows of shape (n_samples, ...)
        Validated samples.
    y : ndarray of shape (n_samples, ...)
        Encoded labels or values.
    weight : ndarray of shape (n_samples,)
        Sample weights.
    groups : ndarray of shape (n_samples,) or None, default=None
        Group of each sample. None if all are independent.
    """

    model: Any
    rows: Any
    y: np.ndarray
    weight: np.ndarray
    groups: np.ndarray | None = None

    @classmethod
    def of(cls, model: Any, X: Any, y: Any, sample_weight: Any, groups: Any = None) -> LabeledRows:
        """Validate samples for a model."""
        y, rows = labels_of(X, y), model._validate_rows(X)
        weight = checked_weight(sample_weight, rows)
        groups = None if groups is None else checked_groups(groups, rows)
        return cls(model, rows, model._task.encoded(y, rows), weight, groups)

    def data(self, cascade: Cascade, *, with_probabilities: bool = False) -> CalibrationData:
        """Outputs of all exits for the samples of positive weight."""
        table: Any
        if with_probabilities:
            table = tabulate(cascade, self.rows)
        else:
            table = label_table(cascade.network, cascade.exit_rule, self.rows)
        return self.model._task.calibration_data(
            table, self.y, self.model.costs_, self.weight, groups=self.groups
        )

    def exits(self, cascade: Cascade, data: CalibrationData, point: CalibratedPoint) -> np.ndarray:
        """Exit of each sample of positive weight at an operating point."""
        if point.strict_budget is None:
            return data.exits(point.thresholds)
        answers = run(cascade, self.rows, point.thresholds, strict_budget=point.strict_budget)
        return answers.exits[self.weight > 0]


def judged(
    estimator: Any,
    X: Any,
    y: Any,
    threshold: Any,
    budget: Any,
    sample_weight: Any,
    sample_bytes: float | None,
    cuts: tuple[int, ...],
    compression: str | None,
) -> Judged:
    """Run a model on samples.

    The first arguments are those of `TierPlan.report`, and the last ones those of `compressed`.
    """
    model, X = last_step(estimator, X)
    point = model._point(threshold, budget)
    labeled = LabeledRows.of(model, X, y, sample_weight)
    cascade = compressed(model.cascade_, cuts, compression)
    data = labeled.data(cascade)
    known = Judged(
        parts_of(model, labeled.rows, sample_bytes, compression),
        data,
        labeled.exits(cascade, data, point),
    )
    if compression is None:
        return known
    plain = labeled.data(model.cascade_)
    exits = labeled.exits(model.cascade_, plain, point)
    return replace(known, uncompressed_accuracy=accuracy_at(plain, exits))

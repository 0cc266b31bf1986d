"""What is known of a fitted model and labeled samples before it is divided among machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from skearlyexit._data._sources import labels_of
from skearlyexit._data._weights import checked_weight
from skearlyexit._utils._unwrap import last_step
from skearlyexit.calibration import CalibrationData
from skearlyexit.runtime._driver import tabulate
from skearlyexit.tiers._parts import ModelParts, parts_of


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
    """

    parts: ModelParts
    data: CalibrationData
    exits: np.ndarray

    @property
    def accuracy(self) -> float:
        """Accuracy at these exits; in regression, the share of the loss that is explained."""
        return self.data.outcome(self.exits)[1]

    @property
    def last_accuracy(self) -> float:
        """The same if no sample exited early."""
        return self.data.outcome(np.full(len(self.exits), self.data.n_exits - 1))[1]


def judged(
    estimator: Any,
    X: Any,
    y: Any,
    threshold: Any,
    budget: Any,
    sample_weight: Any,
    sample_bytes: float | None,
    with_probabilities: bool = False,
) -> Judged:
    """Run a model on samples; the other arguments are those of `TierPlan.report`."""
    model, X = last_step(estimator, X)
    point = model._point(threshold, budget)
    y, rows = labels_of(X, y), model._validate_rows(X)
    encoded = model._task.encoded(y, rows)
    weight = checked_weight(sample_weight, rows)
    table = tabulate(model.cascade_, rows) if with_probabilities else model._tabulated(rows)
    return Judged(
        parts_of(model, rows, sample_bytes),
        model._task.calibration_data(table, encoded, model.costs_, weight),
        model._exits(rows, table, point)[weight > 0],
    )

"""The frontier of thresholds with the same estimated risk at all exits."""

from __future__ import annotations

import numpy as np

from skearlyexit.calibration._calibration_data import CalibrationData
from skearlyexit.calibration._family_of_risks import family_of_risks
from skearlyexit.calibration._frontier import Frontier, efficient
from skearlyexit.calibration._risks import exit_losses
from skearlyexit.calibration._search import lowest_equivalent

#: Levels of the estimated risk.
LEVELS = np.concatenate([[0.0], np.geomspace(1e-6, 1.0, 500)])


def equal_risk_frontier(data: CalibrationData) -> Frontier:
    """Frontier of the family of `family_of_risks`, with estimates of the accuracies.

    The best of many thresholds on some samples are in part the best by chance: on new samples they
    lose accuracy, mostly those with many early exits. The family has a single parameter. Along it,
    also the highest accuracy is one by chance, and a cost above it would never be spent, so that
    the accuracies are made to increase with the cost.

    Parameters
    ----------
    data : CalibrationData
        Without a router, and in regression with the predicted values.
    """
    family = family_of_risks(data.scores, risks(data), data.weight, LEVELS)[::-1]
    differs = np.ones(len(family), dtype=bool)
    differs[1:] = (family[1:] != family[:-1]).any(axis=1)
    family = family[differs]
    costs, accuracies = np.array([data.evaluate(row) for row in family]).T
    estimates = increasing(accuracies)
    keep = efficient(costs, estimates)
    return Frontier(
        np.array([lowest_equivalent(data, row) for row in family[keep]]),
        costs[keep],
        estimates[keep],
        np.array([data.shares(row) for row in family[keep]]),
    )


def risks(data: CalibrationData) -> np.ndarray:
    """What exiting early risks, in [0, 1], for each sample and exit.

    In classification, it is 1 if a sample is misclassified at the exit and not at the last exit. In
    regression, it is the distance of the value from that of the last exit, divided by the largest
    distance, in the mean over the targets. It has less noise than the rise of the error, which
    depends on the target, too: nearly half of the samples are closer to it at an early exit.
    """
    if data.losses is None:
        return exit_losses(data, "performance_gap")
    assert data.labels is not None
    values = data.labels.reshape(len(data.labels), data.n_exits, -1)
    distances = np.abs(values - values[:, -1:])
    largest = distances.max(axis=(0, 1))
    return np.asarray((distances / np.where(largest > 0, largest, 1.0)).mean(axis=2))


def increasing(values: np.ndarray) -> np.ndarray:
    """Values that never decrease, halfway between the highest such below and the lowest above."""
    above = np.maximum.accumulate(values)
    below = np.minimum.accumulate(values[::-1])[::-1]
    return np.asarray((above + below) / 2)

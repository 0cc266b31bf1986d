"""Test whether the final model behaves like the models of the folds."""

from __future__ import annotations

import numpy as np

from skearlyexit._cascade._cascade import Cascade
from skearlyexit._data._samples import Samples
from skearlyexit._fitting._calibrating import calibration_data
from skearlyexit._fitting._operating_point import CalibrationWeights
from skearlyexit._task._base import Task
from skearlyexit._utils._not_finite import ADVICE_IN_FIT, located
from skearlyexit.calibration import CalibrationData
from skearlyexit.runtime._driver import label_table

#: Maximum number of samples that are used.
N_TESTED = 2000
#: Difference of the accuracies, and number of its standard errors, from which on it counts.
LEAST_DIFFERENCE, N_STANDARD_ERRORS = 0.02, 4.0
#: Effective number of samples from which on standard errors mean something.
LEAST_SAMPLES = 30


def difference_from_folds(
    cascade: Cascade,
    samples: Samples,
    judged: Samples,
    data: CalibrationData,
    weights: CalibrationWeights,
    task: Task,
) -> str:
    """Say at which early exit the final model is worse than the models of the folds, if at any.

    Thresholds from the folds hold for the final model if it behaves like their models. It was
    trained on the samples that these have not seen, on which it should be at least as accurate as
    they are, at early exits as at the last one. It is not if a training went wrong, for instance
    where statistics of batch normalization are those of earlier weights.

    Parameters
    ----------
    cascade : Cascade
        Final model.
    samples : Samples
        Samples on which it was trained.
    judged : Samples
        Calibration samples with the table of the models that have not seen them.
    data : CalibrationData
        Calibration data of those whose weight is not 0.
    weights : CalibrationWeights
        Weights of all samples.
    task : Task
        What is predicted.

    Returns
    -------
    difference : str
        Sentence about the exit with the largest difference, or an empty one.
    """
    used = np.arange(len(judged))
    if judged.calibration_weight is not None:
        used = np.flatnonzero(judged.calibration_weight > 0)
    chosen = np.unique(np.linspace(0, len(used) - 1, N_TESTED).astype(int))
    tested = used[chosen]
    rows = np.searchsorted(samples.positions, judged.positions[tested])
    with located(judged.positions[tested], ADVICE_IN_FIT):
        own = label_table(cascade.network, cascade.exit_rule, samples.take(rows).X)
    folds = data.take(chosen)
    final = calibration_data(judged.take(tested, own), cascade, weights, task)
    changes = final.gains.astype(np.float64) - folds.gains
    beyond_last = changes[:, :-1] - changes[:, -1:]
    # A training on few steps may be less successful than others at all exits, and thresholds hold.
    worse = _is_negative(changes[:, :-1], folds.weight) & _is_negative(beyond_last, folds.weight)
    if not worse.any():
        return ""
    exit_ = int(np.argmin(np.where(worse, np.average(beyond_last, 0, folds.weight), np.inf)))
    return (
        f"At exit {exit_}, the final model predicts its training samples with {_said(final, exit_)}"
        f", and the models of the folds predict the same samples, which they have not seen, with "
        f"{_said(folds, exit_)}."
    )


def _is_negative(changes: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Whether the mean of each column is negative, by more than chance explains."""
    weight = weight / weight.sum()
    if 1 / np.square(weight).sum() < LEAST_SAMPLES:
        return np.zeros(changes.shape[1], dtype=bool)
    means = weight @ changes
    errors = np.sqrt(np.square(weight) @ np.square(changes - means))
    return np.asarray(means < -np.maximum(LEAST_DIFFERENCE, N_STANDARD_ERRORS * errors))


def _said(data: CalibrationData, exit_: int) -> str:
    mean = float(np.average(data.gains[:, exit_], weights=data.weight))
    if data.losses is None:
        return f"an accuracy of {100 * mean:.1f} %"
    return f"an error of {data.error_of(mean):.4g}"

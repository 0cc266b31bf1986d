"""The rise of the error on new samples."""

import numpy as np
import pytest

from skearlyexit.calibration import CalibrationData, ErrorRise, compute_frontier
from skearlyexit.calibration._calibration_data import ErrorScale

COSTS = np.array([0.2, 0.5, 1.0])


def draw(n_samples, seed):
    """Losses with the mean 1 at the last exit, 1.04 and 1.02 before it, that no score predicts."""
    rng = np.random.RandomState(seed)
    ratios = np.array([1.04, 1.02, 1.0]) + 0.1 * rng.standard_normal((n_samples, 3))
    losses = rng.exponential(size=(n_samples, 1)) * ratios
    values = np.zeros((n_samples, 3))
    scores, scale = rng.uniform(size=(n_samples, 3)), ErrorScale(False, 1.0)
    return CalibrationData.from_predictions(values, values[:, 0], losses, scores, COSTS, scale)


def rise(data, thresholds):
    """Rise of the mean loss that is expected of new samples."""
    return np.array([0.04, 0.02, 0.0]) @ data.shares(thresholds)


def test_the_rise_on_new_samples():
    """Thresholds do better on the samples from which they are chosen."""
    asked = [
        ErrorRise(0.01),
        ErrorRise(0.01, standard_errors=0),
        ErrorRise(0.01, standard_errors=0, cv=None),
    ]
    rises = [[], [], []]
    for seed in range(12):
        data, new = draw(500, seed), draw(4000, 100 + seed)
        frontier = compute_frontier(data)
        for point, found in zip(asked, rises, strict=True):
            found.append(rise(new, point.thresholds(data, frontier)))
    default, without_error, on_the_same = np.mean(rises, axis=1)
    assert default <= 0.01
    assert without_error < on_the_same - 0.003
    assert on_the_same > 0.013


def test_all_samples_exit_early_where_they_may():
    """The rise is about 4 %."""
    data = draw(300, 0)
    for cv in (None, 3):
        point = ErrorRise(0.5, cv=cv)
        cost, _ = data.evaluate(point.thresholds(data, compute_frontier(data)))
        assert cost == pytest.approx(COSTS[0])


def test_fewer_samples_than_folds():
    data = draw(4, 0)
    frontier = compute_frontier(data)
    expected = ErrorRise(0.1, cv=None).thresholds(data, frontier)
    np.testing.assert_array_equal(ErrorRise(0.1, cv=5).thresholds(data, frontier), expected)


@pytest.mark.parametrize("cv", [1, 0, 2.5, "five"])
def test_invalid_numbers_of_folds(cv):
    with pytest.raises(ValueError, match="The 'cv' parameter of ErrorRise"):
        ErrorRise(cv=cv)._validate_params()

"""The reliability display."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from skearlyexit.inspection import ReliabilityDisplay
from skearlyexit.metrics import expected_calibration_error
from tests._data import blobs, with_costs
from tests.inspection._drawn import labels_of

_, _, X_TEST, Y_TEST = blobs()


def test_reliability_from_an_estimator(word_clf, truth):
    display = ReliabilityDisplay.from_estimator(
        word_clf, X_TEST, truth, n_bins=10, strategy="quantile"
    )
    table = word_clf.exit_table(X_TEST)
    errors = expected_calibration_error(table.probabilities, Y_TEST, 10, strategy="quantile")
    expected = [
        f"{name}: ECE {error:.3f}" for name, error in zip(with_costs(word_clf), errors, strict=True)
    ]
    assert labels_of(display) == expected
    for i, line in enumerate(display.lines_):
        points = np.column_stack([display.curve.confidence[i], display.curve.accuracy[i]])
        points = points[display.curve.share[i] > 0]
        assert line.get_xydata() == pytest.approx(points)
        assert np.asarray(display.marks_[i].get_offsets()) == pytest.approx(points)
        assert to_rgba(line.get_color()) == pytest.approx(display.marks_[i].get_facecolor()[0])
    assert display.diagonal_.get_xydata().tolist() == [[0, 0], [1, 1]]


def test_the_area_of_a_mark_is_the_share_of_the_samples():
    confidence = np.array([0.55] + [0.95] * 9)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)[:, None]
    display = ReliabilityDisplay.from_predictions(np.zeros(10, dtype=int), probabilities, n_bins=2)
    assert len(display.marks_[0].get_sizes()) == 1
    display = ReliabilityDisplay.from_predictions(
        np.zeros(10, dtype=int), probabilities, n_bins=10, linestyle="--"
    )
    small, large = display.marks_[0].get_sizes()
    assert large == pytest.approx(9 * small)
    assert display.lines_[0].get_linestyle() == "--"

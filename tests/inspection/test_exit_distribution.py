"""The display of the exits of each class."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from skearlyexit.inspection import ExitDistributionDisplay
from tests._data import blobs, with_costs
from tests.inspection._drawn import labels_of, overlap

_, _, X_TEST, Y_TEST = blobs()


def test_shares_by_hand():
    display = ExitDistributionDisplay.from_predictions(
        ["b", "b", "b", "b", "a"], [0, 1, 1, 3, 0], n_exits=4
    )
    assert display.classes.tolist() == ["a", "b"]
    assert display.shares == pytest.approx(np.array([[1, 0, 0, 0], [0.25, 0.5, 0, 0.25]]))
    assert display.overall == pytest.approx([0.4, 0.4, 0, 0.2])
    widths = np.array([[bar.get_width() for bar in bars] for bars in display.bars_])
    expected = 100 * np.vstack([display.overall, display.shares]).T
    assert widths == pytest.approx(expected)
    starts = np.array([[bar.get_x() for bar in bars] for bars in display.bars_])
    assert starts == pytest.approx(np.cumsum(expected, axis=0) - expected)
    ticks = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert ticks == ["all", "a", "b"]
    assert labels_of(display) == ["exit 0", "exit 1", "exit 2", "exit 3"]
    # The bar of all samples is at the top.
    display.figure_.canvas.draw()
    tops = [text.get_window_extent().y0 for text in display.ax_.get_yticklabels()]
    assert tops == sorted(tops, reverse=True)


def test_weighted_shares():
    display = ExitDistributionDisplay.from_predictions(
        [0, 0, 1, 2], [0, 1, 1, 0], n_exits=2, sample_weight=[1, 3, 2, 0]
    )
    assert display.classes.tolist() == [0, 1]
    assert display.shares == pytest.approx(np.array([[0.25, 0.75], [0, 1]]))
    assert display.overall == pytest.approx([1 / 6, 5 / 6])


@pytest.mark.parametrize("asked", [{}, {"budget": 0.7}, {"threshold": 0.4}])
def test_distribution_from_an_estimator(clf, asked):
    _, ax = plt.subplots()
    display = ExitDistributionDisplay.from_estimator(clf, X_TEST, Y_TEST, ax=ax, **asked)
    _, exits = clf.predict(X_TEST, return_exits=True, **asked)
    assert display.ax_ is ax
    for i in range(clf.n_exits_):
        assert display.overall[i] == pytest.approx(np.mean(exits == i))
        for k in clf.classes_:
            assert display.shares[k, i] == pytest.approx(np.mean(exits[k == Y_TEST] == i))
    assert labels_of(display) == with_costs(clf)


@pytest.mark.parametrize("n_exits", [3, 8])
def test_many_classes_stay_readable(n_exits):
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    names = [f"layer{i}.block" for i in range(n_exits)]
    display = ExitDistributionDisplay.from_predictions(
        rng.choice(letters, 2000), rng.integers(0, n_exits, 2000), n_exits=n_exits, exit_names=names
    )
    figure = display.figure_
    assert not overlap(display.ax_.get_yticklabels(), figure)
    assert not overlap(display.legend_.get_texts(), figure)
    box = display.legend_.get_window_extent()
    assert figure.bbox.x0 <= box.x0
    assert box.x1 <= figure.bbox.x1
    assert box.y1 <= figure.bbox.y1
    assert display.ax_.get_window_extent().width > 0.7 * figure.bbox.width
    first, last = (bars[0].get_facecolor() for bars in (display.bars_[0], display.bars_[-1]))
    assert first != last


def test_style_of_the_bars(clf):
    display = ExitDistributionDisplay.from_estimator(clf, X_TEST, Y_TEST, cmap="Blues", height=0.5)
    assert display.bars_[0][0].get_height() == pytest.approx(0.5)
    red, _, blue, _ = display.bars_[0][0].get_facecolor()
    assert blue > red


@pytest.mark.parametrize(
    ("exits", "options", "message"),
    [
        ([0, 2], {}, "'exits' must lie between 0 and 1"),
        ([0, 1], {"exit_names": ["a"]}, "hold 2 names"),
        ([0.0, 1.0], {}, "'exits' must hold integers. Got an array of float64"),
        ([0, 1], {"sample_weight": [1, -1]}, "Negative values"),
        ([0, 1], {"sample_weight": [0, 0]}, "[Ss]ample weights|positive weight"),
    ],
    ids=["range", "names", "floats", "negative", "zero"],
)
def test_exits_names_and_weights_that_do_not_fit(exits, options, message):
    with pytest.raises(ValueError, match=message):
        ExitDistributionDisplay.from_predictions(["a", "b"], exits, n_exits=2, **options)

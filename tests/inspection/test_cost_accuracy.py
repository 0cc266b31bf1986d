"""The display of accuracy against cost."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from skearlyexit.inspection import CostAccuracyDisplay
from skearlyexit.inspection._marks import MARKS
from skearlyexit.inspection._points import MAX_POINTS
from tests._data import blobs, quick, same
from tests.inspection._drawn import labels_of, overlap

X, y, X_TEST, Y_TEST = blobs()


SCORES = np.array([[0.9, 0.9, 1.0], [0.1, 0.9, 1.0], [0.2, 0.3, 1.0], [0.8, 0.1, 1.0]])
ANSWERS = np.array([["a", "a", "a"], ["b", "a", "b"], ["a", "a", "b"], ["a", "b", "b"]])
TRUTH = np.array(["a", "a", "b", "b"])
COSTS = np.array([0.2, 0.5, 1.1])


def drawn(**params):
    params = {"scores": SCORES, "costs": COSTS, "thresholds": [0.8, 0.8], **params}
    return CostAccuracyDisplay.from_predictions(TRUTH, ANSWERS, **params)


def test_arrays_by_hand():
    display = drawn(frontier=np.array([[0.0, 0.0], [0.8, 0.8], [np.inf, np.inf]]))
    assert display.accuracies == pytest.approx([1 / 4, 3 / 4, 3 / 4])
    assert same(display.costs, COSTS)
    # The samples exit at 0, 1, 2 and 0, and the last one is wrong there.
    assert display.point == pytest.approx(((0.2 + 0.5 + 1.1 + 0.2) / 4, 3 / 4))
    assert display.random == pytest.approx((2.0 / 4, (0.5 * 1 + 0.25 * 3 + 0.25 * 3) / 4))
    assert display.oracle == pytest.approx(((0.2 + 0.5 + 1.1 + 0.5) / 4, 1))
    assert display.frontier_costs == pytest.approx([0.2, 0.5, 1.1])
    assert display.frontier_accuracies == pytest.approx([1 / 4, 3 / 4, 3 / 4])


def test_what_is_drawn_are_the_arrays_in_percent():
    display = drawn(frontier=np.array([[0.0, 0.0], [0.8, 0.8]]), name="mine")
    assert display.line_.get_xydata() == pytest.approx(np.array([[0.2, 25], [0.5, 75]]))
    assert display.exits_.get_xydata() == pytest.approx(np.array([[0.2, 25], [0.5, 75]]))
    assert display.last_exit_.get_xydata() == pytest.approx(np.array([[1.1, 75]]))
    for artist, value in (
        (display.point_, display.point),
        (display.random_, display.random),
        (display.oracle_, display.oracle),
    ):
        assert artist.get_xydata()[0] == pytest.approx([value[0], 100 * value[1]])
    assert display.point_.get_marker() == "*"
    assert display.exits_.get_markerfacecolor() == "none"
    assert display.last_exit_.get_markerfacecolor() == display.line_.get_color()
    assert display.figure_ is display.ax_.figure
    assert display.ax_.get_ylabel() == "Accuracy (%)"
    assert labels_of(display) == ["mine", *MARKS]


def test_weights_are_repetitions():
    weight, points = np.array([0, 2, 1, 3]), np.array([[0.0, 0.0], [0.8, 0.8]])
    again = np.repeat(np.arange(4), weight)
    weighted = drawn(sample_weight=weight, frontier=points)
    repeated = CostAccuracyDisplay.from_predictions(
        TRUTH[again],
        ANSWERS[again],
        scores=SCORES[again],
        costs=COSTS,
        thresholds=[0.8, 0.8],
        frontier=points,
    )
    for name in ("accuracies", "point", "random", "oracle", "frontier_accuracies"):
        assert getattr(weighted, name) == pytest.approx(getattr(repeated, name))


def test_without_frontier_and_operating_point():
    display = drawn(thresholds=None)
    assert display.line_ is display.point_ is display.random_ is None
    assert display.frontier_costs is display.point is None
    assert labels_of(display) == ["model", "exit alone", "last exit alone", "oracle"]


def test_long_frontiers_are_thinned():
    rng = np.random.default_rng(0)
    scores, answers = rng.random((3000, 2)), rng.integers(0, 2, (3000, 2))
    points = np.sort(rng.random(1000))[:, None]
    display = CostAccuracyDisplay.from_predictions(
        rng.integers(0, 2, 3000), answers, scores=scores, costs=[0.3, 1.0], frontier=points
    )
    assert MAX_POINTS / 2 < len(display.frontier_costs) <= MAX_POINTS
    assert (np.diff(display.frontier_costs) > 0).all()
    ends = 0.3 + 0.7 * (scores[:, 0] < points[[0, -1]]).mean(axis=1)
    assert display.frontier_costs[[0, -1]] == pytest.approx(ends)


def test_a_frontier_of_one_point_is_seen():
    assert drawn(frontier=np.array([[0.8, 0.8]])).line_.get_marker() == "."
    assert drawn(frontier=np.array([[0.8, 0.8], [0.0, 0.0]])).line_.get_marker() != "."


def test_from_an_estimator(clf):
    display = CostAccuracyDisplay.from_estimator(clf, X_TEST, Y_TEST)
    _, exits = clf.predict(X_TEST, return_exits=True)
    assert display.point[0] == pytest.approx(clf.costs_[exits].mean())
    assert display.point[1] == pytest.approx(clf.score(X_TEST, Y_TEST))
    assert display.accuracies[-1] == pytest.approx(clf.score(X_TEST, Y_TEST, threshold=np.inf))
    points = {}
    for row in clf.frontier_.thresholds:
        labels, exits = clf.predict(X_TEST, threshold=row, return_exits=True)
        points.setdefault(clf.costs_[exits].mean(), np.mean(labels == Y_TEST))
    assert len(points) > 3
    assert display.frontier_costs == pytest.approx(sorted(points))
    expected = [points[cost] for cost in sorted(points)]
    assert display.frontier_accuracies == pytest.approx(expected)
    assert labels_of(display)[0] == "EarlyExitClassifier"
    assert "plain network" in display.ax_.get_xlabel()


def test_the_network_runs_once(clf):
    n_rows = []
    stage = clf.stages_[0]
    hook = stage.register_forward_hook(lambda stage, rows, out: n_rows.append(len(rows[0])))
    try:
        CostAccuracyDisplay.from_estimator(clf, X_TEST, Y_TEST)
    finally:
        hook.remove()
    assert len(X_TEST) <= sum(n_rows) < len(X_TEST) + 16  # with padding


@pytest.mark.parametrize("asked", [{"budget": 0.7}, {"threshold": 0.4}, {"threshold": [0.35, 0.5]}])
def test_another_operating_point(clf, asked):
    display = CostAccuracyDisplay.from_estimator(clf, X_TEST, Y_TEST, **asked)
    assert display.point[0] not in clf.costs_  # samples exit at several exits
    assert display.point[1] == pytest.approx(clf.score(X_TEST, Y_TEST, **asked))


def test_costs_in_a_common_unit(clf):
    own = CostAccuracyDisplay.from_estimator(clf, X_TEST, Y_TEST)
    macs = 10 * clf.cost_table_.plain
    display = CostAccuracyDisplay.from_estimator(clf, X_TEST, Y_TEST, plain_cost=macs)
    assert display.costs == pytest.approx(own.costs / 10)
    assert display.point == pytest.approx((own.point[0] / 10, own.point[1]))
    assert display.frontier_costs == pytest.approx(own.frontier_costs / 10)
    assert f"{macs / 1e3:.3g}k MACs = 1" in display.ax_.get_xlabel()


def test_two_models_on_one_axis(clf):
    other = quick(calibration=None).fit(X, y)
    first = CostAccuracyDisplay.from_estimator(clf, X_TEST, Y_TEST, name="first")
    second = CostAccuracyDisplay.from_estimator(other, X_TEST, Y_TEST, name="other", ax=first.ax_)
    assert second.ax_ is first.ax_
    assert second.line_ is None
    colors = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    for display, color in ((first, colors[0]), (second, colors[1])):
        for artist in (display.exits_, display.last_exit_, display.point_, display.oracle_):
            assert artist.get_color() == color
    # The mark of each kind has one entry, and each model one.
    assert labels_of(second) == ["first", "other", *MARKS]
    assert len([child for child in first.ax_.get_children() if child is second.legend_]) == 1
    third = CostAccuracyDisplay.from_estimator(clf, X_TEST, Y_TEST, name="third", ax=first.ax_)
    assert third.line_.get_color() == colors[2]


def test_plot_takes_style_name_and_log(clf):
    display = CostAccuracyDisplay.from_estimator(
        clf, X_TEST, Y_TEST, log=True, color="red", linestyle="--"
    )
    assert display.ax_.get_xscale() == "log"
    assert display.line_.get_color() == display.point_.get_color() == "red"
    assert display.line_.get_linestyle() == "--"
    assert display.exits_.get_linestyle() == "None"
    ticks = display.ax_.get_xticklabels()
    low, high = display.ax_.get_xlim()
    shown = [text for text in ticks if low <= float(text.get_text()) <= high]
    assert len(shown) >= 2
    assert not overlap(shown, display.figure_)
    assert display.plot(name="again") is display
    assert labels_of(display)[0] == "again"
    assert display.ax_.get_xscale() == "linear"


@pytest.mark.parametrize("factor", [1, 1e-1, 1e-3])
def test_log_ticks_are_few_and_plain(factor):
    costs = np.array([factor * 0.2, 0.5, 1.1]) if factor < 1 else COSTS
    display = drawn(costs=costs, log=True)
    display.figure_.canvas.draw()
    low, high = display.ax_.get_xlim()
    shown = [t for t in display.ax_.get_xticklabels() if low <= float(t.get_text()) <= high]
    assert 2 <= len(shown) <= 12
    assert not overlap(shown, display.figure_)


def test_the_legend_covers_no_mark():
    display = drawn(frontier=np.array([[0.0, 0.0], [0.8, 0.8], [np.inf, np.inf]]))
    display.figure_.canvas.draw()
    box = display.legend_.get_window_extent()
    for line in display.ax_.lines:
        at = display.ax_.transData.transform(line.get_xydata())
        assert not any(box.contains(*point) for point in at)


def test_one_exit():
    clf = quick(exits=1).fit(X, y)
    display = CostAccuracyDisplay.from_estimator(clf, X_TEST, Y_TEST)
    assert display.point == pytest.approx((1.0, clf.score(X_TEST, Y_TEST)))
    assert len(display.exits_.get_xdata()) == 0
    assert "exit alone" not in labels_of(display)


def test_an_operating_point_by_its_exits():
    args = [0, 1, 1], [[0, 0], [0, 1], [1, 0]]
    arrays = {"scores": [[0.9, 1.0], [0.2, 1.0], [0.8, 1.0]], "costs": [0.4, 1.0]}
    by_exits = CostAccuracyDisplay.from_predictions(*args, **arrays, exits=[0, 1, 0])
    by_thresholds = CostAccuracyDisplay.from_predictions(*args, **arrays, thresholds=[0.5])
    assert by_exits.point == by_thresholds.point == pytest.approx((0.6, 1.0))
    assert by_exits.random == by_thresholds.random
    for params, message in (
        ({"exits": [0, 1, 0], "thresholds": [0.5]}, "At most one of 'thresholds' and 'exits'"),
        ({"exits": [0, 1, 2]}, "'exits' must lie between 0 and 1"),
        ({"exits": [0, 1]}, "inconsistent numbers of samples"),
    ):
        with pytest.raises(ValueError, match=message):
            CostAccuracyDisplay.from_predictions(*args, **arrays, **params)


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="must be of shape"):
        drawn(costs=COSTS[:2])
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples|sample_weight\.shape"):
        drawn(sample_weight=[1, 2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thresholds": [0.5]}, "'thresholds' must hold 2 thresholds for 3 exits"),
        ({"frontier": np.zeros((5, 3))}, "'frontier' must hold 2 thresholds for 3 exits"),
        ({"sample_weight": [-1, 1, 1, 1]}, "sample weights|Negative values"),
        ({"sample_weight": np.zeros(4)}, "[Ss]ample weights|positive weight"),
    ],
    ids=["thresholds", "frontier", "negative", "zero"],
)
def test_thresholds_and_weights_that_do_not_fit(options, message):
    y_pred = np.zeros((4, 3), dtype=int)
    arrays = {"scores": np.full((4, 3), 0.5), "costs": [0.2, 0.5, 1.0]}
    with pytest.raises(ValueError, match=message):
        CostAccuracyDisplay.from_predictions(
            np.zeros(4, dtype=int), y_pred, **{**arrays, **options}
        )

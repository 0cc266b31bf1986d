"""The displays: their arrays against computation by hand, and what they draw."""

import sys

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skearlyexit import Budget
from skearlyexit.inspection import CostAccuracyDisplay, ExitDistributionDisplay
from skearlyexit.inspection._marks import MARKS
from skearlyexit.inspection._points import MAX_POINTS
from tests._data import blobs, quick, same

X, y, X_TEST, Y_TEST = blobs()
DISPLAYS = [CostAccuracyDisplay, ExitDistributionDisplay]


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def clf():
    return quick(operating_point=Budget(0.8)).fit(X, y)


def labels_of(display):
    return [text.get_text() for text in display.legend_.get_texts()]


def overlap(texts, figure):
    """Whether any two texts that are drawn cover each other."""
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    return any(first.overlaps(second) for i, first in enumerate(boxes) for second in boxes[i + 1 :])


# Cost and accuracy

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
    # The rows leave at 0, 1, 2 and 0, and the last one is wrong there.
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


@pytest.mark.parametrize("asked", [{"budget": 0.7}, {"threshold": 0.4}, {"threshold": [0.35, 0.5]}])
def test_another_operating_point(clf, asked):
    display = CostAccuracyDisplay.from_estimator(clf, X_TEST, Y_TEST, **asked)
    assert display.point[0] not in clf.costs_  # rows leave at several exits
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


# Where rows leave


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
    # All rows stand at the top.
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
    assert labels_of(display) == clf.exit_names_


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


# Both


@pytest.mark.parametrize("display", DISPLAYS)
def test_pipelines(display):
    pipeline = make_pipeline(StandardScaler(), "passthrough", quick(operating_point=Budget(0.8)))
    pipeline.fit(X, y)
    last = pipeline[-1]
    scaled = pipeline[0].transform(X_TEST)
    for model in (pipeline, make_pipeline(pipeline)):
        found = vars(display.from_estimator(model, X_TEST, Y_TEST))
        expected = vars(display.from_estimator(last, scaled, Y_TEST))
        for name in ("shares", "accuracies", "point", "frontier_costs"):
            if name in expected:
                assert found[name] == pytest.approx(expected[name])


@pytest.mark.parametrize("display", DISPLAYS)
@pytest.mark.parametrize("model", [LogisticRegression(), make_pipeline(LogisticRegression())])
def test_other_estimators_are_refused(display, model):
    model.fit(X, y)
    with pytest.raises(TypeError, match=r"must be an EarlyExitClassifier.* Got LogisticRegression"):
        display.from_estimator(model, X_TEST, Y_TEST)


@pytest.mark.parametrize("display", DISPLAYS)
def test_a_budget_needs_a_frontier(display):
    clf = quick(calibration=None).fit(X, y)
    with pytest.raises(ValueError, match="needs calibration rows"):
        display.from_estimator(clf, X_TEST, Y_TEST, budget=0.5)


def test_bad_predictions():
    with pytest.raises(ValueError, match="must be of shape"):
        drawn(costs=COSTS[:2])
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples|sample_weight\.shape"):
        drawn(sample_weight=[1, 2])
    with pytest.raises(ValueError, match="'exits' must lie between 0 and 1"):
        ExitDistributionDisplay.from_predictions([0, 1], [0, 2], n_exits=2)
    with pytest.raises(ValueError, match="hold 2 names"):
        ExitDistributionDisplay.from_predictions([0, 1], [0, 1], n_exits=2, exit_names=["a"])


def test_matplotlib_is_named_where_it_is_missing(monkeypatch, clf):
    drawn_before = [drawn(), ExitDistributionDisplay.from_predictions([0, 1], [0, 1], n_exits=2)]
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for display, existing in zip(DISPLAYS, drawn_before, strict=True):
        name = display.__name__
        with pytest.raises(ImportError, match=rf"{name}\.from_estimator requires matplotlib.*pip"):
            display.from_estimator(clf, X_TEST, Y_TEST)
        with pytest.raises(ImportError, match=rf"{name}\.plot requires matplotlib.*pip"):
            existing.plot()
    with pytest.raises(ImportError, match=r"from_predictions requires matplotlib"):
        drawn()
    with pytest.raises(ImportError, match=r"from_predictions requires matplotlib"):
        ExitDistributionDisplay.from_predictions([0, 1], [0, 1], n_exits=2)


class TestChecks:
    """What the displays refuse."""

    ARRAYS = {
        "scores": np.full((4, 3), 0.5),
        "costs": [0.2, 0.5, 1.0],
    }

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
    def test_cost_and_accuracy(self, options, message):
        y_pred = np.zeros((4, 3), dtype=int)
        with pytest.raises(ValueError, match=message):
            CostAccuracyDisplay.from_predictions(
                np.zeros(4, dtype=int), y_pred, **{**self.ARRAYS, **options}
            )

    @pytest.mark.parametrize(
        ("exits", "options", "message"),
        [
            ([0.0, 1.0], {}, "'exits' must hold integers. Got an array of float64"),
            ([0, 1], {"sample_weight": [1, -1]}, "Negative values"),
            ([0, 1], {"sample_weight": [0, 0]}, "[Ss]ample weights|positive weight"),
        ],
        ids=["floats", "negative", "zero"],
    )
    def test_exits(self, exits, options, message):
        with pytest.raises(ValueError, match=message):
            ExitDistributionDisplay.from_predictions(["a", "b"], exits, n_exits=2, **options)

    @pytest.mark.parametrize("display", [CostAccuracyDisplay, ExitDistributionDisplay])
    def test_labels_the_model_does_not_know(self, display):
        X, y, X_new, y_new = blobs()
        clf = quick().fit(X, y)
        with pytest.raises(ValueError, match="not seen in fit"):
            display.from_estimator(clf, X_new, y_new + 7)

    def test_a_search_is_told_what_to_give(self):
        X, y, *_ = blobs()
        search = GridSearchCV(quick(calibration=None), {"lr": [0.01]}, cv=2).fit(X, y)
        with pytest.raises(TypeError, match="Give its best_estimator_"):
            CostAccuracyDisplay.from_estimator(search, X, y)

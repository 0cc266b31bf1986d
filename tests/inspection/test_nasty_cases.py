"""Pictures of many exits, long names and outliers stay readable."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from skearlyexit.inspection import (
    CostAccuracyDisplay,
    EmbeddingDisplay,
    ExitDistributionDisplay,
    ExtremeSamplesDisplay,
    OverthinkingDisplay,
    ReliabilityDisplay,
    RunsDisplay,
    SearchDisplay,
)
from skearlyexit.inspection._names import shortened
from skearlyexit.inspection._outliers import OUTSIDE, show_typical, typical_range
from tests._data import blobs, quick
from tests.inspection._drawn import inside, labels_of, overlap

N_EXITS, N_SAMPLES = 12, 300
EXITS = [f"encoder.layers.{i}.attention.output.LayerNorm (0.{i})" for i in range(N_EXITS)]
CLASSES = np.array([f"a rather long class name, number {i} of the taxonomy" for i in range(9)])
RNG = np.random.default_rng(0)
Y = RNG.integers(0, len(CLASSES), N_SAMPLES)
LABELS = np.where(RNG.random((N_SAMPLES, N_EXITS)) < np.linspace(0.5, 0.9, N_EXITS), Y[:, None], 0)
SCORES = RNG.random((N_SAMPLES, N_EXITS))
EXIT_OF = RNG.integers(0, N_EXITS, N_SAMPLES)
COSTS = np.linspace(0.1, 1.1, N_EXITS)


def cost_accuracy(**params):
    return CostAccuracyDisplay.from_predictions(
        Y, LABELS, scores=SCORES, costs=COSTS, exits=EXIT_OF, exit_names=EXITS, **params
    )


def drawn(kind):
    """Display of a kind, and all of its texts that must not cover each other."""
    if kind == "cost_accuracy":
        display = cost_accuracy()
        return display, display.names_
    if kind == "exit_distribution":
        display = ExitDistributionDisplay.from_predictions(
            CLASSES[Y], EXIT_OF, n_exits=N_EXITS, exit_names=EXITS
        )
        return display, [*display.ax_.get_yticklabels(), *display.legend_.get_texts()]
    if kind == "reliability":
        probabilities = np.eye(len(CLASSES))[LABELS] * 0.5 + 0.5 / len(CLASSES)
        display = ReliabilityDisplay.from_predictions(Y, probabilities, exit_names=EXITS)
        return display, display.legend_.get_texts()
    if kind == "embedding":
        display = EmbeddingDisplay.from_predictions(
            RNG.normal(size=(N_SAMPLES, 4)),
            EXIT_OF,
            n_exits=N_EXITS,
            exit_names=EXITS,
            title=f"Embeddings at exit {EXITS[0]}",
        )
        return display, [*display.legend_.get_texts(), display.ax_.title]
    if kind == "search":
        n = 30
        results = {
            "params": [{"exits": [f"a_long_name_of_a_block_{i}", "layer4.2"]} for i in range(n)],
            "mean_test_accuracy": np.linspace(0.8, 0.9, n),
            "std_test_accuracy": np.full(n, 0.01),
            "mean_test_cost": -np.linspace(0.3, 0.9, n),
            "std_test_cost": np.full(n, 0.01),
        }
        display = SearchDisplay.from_cv_results(results, group="exits")
        return display, display.legend_.get_texts()
    params = {"y_true": CLASSES[Y], "y_pred": CLASSES[LABELS[:, 0]], "n_exits": N_EXITS}
    rows = RNG.normal(size=(N_SAMPLES, 6) if kind == "table" else (N_SAMPLES, 6, 6))
    display = ExtremeSamplesDisplay.from_predictions(
        rows, EXIT_OF, SCORES[:, 0], exit_names=EXITS, n_samples=2, **params
    )
    return display, [*display.texts_, *display.ax_.get_yticklabels()]


KINDS = [
    "cost_accuracy",
    "exit_distribution",
    "reliability",
    "embedding",
    "search",
    "table",
    "images",
]


@pytest.mark.parametrize("kind", KINDS)
def test_names_cover_nothing_and_leave_room(kind):
    display, texts = drawn(kind)
    assert texts
    assert not overlap(texts, display.figure_)
    assert inside(texts, display.figure_)
    axes = display.ax_.get_window_extent()
    assert axes.width > 0.25 * display.figure_.bbox.width
    assert axes.height > 0.25 * display.figure_.bbox.height


def test_captions_stay_off_the_images():
    display, _ = drawn("images")
    display.figure_.canvas.draw()
    boxes = [image.get_window_extent() for image in display.images_]
    for text in display.texts_:
        box = text.get_window_extent()
        assert not any(
            box.y0 < image.y1 - 1 and box.y1 > image.y0 + 1 and box.overlaps(image)
            for image in boxes
        )
    assert any("\nis " in text.get_text() for text in display.texts_)


def test_slanted_names_end_at_their_bars():
    display = OverthinkingDisplay.from_predictions(Y, LABELS, costs=COSTS, exit_names=EXITS)
    ticks = display.ax_.get_xticklabels()
    assert inside(ticks, display.figure_)
    assert {text.get_rotation() for text in ticks} == {30.0}
    assert len({text.get_text() for text in ticks}) == N_EXITS + 1
    short = OverthinkingDisplay.from_predictions(Y, LABELS[:, :2], costs=COSTS[:2])
    assert {text.get_rotation() for text in short.ax_.get_xticklabels()} == {0.0}


class TestNames:
    def test_they_stay_different(self):
        for names in (EXITS, CLASSES, [f"{'x' * 40}{i}{'y' * 40}" for i in range(20)]):
            short = shortened(names)
            assert len(set(short)) == len(names)
            assert max(map(len, short)) <= 24
        both = [*EXITS, *CLASSES]
        assert len(set(shortened(both))) == len(both)

    def test_short_names_are_kept(self):
        assert shortened(["stem", EXITS[0], 3])[::2] == ["stem", "3"]

    def test_the_middle_is_left_out(self):
        assert shortened(["abcdefghijklmnopqrstuvwxyz"], 11) == ["abcde…vwxyz"]


class TestExitNames:
    def test_all_where_there_is_room(self):
        clf = quick(calibration=0.3, budget=0.8).fit(*blobs()[:2])
        display = CostAccuracyDisplay.from_estimator(clf, *blobs()[2:])
        assert {text.get_text() for text in display.names_} <= set(clf.exit_names_)
        assert len(display.names_) >= 2

    def test_none_where_there_is_no_room(self):
        _, ax = plt.subplots(figsize=(1.5, 1.5))
        assert len(cost_accuracy(ax=ax).names_) < N_EXITS / 2

    def test_they_cover_no_mark(self):
        frontier = np.linspace(0, 1.1, 12)[:, None] * np.ones(N_EXITS - 1)
        display = cost_accuracy(frontier=frontier)
        display.figure_.canvas.draw()
        at = [display.ax_.transData.transform(line.get_xydata()) for line in display.ax_.lines]
        path = display.line_.get_path().transformed(display.ax_.transData)
        for text in display.names_:
            box = text.get_window_extent()
            assert not box.count_contains(np.concatenate(at))
            assert not path.intersects_bbox(box, filled=False)


class TestOutliers:
    def outside(self, display):
        return [line for line in display.ax_.lines if line.get_gid() == OUTSIDE]

    def test_typical_ranges(self):
        values = np.r_[np.linspace(0, 1, 40), 60.0]
        assert typical_range(values) == (0, 1)
        assert typical_range(-values) == (-1, 0)
        for none in ([3.0], [1.0, 5.0], [0.0] * 9 + [1.0], np.linspace(0, 1, 30) ** 3):
            assert typical_range(np.array(none)) == (min(none), max(none))
        assert typical_range(RNG.normal(size=1000))[1] > 2.5

    def test_a_group_of_points_is_no_outlier(self):
        values = np.r_[np.linspace(0, 1, 90), np.linspace(50, 51, 10)]
        assert typical_range(values) == (0, 51)

    def test_of_a_search(self):
        n = 20
        results = {
            "params": [{"lr": 1}] * n,
            "mean_test_accuracy": np.r_[0.03, np.linspace(0.8, 0.9, n - 1)],
            "std_test_accuracy": np.zeros(n),
            "mean_test_cost": -np.r_[np.linspace(0.3, 0.9, n - 1), 60.0],
            "std_test_cost": np.zeros(n),
        }
        display = SearchDisplay.from_cv_results(results)
        assert display.ax_.get_xlim()[1] < 1
        assert display.ax_.get_ylim()[0] > 75
        assert len(self.outside(display)) == 2
        texts = [text.get_text() for text in display.ax_.texts]
        assert texts == ["60", "3"]

    def test_of_an_exit(self):
        correct = np.arange(1000)[:, None] < np.array([100, 900, 910, 915, 920])
        display = CostAccuracyDisplay.from_predictions(
            np.ones(1000, dtype=int),
            correct.astype(int),
            scores=np.ones((1000, 5)),
            costs=[0.1, 0.4, 0.6, 0.8, 1.0],
        )
        assert display.ax_.get_ylim()[0] > 85
        (mark,) = self.outside(display)
        assert mark.get_marker() == "v"
        assert [text.get_text() for text in display.ax_.texts if text.get_gid() == OUTSIDE] == [
            "10"
        ]
        assert display.accuracies[0] == pytest.approx(0.1)

    def test_a_logarithmic_axis_keeps_its_limits(self):
        params = {"scores": np.ones((8, 6)), "costs": [0.001, 0.5, 0.52, 0.54, 0.56, 900.0]}
        display = CostAccuracyDisplay.from_predictions(
            np.zeros(8, dtype=int), np.zeros((8, 6), dtype=int), log=True, **params
        )
        assert not self.outside(display)
        assert display.ax_.get_xlim()[1] > 900

    def test_of_embeddings(self):
        embeddings = RNG.normal(size=(200, 3))
        embeddings[:2] = 5000
        display = EmbeddingDisplay.from_predictions(embeddings, EXIT_OF[:200], n_exits=N_EXITS)
        assert np.ptp(display.ax_.get_xlim()) < 20
        assert len(self.outside(display)) == 2

    def test_of_features(self):
        rows = RNG.normal(size=(N_SAMPLES, 2))
        expected = (rows[1:] - rows[1:].mean(axis=0)) / rows[1:].std(axis=0)
        rows[0] = 1e6
        display = ExtremeSamplesDisplay.from_predictions(
            rows, EXIT_OF, SCORES[:, 0], n_exits=N_EXITS
        )
        assert display.rows[1:] == pytest.approx(expected)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_of_pixels(self, channels):
        images = RNG.random((20, channels, 5, 5))
        images[3, 0, 2, 2] = 900.0
        display = ExtremeSamplesDisplay.from_predictions(
            images, np.zeros(20, dtype=int), np.linspace(1, 0, 20), n_exits=1, n_samples=9
        )
        image = display.images_[0]
        low, high = image.get_clim() if channels == 1 else (0.0, 1.0)
        values = np.asarray(image.get_array())
        assert np.std((values - low) / (high - low)) > 0.2

    def test_an_accuracy_is_never_above_one(self):
        display = RunsDisplay(
            np.tile([0.3, 0.9], (3, 1)), np.array([[0.1] * 2, [0.9] * 2, [1.0] * 2])
        )
        edges = display.plot().band_.get_paths()[0].vertices[:, 1]
        assert edges.max() <= 100


def test_frontiers_have_no_points_that_cannot_be_told_apart():
    scores, answers = RNG.random((3000, 2)), RNG.integers(0, 2, (3000, 2))
    points = np.r_[np.linspace(0.5, 0.501, 100), np.linspace(0.6, 1, 20)][:, None]
    display = CostAccuracyDisplay.from_predictions(
        RNG.integers(0, 2, 3000), answers, scores=scores, costs=[0.3, 1.0], frontier=points
    )
    near = display.frontier_costs < 0.3 + 0.7 * 0.55
    assert near.sum() <= 10
    assert (~near).sum() >= 15


def test_budgets_of_runs_with_the_same_thresholds():
    X, y, X_test, y_test = blobs()
    runs = [quick(random_state=seed).fit(X, y) for seed in (0, 1)]
    budgets = [0.7, 5.0, 3.0, 7.0]
    display = RunsDisplay.from_estimators(runs, X_test, y_test, budgets=budgets)
    assert display.advice == ["The budgets 3, 5 and 7 have the same thresholds."]
    assert RunsDisplay.from_estimators(runs, X_test, y_test).advice == []


def test_a_long_name_of_runs_is_shortened():
    display = RunsDisplay(np.ones((2, 2)), np.ones((2, 2)), name="model " * 20).plot()
    assert inside(display.legend_.get_texts(), display.figure_)


def test_more_groups_than_a_legend_can_hold():
    n = 70
    results = {
        "params": [{"lr": i} for i in range(n)],
        "mean_test_accuracy": np.linspace(0.8, 0.9, n),
        "std_test_accuracy": np.zeros(n),
        "mean_test_cost": -np.linspace(0.3, 0.9, n),
        "std_test_cost": np.zeros(n),
    }
    display = SearchDisplay.from_cv_results(results, group="lr")
    assert len(labels_of(display)) == 60
    assert display.legend_.get_title().get_text() == "11 more are not listed"


def test_no_finite_point():
    _, ax = plt.subplots()
    limits = ax.get_xlim()
    show_typical(ax, np.full((3, 2), np.nan))
    assert ax.get_xlim() == limits

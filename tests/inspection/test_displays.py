"""Displays of measures, searches, runs and rows: their arrays, and what they draw."""

import sys

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skearlyexit import Budget
from skearlyexit.inspection import (
    CostAccuracyDisplay,
    EmbeddingDisplay,
    ExtremeRowsDisplay,
    OverthinkingDisplay,
    ReliabilityDisplay,
    RunsDisplay,
    SearchDisplay,
)
from skearlyexit.metrics import MeanCost, expected_calibration_error, overthinking
from tests._data import blobs, quick

X, y, X_TEST, Y_TEST = blobs()
WORDS = np.array(["ant", "bee", "cow", "dog"])
WITH_LABELS = [OverthinkingDisplay, ReliabilityDisplay, ExtremeRowsDisplay]
FROM_ESTIMATOR = [*WITH_LABELS, EmbeddingDisplay]


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def clf():
    return quick(operating_point=Budget(0.8)).fit(X, WORDS[y])


@pytest.fixture(scope="module")
def truth():
    return WORDS[Y_TEST]


def labels_of(display):
    return [text.get_text() for text in display.legend_.get_texts()]


def overlap(texts, figure):
    """Whether any two texts that are drawn cover each other."""
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    return any(first.overlaps(second) for i, first in enumerate(boxes) for second in boxes[i + 1 :])


def inside(texts, figure):
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in texts]
    return all(
        box.x0 >= -1
        and box.y0 >= -1
        and box.x1 <= figure.bbox.x1 + 1
        and box.y1 <= figure.bbox.y1 + 1
        for box in boxes
    )


def draw(display, model, **params):
    args = (X_TEST,) if display is EmbeddingDisplay else (X_TEST, WORDS[Y_TEST])
    return display.from_estimator(model, *args, **params)


# Overthinking


def test_overthinking_by_hand():
    answers = np.array([["a", "a", "a"], ["a", "b", "b"], ["b", "a", "b"], ["b", "b", "b"]])
    display = OverthinkingDisplay.from_predictions(
        ["a", "a", "a", "a"], answers, costs=[0.2, 0.5, 1.0], exit_names=["x", "y", "z"]
    )
    heights = {kind: [bar.get_height() for bar in bars] for kind, bars in display.bars_.items()}
    assert heights == {"kept": [25, 0, 0], "lost": [25, 25, 0], "never": [25]}
    # What is lost stands on what is kept.
    assert [bar.get_y() for bar in display.bars_["lost"]] == [25, 0, 0]
    assert [text.get_text() for text in display.ax_.get_xticklabels()] == ["x", "y", "z", "never"]
    assert labels_of(display)[1] == "wrong at the end: 50.0 %"
    headline = display.ax_.get_title(loc="left")
    assert headline.startswith("Wasteful: 75.0% of the rows right before the end, mean waste 0.70")
    assert headline.endswith("Destructive: 66.7% of the last exit's errors right before")
    shown = [text.get_text() for text in display.texts_]
    assert shown == ["50.0", "25.0 lost", "25.0", "25.0 lost", "0.0", "25.0"]
    texts = [*display.texts_, *display.legend_.get_texts(), display.ax_._left_title]
    assert not overlap(texts, display.figure_)
    assert inside(texts, display.figure_)


def test_overthinking_from_an_estimator(clf, truth):
    weight = np.random.default_rng(0).integers(0, 3, len(truth))
    display = OverthinkingDisplay.from_estimator(clf, X_TEST, truth, sample_weight=weight)
    correct = np.array([labels == truth for labels in clf.staged_predict(X_TEST)]).T
    expected = overthinking(correct, clf.costs_, weight)
    assert display.overthinking.kept == pytest.approx(expected.kept)
    assert display.overthinking.lost == pytest.approx(expected.lost)
    assert display.exit_names == clf.exit_names_


def test_overthinking_where_nothing_is_right_or_wrong():
    nowhere = OverthinkingDisplay.from_predictions(["a"], [["b", "b"]], costs=[0.5, 1])
    assert nowhere.bars_["never"][0].get_height() == 100
    assert "mean waste" not in nowhere.ax_.get_title(loc="left")
    everywhere = OverthinkingDisplay.from_predictions(["a"], [["a", "a"]], costs=[0.5, 1])
    assert "Destructive" not in everywhere.ax_.get_title(loc="left")
    assert everywhere.exit_names == ["exit 0", "exit 1"]


# Reliability


def test_reliability_from_an_estimator(clf, truth):
    display = ReliabilityDisplay.from_estimator(clf, X_TEST, truth, n_bins=10, strategy="quantile")
    table = clf.exit_table(X_TEST)
    errors = expected_calibration_error(table.probabilities, Y_TEST, 10, strategy="quantile")
    expected = [
        f"{name}: ECE {error:.3f}" for name, error in zip(clf.exit_names_, errors, strict=True)
    ]
    assert labels_of(display) == expected
    for i, line in enumerate(display.lines_):
        points = np.column_stack([display.curve.confidence[i], display.curve.accuracy[i]])
        points = points[display.curve.share[i] > 0]
        assert line.get_xydata() == pytest.approx(points)
        assert np.asarray(display.marks_[i].get_offsets()) == pytest.approx(points)
        assert to_rgba(line.get_color()) == pytest.approx(display.marks_[i].get_facecolor()[0])
    assert display.diagonal_.get_xydata().tolist() == [[0, 0], [1, 1]]


def test_marks_tell_the_share_of_the_rows():
    sure = np.array([0.55] + [0.95] * 9)
    probabilities = np.stack([sure, 1 - sure], axis=1)[:, None]
    display = ReliabilityDisplay.from_predictions(np.zeros(10, dtype=int), probabilities, n_bins=2)
    assert len(display.marks_[0].get_sizes()) == 1
    display = ReliabilityDisplay.from_predictions(
        np.zeros(10, dtype=int), probabilities, n_bins=10, linestyle="--"
    )
    small, large = display.marks_[0].get_sizes()
    assert large == pytest.approx(9 * small)
    assert display.lines_[0].get_linestyle() == "--"


# Embeddings


def test_embeddings_from_an_estimator(clf):
    display = EmbeddingDisplay.from_estimator(clf, X_TEST, exit=1, budget=0.7)
    _, exits = clf.predict(X_TEST, budget=0.7, return_exits=True)
    assert len(np.unique(exits)) > 1
    projection = PCA(2, random_state=0)
    expected = projection.fit_transform(clf.embed(X_TEST, 1))
    assert display.positions == pytest.approx(expected)
    for i, points in enumerate(display.points_):
        assert np.asarray(points.get_offsets()) == pytest.approx(expected[exits == i])
    assert display.ax_.get_title() == f"Embeddings at exit {clf.exit_names_[1]}"
    share = projection.explained_variance_ratio_[0]
    assert display.ax_.get_xlabel() == f"component 1 ({share:.0%} of the variance)"
    leave = [f"{name}: {np.mean(exits == i):.0%}" for i, name in enumerate(clf.exit_names_)]
    assert labels_of(display) == leave
    named = EmbeddingDisplay.from_estimator(clf, X_TEST, exit=clf.exit_names_[-1])
    assert named.ax_.get_title().endswith(clf.exit_names_[-1])
    assert inside(display.legend_.get_texts(), display.figure_)


class Halved:
    """Projection with no fit and transform of its own, as t-SNE."""

    def get_params(self, deep=False):
        return {}

    def fit_transform(self, embeddings):
        self.fitted_ = True
        return embeddings[:, :3] / 2


def test_another_projection(clf):
    projection = Halved()
    display = EmbeddingDisplay.from_estimator(clf, X_TEST, projection=projection)
    assert display.positions == pytest.approx(clf.embed(X_TEST, 0)[:, :2] / 2)
    assert display.ax_.get_xlabel() == "component 1"
    assert not hasattr(projection, "fitted_")


def test_bad_embeddings(clf):
    exits = np.zeros(5, dtype=int)
    with pytest.raises(ValueError, match="both at least 2"):
        EmbeddingDisplay.from_predictions(np.zeros((5, 1)), exits, n_exits=2)
    with pytest.raises(TypeError, match="with fit_transform"):
        EmbeddingDisplay.from_predictions(np.eye(5), exits, n_exits=2, projection=max)
    with pytest.raises(ValueError, match="two columns at least"):
        EmbeddingDisplay.from_predictions(np.eye(5), exits, n_exits=2, projection=PCA(1))
    with pytest.raises(ValueError, match="'exits' must lie between 0 and 1"):
        EmbeddingDisplay.from_predictions(np.eye(5), exits + 2, n_exits=2)
    with pytest.raises(ValueError, match="'exits' must hold integers"):
        EmbeddingDisplay.from_predictions(np.eye(5), exits / 2, n_exits=2)
    with pytest.raises(ValueError, match="hold 2 names"):
        EmbeddingDisplay.from_predictions(np.eye(5), exits, n_exits=2, exit_names=["a"])
    with pytest.raises(ValueError, match="'exit' must be"):
        EmbeddingDisplay.from_estimator(clf, X_TEST, exit=9)


# Extreme rows


def test_extremes_by_hand():
    scores = np.array([0.9, 0.5, 0.7, 0.7, 0.2, 0.8])
    display = ExtremeRowsDisplay.from_predictions(
        np.eye(6), [0, 0, 0, 0, 0, 2], scores, n_exits=3, n_rows=2
    )
    # Of equal scores, the first row is taken for the surer one.
    assert [rows.tolist() for rows in display.easiest] == [[0, 2], [], [5]]
    assert [rows.tolist() for rows in display.hardest] == [[4, 1], [], []]
    many = ExtremeRowsDisplay.from_predictions(
        np.eye(6), [0, 0, 0, 0, 0, 2], scores, n_exits=3, n_rows=9
    )
    assert [rows.tolist() for rows in many.easiest] == [[0, 2, 3], [], [5]]
    assert [rows.tolist() for rows in many.hardest] == [[4, 1], [], []]


@pytest.mark.parametrize("asked", [{}, {"budget": 0.7}, {"threshold": 0.5}])
def test_extremes_from_an_estimator(clf, truth, asked):
    display = ExtremeRowsDisplay.from_estimator(clf, X_TEST, truth, n_rows=3, **asked)
    labels, exits = clf.predict(X_TEST, return_exits=True, **asked)
    scores = clf.exit_table(X_TEST).scores
    for i, (easiest, hardest) in enumerate(zip(display.easiest, display.hardest, strict=True)):
        there = scores[exits == i, i]
        assert (exits[[*easiest, *hardest]] == i).all()
        assert len(easiest) == min(3, (len(there) + 1) // 2)
        assert scores[easiest, i] == pytest.approx(np.sort(there)[::-1][: len(easiest)])
        assert scores[hardest, i] == pytest.approx(np.sort(there)[: len(hardest)])
    first = display.easiest[-1][0]
    assert display.captions[first].startswith(f"{labels[first]} ({scores[first, -1]:.2f})")
    wrong = labels != truth
    assert (display.wrong == wrong).all()
    for row in np.flatnonzero(wrong):
        assert display.captions[row].endswith(f", is {truth[row]}")
    assert [", is" in caption for caption in display.captions] == wrong.tolist()


def test_tables_are_standardised_and_named():
    frame = pd.DataFrame(X_TEST, columns=[f"length of part {i}" for i in range(X.shape[1])])
    clf = quick(operating_point=Budget(0.8)).fit(pd.DataFrame(X, columns=frame.columns), y)
    display = ExtremeRowsDisplay.from_estimator(clf, frame, n_rows=2)
    assert display.rows == pytest.approx((X_TEST - X_TEST.mean(axis=0)) / X_TEST.std(axis=0))
    (image,) = display.images_
    shown = [row for pair in zip(display.easiest, display.hardest, strict=True) for row in pair]
    drawn = image.get_array().filled(np.nan)
    drawn = drawn[~np.isnan(drawn).all(axis=1)]
    assert drawn == pytest.approx(display.rows[np.concatenate(shown)])
    names = [text.get_text() for text in display.ax_.get_xticklabels()]
    assert names == list(frame.columns)
    kinds = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert kinds[0] == f"{clf.exit_names_[0]}, easiest"
    assert len(display.texts_) == len(np.concatenate(shown))
    texts = [*display.ax_.get_yticklabels(), *display.texts_]
    assert not overlap(texts, display.figure_)
    assert inside([*texts, *display.ax_.get_xticklabels()], display.figure_)
    # Captions end before the bar of colors.
    bar = next(ax for ax in display.figure_.axes if ax is not display.ax_)
    left = bar.get_window_extent().x0
    assert all(text.get_window_extent().x1 < left for text in display.texts_)


@pytest.mark.parametrize("shape", [(4, 3), (1, 4, 3), (3, 2, 2)])
@pytest.mark.parametrize("flat", [True, False])
def test_images(shape, flat):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (20, *shape))
    options = {"image_shape": shape} if flat else {}
    given = images.reshape(20, -1) if flat else images
    exits, scores = np.arange(20) % 2, rng.random(20)
    display = ExtremeRowsDisplay.from_predictions(
        given, exits, scores, n_exits=2, n_rows=2, y_true=exits, y_pred=np.zeros(20, int), **options
    )
    shown = np.concatenate([*display.easiest, *display.hardest])
    assert len(display.images_) == len(display.texts_) == len(shown) == 8
    for image, text, row in zip(display.images_, display.texts_, shown, strict=True):
        expected = images[row].reshape(-1, *shape[-2:])[0]
        if shape[0] == 3:
            low, high = images.min(), images.max()
            expected = (images[row].transpose(1, 2, 0) - low) / (high - low)
        assert np.asarray(image.get_array()) == pytest.approx(expected)
        assert text.get_text() == display.captions[row]
    assert not overlap(display.texts_, display.figure_)
    assert [text.get_text() for text in display.ax_.get_yticklabels()] == ["exit 0", "exit 1"]
    colors = {text.get_color() for text in display.texts_}
    assert len(colors) == 2


def test_a_pipeline_shows_the_rows_as_they_came(clf):
    pipeline = make_pipeline(StandardScaler(), quick(max_epochs=1)).fit(1000 + X, y)
    display = ExtremeRowsDisplay.from_estimator(
        pipeline, 1000 + X_TEST, image_shape=(1, 13), threshold=0.4
    )
    assert display.rows[:, 0] == pytest.approx(1000 + X_TEST)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"X": np.eye(4)[:, :2], "image_shape": (2, 2)}, "as many pixels as a row"),
        ({"X": np.zeros((4, 2, 2, 2))}, "one channel or three"),
        ({"X": np.array([["a", "b"]] * 4)}, "must hold numbers"),
        ({"X": np.full((4, 2), np.nan)}, "'X' must be finite.*with NaN"),
        ({"X": np.zeros(4)}, "'X' must be finite, of shape"),
        ({"X": np.eye(3)}, "'X' must have as many rows as 'exits'. Got 3 and 4"),
        ({"scores": [0.1]}, "'scores' must have as many rows"),
        ({"y_true": [0, 1, 0, 1]}, "give 'y_pred' too"),
        ({"y_pred": [0]}, "'y_pred' must have as many rows"),
        ({"n_rows": 0}, "'n_rows' must be an integer"),
        ({"feature_names": ["a"]}, "'feature_names' must hold 4 names"),
        ({"exit_names": ["a"]}, "'exit_names' must hold 2 names"),
    ],
)
def test_bad_rows(changed, message):
    args = {"X": np.eye(4), "exits": [0, 1, 0, 1], "scores": np.ones(4), "n_exits": 2, **changed}
    with pytest.raises(ValueError, match=message):
        ExtremeRowsDisplay.from_predictions(**args)


# Cost and accuracy


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


# Searches

RESULTS = {
    "params": [{"lr": 1, "exits": 2}, {"lr": 2, "exits": 2}, {"lr": 1}, {"lr": 2}, {"lr": 3}],
    "mean_test_accuracy": np.array([0.90, 0.95, 0.94, np.nan, 0.90]),
    "std_test_accuracy": np.array([0.01, 0.02, 0.03, np.nan, 0.01]),
    "mean_test_cost": -np.array([0.5, 0.8, 0.8, 0.9, 0.4]),
    "std_test_cost": np.array([0.1, 0.2, 0.1, 0.0, 0.1]),
}


def test_a_search_by_hand():
    display = SearchDisplay.from_cv_results(RESULTS)
    assert display.costs.tolist() == [0.5, 0.8, 0.8, 0.4]
    assert display.accuracies.tolist() == [0.90, 0.95, 0.94, 0.90]
    assert display.candidates.tolist() == [0, 1, 2, 4]
    # The first is as accurate as the last and dearer.
    assert display.efficient_.tolist() == [4, 1]
    assert display.line_.get_xydata() == pytest.approx(np.array([[0.4, 90], [0.8, 95]]))
    assert display.line_.get_drawstyle() == "steps-post"
    (points,) = display.points_
    across, up = (bars.get_segments() for bars in points.lines[2])
    assert np.ptp(across[1][:, 0]) == pytest.approx(2 * 0.2)
    assert np.ptp(up[1][:, 1]) == pytest.approx(2 * 2)


def test_groups_of_a_search():
    display = SearchDisplay.from_cv_results(RESULTS, group="exits", unit="10k MACs")
    assert labels_of(display) == ["efficient", "exits = 2", "exits = not searched"]
    assert [len(points.lines[0].get_xdata()) for points in display.points_] == [2, 2]
    assert len({points.lines[0].get_marker() for points in display.points_}) == 2
    assert display.ax_.get_xlabel() == "Mean cost per row (10k MACs = 1)"


def test_a_real_search():
    search = GridSearchCV(
        quick(max_epochs=2, operating_point=Budget(0.9)),
        {"training": ["joint", "separate"]},
        scoring={"hits": "accuracy", "price": MeanCost()},
        refit=False,
        cv=2,
    ).fit(X[:300], y[:300])
    display = SearchDisplay.from_cv_results(search, accuracy="hits", cost="price", group="training")
    assert display.costs == pytest.approx(-search.cv_results_["mean_test_price"])
    assert labels_of(display)[1:] == ["training = joint", "training = separate"]


def test_bad_searches():
    for search, error, params, message in (
        (RESULTS, ValueError, {"cost": "price"}, r"no metric 'price'. Got .*'accuracy', 'cost'"),
        (RESULTS, ValueError, {"group": "depth"}, r"one of \['exits', 'lr'\]. Got 'depth'"),
        ({**RESULTS, "mean_test_cost": np.ones(5)}, ValueError, {}, "must be a negated cost"),
        ({**RESULTS, "mean_test_cost": np.full(5, np.nan)}, ValueError, {}, "candidates failed"),
        (GridSearchCV(quick(), {}), TypeError, {}, "GridSearchCV instead, which is not fitted"),
        ([1], TypeError, {}, "Got list instead"),
    ):
        with pytest.raises(error, match=message):
            SearchDisplay.from_cv_results(search, **params)


# Runs


def test_runs_at_the_same_budgets(clf, truth):
    runs = [clf, quick(random_state=1).fit(X, WORDS[y]), quick(random_state=2).fit(X, WORDS[y])]
    budgets = [0.7, 0.8, 1.0]
    display = RunsDisplay.from_estimators(runs, X_TEST, truth, budgets=budgets, name="mine")
    for i, run in enumerate(runs):
        for j, budget in enumerate(budgets):
            labels, exits = run.predict(X_TEST, budget=budget, return_exits=True)
            assert display.costs[i, j] == pytest.approx(run.costs_[exits].mean())
            assert display.accuracies[i, j] == pytest.approx(np.mean(labels == truth))
    middle = 100 * display.accuracies.mean(axis=0)
    assert display.line_.get_ydata() == pytest.approx(middle)
    assert display.line_.get_xdata() == pytest.approx(display.costs.mean(axis=0))
    spread = 100 * display.accuracies.std(axis=0, ddof=1)
    edges = display.band_.get_paths()[0].vertices[:, 1]
    assert edges.max() == pytest.approx((middle + spread).max())
    assert labels_of(display) == ["mine, 3 runs"]
    again = display.plot(band="range", color="red")
    edges = again.band_.get_paths()[0].vertices[:, 1]
    assert edges.max() == pytest.approx(100 * display.accuracies.max())
    assert to_rgba(again.line_.get_color()) == to_rgba("red")
    own = RunsDisplay.from_estimators(runs, X_TEST, truth, ax=display.ax_)
    assert own.ax_ is display.ax_
    assert own.costs.shape[0] == 3
    assert not own.band_.get_paths()[0].vertices[:, 1].max() > 100
    with pytest.raises(ValueError, match="'band' must be one of"):
        display.plot(band="wide")


def test_one_run_has_no_spread(clf, truth):
    display = RunsDisplay.from_estimators([clf], X_TEST, truth, budgets=[0.7, 0.9])
    edges = display.band_.get_paths()[0].vertices[:, 1]
    assert edges.min() == pytest.approx(display.line_.get_ydata().min())
    assert labels_of(display) == ["model, 1 run"]


def test_bad_runs(clf, truth):
    bare = quick(calibration=None, max_epochs=1).fit(X, WORDS[y])
    with pytest.raises(ValueError, match=r"Estimator 1 has no frontier_.*Call calibrate"):
        RunsDisplay.from_estimators([clf, bare], X_TEST, truth)
    for estimators in ([], clf):
        with pytest.raises(TypeError, match="must be a list of fitted estimators"):
            RunsDisplay.from_estimators(estimators, X_TEST, truth)
    with pytest.raises(ValueError, match="'budget' parameter must be at least"):
        RunsDisplay.from_estimators([clf], X_TEST, truth, budgets=[0.01])


# All


@pytest.mark.parametrize("display", FROM_ESTIMATOR)
def test_they_draw_on_given_axes(display, clf):
    _, ax = plt.subplots()
    drawn = draw(display, clf, ax=ax)
    assert drawn.ax_ is ax
    assert drawn.figure_ is ax.figure
    assert drawn.plot() is drawn
    assert drawn.ax_ is not ax


@pytest.mark.parametrize("display", FROM_ESTIMATOR)
def test_pipelines(display):
    pipeline = make_pipeline(StandardScaler(), "passthrough", quick(operating_point=Budget(0.8)))
    pipeline.fit(X, WORDS[y])
    inner = make_pipeline(pipeline)
    found, expected = draw(display, inner), draw(display, pipeline)
    for name in ("overthinking", "curve"):
        if hasattr(found, name):
            for key, value in vars(getattr(found, name)).items():
                assert value == pytest.approx(getattr(getattr(expected, name), key), nan_ok=True)
    if display is EmbeddingDisplay:
        rows = pipeline[0].transform(X_TEST)
        assert (found.exits == pipeline[-1].predict(rows, return_exits=True)[1]).all()


@pytest.mark.parametrize("display", FROM_ESTIMATOR)
def test_other_estimators_are_refused(display):
    model = LogisticRegression().fit(X, WORDS[y])
    with pytest.raises(TypeError, match=r"must be an EarlyExitClassifier.* Got LogisticRegression"):
        draw(display, model)


@pytest.mark.parametrize("display", WITH_LABELS)
def test_labels_the_model_does_not_know(display, clf):
    with pytest.raises(ValueError, match="not seen in fit"):
        display.from_estimator(clf, X_TEST, np.full(len(X_TEST), "emu"))


@pytest.mark.parametrize("display", FROM_ESTIMATOR)
def test_matplotlib_is_named_where_it_is_missing(monkeypatch, display, clf):
    drawn = draw(display, clf)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    name = display.__name__
    with pytest.raises(ImportError, match=rf"{name}\.from_estimator requires matplotlib.*pip"):
        draw(display, clf)
    with pytest.raises(ImportError, match=rf"{name}\.plot requires matplotlib.*pip"):
        drawn.plot()

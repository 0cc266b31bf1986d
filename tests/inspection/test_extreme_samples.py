"""The display of extreme samples."""

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skearlyexit import Budget
from skearlyexit.inspection import ExtremeSamplesDisplay
from tests._data import blobs, quick, with_costs
from tests.inspection._drawn import inside, overlap

X, y, X_TEST, _ = blobs()


def test_extremes_by_hand():
    scores = np.array([0.9, 0.5, 0.7, 0.7, 0.2, 0.8])
    display = ExtremeSamplesDisplay.from_predictions(
        np.eye(6), [0, 0, 0, 0, 0, 2], scores, n_exits=3, n_samples=2
    )
    # Of equal scores, the first one counts as more confident.
    assert [rows.tolist() for rows in display.easiest] == [[0, 2], [], [5]]
    assert [rows.tolist() for rows in display.hardest] == [[4, 1], [], []]
    many = ExtremeSamplesDisplay.from_predictions(
        np.eye(6), [0, 0, 0, 0, 0, 2], scores, n_exits=3, n_samples=9
    )
    assert [rows.tolist() for rows in many.easiest] == [[0, 2, 3], [], [5]]
    assert [rows.tolist() for rows in many.hardest] == [[4, 1], [], []]


@pytest.mark.parametrize("asked", [{}, {"budget": 0.7}, {"threshold": 0.5}])
def test_extremes_from_an_estimator(word_clf, truth, asked):
    display = ExtremeSamplesDisplay.from_estimator(word_clf, X_TEST, truth, n_samples=3, **asked)
    labels, exits = word_clf.predict(X_TEST, return_exits=True, **asked)
    scores = word_clf.exit_table(X_TEST).scores
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


def test_tables_are_standardized_and_named():
    frame = pd.DataFrame(X_TEST, columns=[f"length of part {i}" for i in range(X.shape[1])])
    clf = quick(operating_point=Budget(0.8)).fit(pd.DataFrame(X, columns=frame.columns), y)
    display = ExtremeSamplesDisplay.from_estimator(clf, frame, n_samples=2)
    assert display.rows == pytest.approx((X_TEST - X_TEST.mean(axis=0)) / X_TEST.std(axis=0))
    (image,) = display.images_
    shown = [row for pair in zip(display.easiest, display.hardest, strict=True) for row in pair]
    drawn = image.get_array().filled(np.nan)
    drawn = drawn[~np.isnan(drawn).all(axis=1)]
    assert drawn == pytest.approx(display.rows[np.concatenate(shown)])
    names = [text.get_text() for text in display.ax_.get_xticklabels()]
    assert names == list(frame.columns)
    kinds = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert kinds[0] == f"{with_costs(clf)[0]}, easiest"
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
    display = ExtremeSamplesDisplay.from_predictions(
        given,
        exits,
        scores,
        n_exits=2,
        n_samples=2,
        y_true=exits,
        y_pred=np.zeros(20, int),
        **options,
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


def test_a_pipeline_shows_the_rows_as_they_came(word_clf):
    pipeline = make_pipeline(StandardScaler(), quick(max_epochs=1)).fit(1000 + X, y)
    display = ExtremeSamplesDisplay.from_estimator(
        pipeline, 1000 + X_TEST, image_shape=(1, 13), threshold=0.4
    )
    assert display.rows[:, 0] == pytest.approx(1000 + X_TEST)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"X": np.eye(4)[:, :2], "image_shape": (2, 2)}, "as many pixels as a sample"),
        ({"X": np.zeros((4, 2, 2, 2))}, "one channel or three"),
        ({"X": np.array([["a", "b"]] * 4)}, "must hold numbers"),
        ({"X": np.full((4, 2), np.nan)}, "'X' must be finite.*with NaN"),
        ({"X": np.zeros(4)}, "'X' must be finite, of shape"),
        ({"X": np.eye(3)}, "'X' must have as many samples as 'exits'. Got 3 and 4"),
        ({"scores": [0.1]}, "'scores' must have as many samples"),
        ({"y_true": [0, 1, 0, 1]}, "give 'y_pred' too"),
        ({"y_pred": [0]}, "'y_pred' must have as many samples"),
        ({"n_samples": 0}, "'n_samples' must be an integer"),
        ({"feature_names": ["a"]}, "'feature_names' must hold 4 names"),
        ({"exit_names": ["a"]}, "'exit_names' must hold 2 names"),
    ],
)
def test_bad_rows(changed, message):
    args = {"X": np.eye(4), "exits": [0, 1, 0, 1], "scores": np.ones(4), "n_exits": 2, **changed}
    with pytest.raises(ValueError, match=message):
        ExtremeSamplesDisplay.from_predictions(**args)

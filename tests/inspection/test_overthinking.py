"""The display of overthinking."""

import numpy as np
import pytest

from skearlyexit.inspection import OverthinkingDisplay
from skearlyexit.metrics import overthinking
from tests._data import blobs
from tests.inspection._drawn import inside, labels_of, overlap

_, _, X_TEST, _ = blobs()


def test_overthinking_by_hand():
    answers = np.array([["a", "a", "a"], ["a", "b", "b"], ["b", "a", "b"], ["b", "b", "b"]])
    display = OverthinkingDisplay.from_predictions(
        ["a", "a", "a", "a"], answers, costs=[0.2, 0.5, 1.0], exit_names=["x", "y", "z"]
    )
    heights = {kind: [bar.get_height() for bar in bars] for kind, bars in display.bars_.items()}
    assert heights == {"kept": [25, 0, 0], "lost": [25, 25, 0], "never": [25]}
    # The red part of a bar is above the blue one.
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


def test_overthinking_from_an_estimator(word_clf, truth):
    weight = np.random.default_rng(0).integers(0, 3, len(truth))
    display = OverthinkingDisplay.from_estimator(word_clf, X_TEST, truth, sample_weight=weight)
    correct = np.array([labels == truth for labels in word_clf.staged_predict(X_TEST)]).T
    expected = overthinking(correct, word_clf.costs_, weight)
    assert display.overthinking.kept == pytest.approx(expected.kept)
    assert display.overthinking.lost == pytest.approx(expected.lost)
    assert display.exit_names == word_clf.exit_names_


def test_overthinking_where_nothing_is_right_or_wrong():
    nowhere = OverthinkingDisplay.from_predictions(["a"], [["b", "b"]], costs=[0.5, 1])
    assert nowhere.bars_["never"][0].get_height() == 100
    assert "mean waste" not in nowhere.ax_.get_title(loc="left")
    everywhere = OverthinkingDisplay.from_predictions(["a"], [["a", "a"]], costs=[0.5, 1])
    assert "Destructive" not in everywhere.ax_.get_title(loc="left")
    assert everywhere.exit_names == ["exit 0", "exit 1"]

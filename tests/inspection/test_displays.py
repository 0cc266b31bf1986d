"""What holds of all displays: their axes, the estimators that they take, and their errors."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skearlyexit import Budget
from skearlyexit.inspection import (
    CostAccuracyDisplay,
    EmbeddingDisplay,
    ExitDistributionDisplay,
    ExtremeSamplesDisplay,
    OverthinkingDisplay,
    ReliabilityDisplay,
)
from tests._data import blobs, quick

X, y, X_TEST, Y_TEST = blobs()
WITH_LABELS = [
    CostAccuracyDisplay,
    ExitDistributionDisplay,
    ExtremeSamplesDisplay,
    OverthinkingDisplay,
    ReliabilityDisplay,
]
DISPLAYS = [*WITH_LABELS, EmbeddingDisplay]
#: Displays of an operating point.
WITH_BUDGET = [
    CostAccuracyDisplay,
    EmbeddingDisplay,
    ExitDistributionDisplay,
    ExtremeSamplesDisplay,
]
#: Arrays that are the same for a pipeline and for its last step.
ARRAYS = (
    *("shares", "accuracies", "point", "frontier_costs"),
    *("positions", "exits", "easiest", "hardest", "captions"),
)
PREDICTIONS = {
    CostAccuracyDisplay: (
        ([0, 1], [[0, 0], [0, 1]]),
        {"scores": [[0.9, 1.0], [0.5, 1.0]], "costs": [0.3, 1.0]},
    ),
    EmbeddingDisplay: ((np.eye(3), [0, 1, 0]), {"n_exits": 2}),
    ExitDistributionDisplay: (([0, 1], [0, 1]), {"n_exits": 2}),
    ExtremeSamplesDisplay: ((np.eye(3), [0, 1, 0], [0.9, 0.8, 0.7]), {"n_exits": 2}),
    OverthinkingDisplay: (([0, 1], [[0, 0], [0, 1]]), {"costs": [0.3, 1.0]}),
    ReliabilityDisplay: (([0, 1], np.full((2, 2, 2), 0.5)), {}),
}


def draw(display, model, rows=X_TEST, labels=Y_TEST, **params):
    args = (rows,) if display is EmbeddingDisplay else (rows, labels)
    return display.from_estimator(model, *args, **params)


@pytest.mark.parametrize("display", DISPLAYS)
def test_they_draw_on_given_axes(display, clf):
    _, ax = plt.subplots()
    drawn = draw(display, clf, ax=ax)
    assert drawn.ax_ is ax
    assert drawn.figure_ is ax.figure
    assert drawn.plot() is drawn
    assert drawn.ax_ is not ax


@pytest.mark.parametrize("display", DISPLAYS)
def test_pipelines(display):
    pipeline = make_pipeline(StandardScaler(), "passthrough", quick(operating_point=Budget(0.8)))
    pipeline.fit(X, y)
    expected = draw(display, pipeline[-1], pipeline[0].transform(X_TEST))
    for model in (pipeline, make_pipeline(pipeline)):
        found = draw(display, model)
        for name in ARRAYS:
            if hasattr(found, name):
                np.testing.assert_equal(getattr(found, name), getattr(expected, name))
        for name in ("overthinking", "curve"):
            if hasattr(found, name):
                np.testing.assert_equal(vars(getattr(found, name)), vars(getattr(expected, name)))


@pytest.mark.parametrize("display", DISPLAYS)
@pytest.mark.parametrize("model", [LogisticRegression(), make_pipeline(LogisticRegression())])
def test_other_estimators_are_refused(display, model):
    model.fit(X, y)
    with pytest.raises(
        TypeError, match=r"must be an estimator with exits.* Got LogisticRegression"
    ):
        draw(display, model)


def test_a_search_is_told_what_to_give():
    search = GridSearchCV(quick(calibration=None), {"lr": [0.01]}, cv=2).fit(X, y)
    with pytest.raises(TypeError, match="Give its best_estimator_"):
        CostAccuracyDisplay.from_estimator(search, X, y)


@pytest.mark.parametrize("display", WITH_BUDGET)
def test_a_budget_needs_a_frontier(display):
    clf = quick(calibration=None).fit(X, y)
    with pytest.raises(ValueError, match="needs calibration samples"):
        draw(display, clf, budget=0.5)


@pytest.mark.parametrize("display", WITH_LABELS)
def test_labels_that_the_model_does_not_know(display, clf, word_clf):
    for model, unknown in ((clf, Y_TEST + 7), (word_clf, np.full(len(X_TEST), "emu"))):
        with pytest.raises(ValueError, match="not seen in fit"):
            draw(display, model, labels=unknown)


@pytest.mark.parametrize("display", DISPLAYS)
def test_matplotlib_is_named_where_it_is_missing(monkeypatch, display, clf):
    args, params = PREDICTIONS[display]
    drawn = display.from_predictions(*args, **params)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    name = display.__name__
    with pytest.raises(ImportError, match=rf"{name}\.from_estimator requires matplotlib.*pip"):
        draw(display, clf)
    with pytest.raises(ImportError, match=rf"{name}\.from_predictions requires matplotlib.*pip"):
        display.from_predictions(*args, **params)
    with pytest.raises(ImportError, match=rf"{name}\.plot requires matplotlib.*pip"):
        drawn.plot()

"""The display of several runs."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from skearlyexit.inspection import RunsDisplay
from tests._data import blobs, quick
from tests.inspection._drawn import WORDS, labels_of

X, y, X_TEST, _ = blobs()


def test_runs_at_the_same_budgets(word_clf, truth):
    runs = [
        word_clf,
        quick(random_state=1).fit(X, WORDS[y]),
        quick(random_state=2).fit(X, WORDS[y]),
    ]
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


def test_one_run_has_no_spread(word_clf, truth):
    display = RunsDisplay.from_estimators([word_clf], X_TEST, truth, budgets=[0.7, 0.9])
    edges = display.band_.get_paths()[0].vertices[:, 1]
    assert edges.min() == pytest.approx(display.line_.get_ydata().min())
    assert labels_of(display) == ["model, 1 run"]


def test_bad_runs(word_clf, truth):
    bare = quick(calibration=None, max_epochs=1).fit(X, WORDS[y])
    with pytest.raises(ValueError, match=r"Estimator 1 has no frontier_.*Call calibrate"):
        RunsDisplay.from_estimators([word_clf, bare], X_TEST, truth)
    for estimators in ([], word_clf):
        with pytest.raises(TypeError, match="must be a list of fitted estimators"):
            RunsDisplay.from_estimators(estimators, X_TEST, truth)
    with pytest.raises(ValueError, match="'budget' parameter must be at least"):
        RunsDisplay.from_estimators([word_clf], X_TEST, truth, budgets=[0.01])

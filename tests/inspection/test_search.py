"""The display of a search."""

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from skearlyexit import Budget
from skearlyexit.inspection import SearchDisplay
from skearlyexit.metrics import MeanCost
from tests._data import blobs, quick
from tests.inspection._drawn import labels_of

X, y, _, _ = blobs()


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
    # The first is as accurate as the last and more expensive.
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
    assert display.ax_.get_xlabel() == "Mean cost per sample (10k MACs = 1)"


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

"""A frontier whose search has looked at some of the samples holds for all of them."""

from unittest.mock import patch

import numpy as np
import pytest

from skearlyexit import Budget
from skearlyexit.calibration import _search
from tests._calibration_data import naive_evaluate, simulated

N_EXITS = 5


@pytest.fixture(scope="module")
def frontiers():
    """Samples with weights, and the frontiers of a search over some and over all of them."""
    data = simulated(0, 1200, N_EXITS, weighted=True)
    with patch.object(_search, "SEARCHED_SAMPLES", 400):
        some = _search.search_frontier(data)
        again = _search.search_frontier(data)
    assert np.array_equal(some.thresholds, again.thresholds)
    return data, some, _search.search_frontier(data)


def test_costs_and_accuracies_are_those_of_all_samples(frontiers):
    data, some, _ = frontiers
    assert len(some) > 10
    for row, *values in list(zip(some.thresholds, some.costs, some.accuracies, strict=True))[::9]:
        assert naive_evaluate(data, row) == pytest.approx(tuple(values))
    assert np.all(np.diff(some.costs) > 0)
    assert np.all(np.diff(some.accuracies) > 0)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8])
def test_budgets_are_kept_on_all_samples_at_little_loss(frontiers, share):
    data, some, every = frontiers
    budget = data.costs[0] + share * (data.costs[-1] - data.costs[0])
    cost, accuracy = data.evaluate(Budget(budget).thresholds(data, some))
    assert cost <= budget * (1 + 1e-12)
    # Three standard errors of the accuracy on so many samples.
    assert accuracy >= every.accuracies[every.at_budget(budget)] - 3 * 0.5 / np.sqrt(400)

"""Costs that were timed do not enter a model's answers: same seed, same model."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.naive_bayes import GaussianNB
from torch import nn

from skearlyexit import CostSensitivePolicy, ScheduledPolicy
from skearlyexit.costs import _macs, _seconds
from skearlyexit.runtime import _times
from tests._data import blobs, quick, same

X, y, X_NEW, Y_NEW = (part[:250] for part in blobs())


class Uncounted(ClassifierMixin, BaseEstimator):
    """An estimator whose operations are not known, so that its cost is timed."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.model_ = GaussianNB().fit(X, y)
        return self

    def predict_proba(self, X):
        return self.model_.predict_proba(X)

    def predict(self, X):
        return self.model_.predict(X)


@pytest.fixture
def uneven_clock(monkeypatch):
    """Times that are never the same twice."""
    rng = np.random.RandomState(0)

    def times(parts, *args, **kwargs):
        return [rng.uniform(1e-7, 1e-4, size=5) for _ in parts]

    for module in (_macs, _seconds):
        if hasattr(module, "time_parts"):
            monkeypatch.setattr(module, "time_parts", times)
    ticks = np.cumsum(rng.uniform(1e-7, 1e-4, size=10**5)).tolist()
    monkeypatch.setattr(_times, "perf_counter", lambda: ticks.pop(0))


@pytest.mark.parametrize("cost", ["macs", "seconds"])
@pytest.mark.parametrize(
    "params",
    [
        {"combine": "cost_weighted", "calibration": None},
        {"policy": CostSensitivePolicy()},
        {"policy": ScheduledPolicy(max_iter=20)},
    ],
    ids=lambda params: "-".join(params),
)
def test_timed_costs_do_not_enter_answers(uneven_clock, params, cost):
    clf = quick(max_epochs=1, head=Uncounted(), cost=cost, exits=["stem", "block1", "block2"])
    tables = [clf.set_params(**params, threshold=0.5).fit(X, y).exit_table(X_NEW) for _ in range(2)]
    assert same(tables[0].probabilities, tables[1].probabilities)
    assert same(tables[0].scores, tables[1].scores)


def test_counted_costs_are_the_weights():
    clf = quick(max_epochs=1, combine="cost_weighted", calibration=None).fit(X, y)
    table = clf.cost_table_
    weights = np.cumsum(table.stage_costs + table.head_costs) / table.plain
    assert clf.cascade_.exit_rule.combination.costs_ == pytest.approx(weights)


def test_a_network_without_operations():
    clf = quick(
        backbone=[nn.Identity(), nn.ReLU()], exits=[0], head=Uncounted(), policy="learned"
    ).set_params(cost="seconds")
    assert clf.fit(X, y).n_exits_ == 2

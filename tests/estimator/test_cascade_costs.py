"""Classifiers in a row: what they cost, and budgets."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import Budget, CascadeClassifier, GivenCost
from skearlyexit.costs import estimator_macs
from tests._cascades import COSTS, three
from tests._data import blobs, same

X, y, X_TEST, Y_TEST = blobs()


def test_given():
    clf = three(calibration=None).fit(X, y)
    assert clf.costs_.tolist() == [1 / 16, 5 / 16, 21 / 16]
    assert clf.cost_table_.plain == 16


@pytest.mark.parametrize("named", [{"bayes": 1, "logistic": 4, "tree": 16}, COSTS])
def test_given_with_decisions_and_a_unit(named):
    clf = three(cost=GivenCost(named, decision=0.5, unit="mJ"), calibration=None).fit(X, y)
    assert clf.costs_.tolist() == [1.5 / 16, 6 / 16, 22 / 16]
    assert clf.cost_table_.unit == "mJ"


def test_counted():
    estimators = [("logistic", LogisticRegression()), ("tree", DecisionTreeClassifier())]
    clf = CascadeClassifier(estimators, cost="macs", calibration=None, random_state=0).fit(X, y)
    first, last = map(estimator_macs, clf.estimators_)
    decision = clf.cost_table_.decision_costs[0]
    np.testing.assert_allclose(clf.costs_ * last, np.cumsum([first + decision, last]))


def test_measured():
    clf = three(cost="seconds").fit(X, y)
    assert clf.cost_table_.unit == "s"
    assert [each.how for each in clf.cost_table_.heads] == ["measured"] * 3
    assert np.all(np.diff(clf.costs_, prepend=0) > 0)
    slow = clf.cost_table_.plain * 1e3
    clf.predict(X_TEST, budget=Budget(slow * clf.costs_[-1] * 1.01, unit="ms"))


def test_learned_rules_do_not_depend_on_times():
    first, second = (
        three(cost="seconds", combine="cost_weighted", threshold=0.7).fit(X, y) for _ in range(2)
    )
    assert same(first.predict_proba(X_TEST), second.predict_proba(X_TEST))


@pytest.mark.parametrize("budget", [0.2, 0.5, 1.0])
def test_a_budget_is_kept(budget):
    clf = three(budget=budget).fit(X, y)
    assert clf.operating_point_.cost <= budget
    _, exits = clf.predict(X_TEST, return_exits=True)
    assert clf.costs_[exits].mean() < budget + 0.1


def test_a_strict_budget_is_kept_on_any_samples():
    clf = three(budget=Budget(0.4, strict=True)).fit(X, y)
    hard = X_TEST[np.argsort(clf.exit_table(X_TEST).scores[:, 0])]
    for rows in (hard[:40], hard[:7], hard):
        _, exits = clf.predict(rows, return_exits=True)
        assert clf.costs_[exits].mean() <= 0.4 + 1e-12


def test_a_budget_below_the_first_estimator():
    with pytest.raises(ValueError, match=r"at least the cost of the first exit.*0\.0625"):
        three(budget=0.01).fit(X, y)
    clf = three(threshold=0.5).fit(X, y)
    with pytest.raises(ValueError, match=r"at least the cost of the first exit.*0\.0625\.$"):
        clf.predict(X_TEST, budget=0.01)

import copy
from functools import cache

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from sklearn.base import clone

from skearlyexit import Budget, MLPBackbone
from skearlyexit.calibration._frontier import ROUNDING
from skearlyexit.calibration._strict_budget import StrictBudget
from skearlyexit.runtime._driver import run
from tests._data import blobs, quick

X, Y, X_NEW, Y_NEW = blobs()


@cache
def fitted(policy, combine):
    """Not to be changed."""
    clf = quick(
        backbone=MLPBackbone(4, width=32, hidden=32),
        exits=4,
        policy=policy,
        combine=combine,
        max_epochs=2,
        lr=0.01,
        budget=0.9,
    )
    return clf.fit(X, Y)


def samples(seed, kind, n_samples):
    """New samples, or some that are unlike those of the calibration."""
    rows = np.random.RandomState(seed).randint(len(X_NEW), size=n_samples)
    if kind == "one answer":
        rows = np.full(n_samples, rows[0])
    scale = {"far": 5.0, "near": 0.05}.get(kind, 1.0)
    return scale * X_NEW[rows], Y_NEW[rows]


def test_ties_that_move_a_later_threshold_to_infinity():
    clf = copy.copy(fitted("patience", None))
    table = clf.exit_table(X_NEW)
    agreed, answers = table.scores == 1, clf.classes_[table.labels]
    right = answers == answers[:, -1:]
    first = np.flatnonzero(agreed[:, 1] & right[:, 1])[:4]
    second = np.flatnonzero(~agreed[:, 1] & agreed[:, 2] & right[:, 2])[:4]
    never = np.flatnonzero(~agreed[:, 1] & ~agreed[:, 2] & ~right[:, 2])[:2]
    assert [len(first), len(second), len(never)] == [4, 4, 2]
    calibration = np.concatenate([first, second, never])
    budget = Budget(float(np.repeat(clf.costs_[1:], [4, 4, 2]).mean()), strict=True)
    searched = clone(budget).set_params(method="search")
    clf.calibrate(X_NEW[calibration], answers[calibration, -1], searched)
    assert clf.thresholds_.tolist() == [np.inf, 1.0, 1.0]
    # Now so many exit together at the second exit that none has to exit at the third.
    clf.partial_calibrate(X_NEW[np.concatenate([first, first, never])], window=10)
    assert clf.thresholds_.tolist() == [np.inf, 1.0, np.inf]
    for argument in (None, budget):
        _, exits = clf.predict(X_NEW[never], budget=argument, return_exits=True)
        assert clf.costs_[exits].mean() <= budget.value * ROUNDING


def test_a_report_of_a_data_frame():
    clf = quick(max_epochs=2, budget=0.9).fit(pd.DataFrame(X).add_prefix("x"), Y)
    budget = Budget(float(clf.costs_.mean()), strict=True)
    report = clf.exit_report(pd.DataFrame(X_NEW).add_prefix("x"), Y_NEW, budget=budget)
    assert report.overall.mean_cost <= budget.value * ROUNDING


@given(
    budget=st.floats(0.0, 1.0),
    shares=st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4).filter(sum),
    thresholds=st.lists(st.sampled_from([0.0, 0.5, 1.0, np.inf]), min_size=3, max_size=3),
    seed=st.integers(0, 1000),
)
def test_quota_holds_under_any_thresholds(budget, shares, thresholds, seed):
    costs = np.array([0.2, 0.5, 0.6, 1.0])
    budget = costs[0] + budget * (1 - costs[0])
    strict_budget = StrictBudget.of_shares(budget, costs, np.array(shares) / sum(shares))
    heads = strict_budget.heads_needed(np.append(np.array(thresholds) <= 1, True))
    rng = np.random.RandomState(seed)
    n_samples = n_here = rng.randint(1, 50)
    paid = 0.0
    for exit_ in range(3):
        if heads[exit_]:
            forced = strict_budget.n_leaving(exit_, n_here, budget * n_samples - paid)
            willing = rng.binomial(n_here, 0.2) if thresholds[exit_] <= 1 else 0
            n_here, paid = n_here - max(forced, willing), paid + max(forced, willing) * costs[exit_]
    assert (paid + n_here * costs[3]) / n_samples <= budget * ROUNDING


class StrictBudgets(RuleBasedStateMachine):
    """Calibrate, follow a drift and predict in any order: no batch exceeds a strict budget."""

    seeds, sizes = st.integers(0, 1000), st.integers(1, 60)
    kinds = st.sampled_from(["alike", "far", "near", "one answer"])
    shares = st.floats(0.0, 1.2)

    @initialize(
        policy=st.sampled_from(["patience", "confidence"]), combine=st.sampled_from([None, "mean"])
    )
    def fit(self, policy, combine):
        self.clf = copy.copy(fitted(policy, combine))

    def budget(self, share):
        least = self.clf.costs_[0]
        return Budget(float(least + share * (1 - least)), strict=True)

    @rule(
        share=shares,
        seed=seeds,
        kind=kinds,
        n_samples=st.integers(2, 60),
        method=st.sampled_from(["search", "geometric"]),
    )
    def calibrate(self, share, seed, kind, n_samples, method):
        budget = self.budget(share).set_params(method=method)
        self.clf.calibrate(*samples(seed, kind, n_samples), budget)

    @rule(seed=seeds, kind=kinds, n_samples=sizes, window=st.integers(1, 200))
    def follow(self, seed, kind, n_samples, window):
        self.clf.partial_calibrate(samples(seed, kind, n_samples)[0], window=window)

    @rule(share=shares, seed=seeds, kind=kinds, n_samples=sizes, slab=st.integers(1, 5))
    def predict(self, share, seed, kind, n_samples, slab):
        rows = samples(seed, kind, n_samples)[0]
        asked = [(self.budget(share), self.budget(share))]
        if self.clf.operating_point_.strict_budget is not None:
            asked.append((None, self.clf.operating_point_.request))
        for argument, kept in asked:
            _, exits = self.clf.predict(rows, budget=argument, return_exits=True)
            point = self.clf._point(None, argument)
            cascade = self.clf.cascade_
            by_slab = run(
                cascade,
                rows.astype("float32"),
                point.thresholds,
                strict_budget=point.strict_budget,
                slab_rows=16 * slab,
            ).exits
            for found in (exits, by_slab):
                assert self.clf.costs_[found].mean() <= kept.value * ROUNDING


StrictBudgets.TestCase.settings = settings(max_examples=15, stateful_step_count=10, deadline=None)
TestStrictBudgets = StrictBudgets.TestCase

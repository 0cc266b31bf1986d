"""Calibration samples drawn at random, and what thresholds do on them, sample by sample."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from skearlyexit._exit_table import ExitTable
from skearlyexit.calibration import CalibrationData


def simulated(seed, n_rows, n_exits, *, weighted=False, decimals=None):
    """Rows of some difficulty, heads that grow better, and scores that know how good they are."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(size=(n_rows, 1))
    skill = np.linspace(0.3, 2.0, n_exits)
    sure = 1 / (1 + np.exp(-2.0 * (skill - difficulty + 0.4 * rng.normal(size=(n_rows, n_exits)))))
    correct = rng.random((n_rows, n_exits)) < sure
    scores = np.clip(sure + 0.05 * rng.normal(size=sure.shape), 0.0, 1.0)
    if decimals is not None:
        scores = scores.round(decimals)
    costs = np.cumsum(rng.uniform(0.5, 1.5, size=n_exits))
    weight = rng.uniform(0.1, 3.0, size=n_rows) if weighted else np.ones(n_rows)
    return CalibrationData(scores, correct, costs * 1.05 / costs[-1], weight)


def without_ties(data):
    scores = np.random.default_rng(0).random(data.scores.shape)
    return replace(data, scores=scores)


@st.composite
def evidences(draw, max_exits=5):
    """Small ones with many ties, certainties and unequal weights."""
    n_rows, n_exits = draw(st.integers(1, 40)), draw(st.integers(2, max_exits))
    return simulated(
        draw(st.integers(0, 10**6)),
        n_rows,
        n_exits,
        weighted=draw(st.booleans()),
        decimals=draw(st.sampled_from([None, 1, 2])),
    )


def naive_exit(scores, thresholds):
    for exit_, threshold in enumerate(thresholds):
        if scores[exit_] >= threshold:
            return exit_
    return len(thresholds)


def naive_evaluate(data, thresholds):
    cost = right = 0.0
    for row, weight in enumerate(data.weight):
        exit_ = naive_exit(data.scores[row], thresholds)
        cost += weight * data.costs[exit_]
        right += weight * data.correct[row, exit_]
    return cost / data.weight.sum(), right / data.weight.sum()


def brute_force(data, thresholds):
    """Costs and accuracies of many thresholds, from the last exit back."""
    costs, accuracies = [], []
    weight = data.weight / data.weight.sum()
    for part in np.array_split(thresholds, max(1, len(thresholds) * len(weight) // 10**6)):
        cost = np.full((len(part), len(weight)), data.costs[-1])
        right = np.repeat(data.correct[None, :, -1], len(part), axis=0)
        for exit_ in reversed(range(part.shape[1])):
            leaves = data.scores[:, exit_] >= part[:, exit_, None]
            cost = np.where(leaves, data.costs[exit_], cost)
            right = np.where(leaves, data.correct[:, exit_], right)
        costs.append(cost @ weight)
        accuracies.append(right @ weight)
    return np.concatenate(costs), np.concatenate(accuracies)


def best_for(budgets, costs, accuracies):
    """Highest accuracy among the points of at most each cost."""
    order = np.argsort(costs, kind="stable")
    best = np.maximum.accumulate(np.asarray(accuracies)[order])
    return best[np.searchsorted(np.asarray(costs)[order], budgets, side="right") - 1]


def assert_same_frontier(found, costs, accuracies):
    """As accurate as the best of the points, at each budget that any of them costs."""
    budgets = np.unique(costs) + 1e-9
    np.testing.assert_allclose(
        best_for(budgets, *found), best_for(budgets, costs, accuracies), atol=1e-9, rtol=0
    )


def labeled(seed, n_rows=600, n_exits=3, n_classes=3, decimals=None):
    """CalibrationData with labels: heads that grow better, on rows of different difficulty."""
    rng = np.random.default_rng(seed)
    y = rng.choice(
        n_classes, size=n_rows, p=np.r_[0.6, np.full(n_classes - 1, 0.4 / (n_classes - 1))]
    )
    ease = rng.uniform(-0.3, 3.0, size=(n_rows, 1, 1))
    skill = np.linspace(0.8, 1.7, n_exits)[:, None]
    logits = 2 * skill * ease * np.eye(n_classes)[y][:, None]
    logits = logits + 1.2 * rng.normal(size=logits.shape)
    p = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    scores = p.max(axis=2) if decimals is None else p.max(axis=2).round(decimals)
    return CalibrationData.from_table(ExitTable(p, scores), y, np.linspace(0.35, 1.1, n_exits))

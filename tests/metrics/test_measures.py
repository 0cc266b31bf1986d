"""Measures from arrays, against loops, scikit-learn and numbers worked out by hand."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skearlyexit.metrics import (
    Speedup,
    cost_accuracy,
    cost_accuracy_auc,
    cost_at_drop,
    decision_auroc,
    expected_calibration_error,
    monotonicity,
    oracle,
    overthinking,
    reliability_curve,
    speedup,
)
from skearlyexit.metrics._measures import random_exits
from tests._data import blobs, quick
from tests._reports import cases

seeds = st.integers(0, 10**6)


def drawn(seed, max_rows=25, max_exits=4):
    """Whether exits are right, cumulative costs, and weights that are repetitions."""
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, max_rows + 1), rng.integers(1, max_exits + 1)
    weight = rng.integers(0, 4, shape[0])
    weight[0] += 1
    return rng.random(shape) < 0.6, np.cumsum(rng.uniform(0.1, 1, shape[1])), weight


# The curve


def best_at(costs, values, budget, below):
    kept = [value for cost, value in zip(costs, values, strict=True) if cost <= budget]
    return max(kept, default=below)


@given(seeds, st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_the_area_is_the_mean_over_many_budgets(seed, n_points):
    rng = np.random.default_rng(seed)
    costs, values = rng.uniform(0, 1, n_points), rng.uniform(0, 1, n_points)
    low, high = costs.min() * rng.choice([0.5, 1.0]), costs.min() + rng.uniform(0.01, 1)
    area = cost_accuracy_auc(costs, values, low=low, high=high, below=0.1)
    n_budgets = 4000
    budgets = low + (np.arange(n_budgets) + 0.5) / n_budgets * (high - low)
    expected = np.mean([best_at(costs, values, budget, 0.1) for budget in budgets])
    # Each step falls between two of the budgets.
    assert area == pytest.approx(expected, abs=(n_points + 1) / n_budgets)


def test_the_area_by_hand():
    costs, values = [1.0, 0.2, 0.6, 0.8], [1.0, 0.5, 0.9, 0.3]
    assert cost_accuracy_auc(costs, values) == pytest.approx(0.7)
    assert cost_accuracy_auc(costs, values, low=0.0) == pytest.approx(0.56)
    assert cost_accuracy_auc(costs, values, low=0.0, below=0.5) == pytest.approx(0.66)
    assert cost_accuracy_auc(costs, values, low=0.4, high=1.4) == pytest.approx(
        0.2 * 0.5 + 0.4 * 0.9 + 0.4 * 1.0
    )
    for budget, value in ((0.2, 0.5), (0.59, 0.5), (0.6, 0.9), (2.0, 1.0)):
        assert cost_accuracy_auc(costs, values, low=budget, high=budget) == value
    assert cost_accuracy_auc([0.5], [0.7]) == 0.7
    assert cost_accuracy_auc([0.5, 0.5], [0.7, 0.9]) == 0.9
    assert cost_accuracy_auc([0.5], [0.7], low=0.3, high=0.5) == 0


@pytest.mark.parametrize(
    ("args", "params", "message"),
    [
        (([], []), {}, "at least one point"),
        (([0.1, 0.2], [0.5]), {}, "same shape"),
        (([0.1], [np.nan]), {}, "must be finite"),
        (([-0.1], [0.5]), {}, "no cost negative"),
        (([0.5], [0.5]), {"low": 0.8, "high": 0.6}, "0 <= low <= high"),
        (([0.5], [0.5]), {"low": -0.1, "high": 0.6}, "0 <= low <= high"),
        (([0.5], [0.5]), {"below": np.nan}, "'below' finite"),
        (([0.5], [0.5]), {"low": 0.1, "high": 0.4}, "the cheapest point costs 0.5"),
    ],
)
def test_bad_areas(args, params, message):
    with pytest.raises(ValueError, match=message):
        cost_accuracy_auc(*args, **params)


@given(seeds, st.integers(1, 8))
@settings(max_examples=50, deadline=None)
def test_cost_at_drop_against_a_loop(seed, n_points):
    rng = np.random.default_rng(seed)
    costs, values = rng.uniform(0, 1, n_points), rng.uniform(0, 1, n_points).round(1)
    drops = np.array([[0.0, 0.1], [0.5, -0.2]])
    expected = [
        min((c for c, v in zip(costs, values, strict=True) if v > 0.6 - d - 1e-9), default=np.nan)
        for d in drops.ravel()
    ]
    found = cost_at_drop(costs, values, 0.6, drops)
    assert found == pytest.approx(np.reshape(expected, drops.shape), nan_ok=True)
    single = cost_at_drop(costs, values, 0.6, 0.1)
    assert isinstance(single, float)
    assert single == pytest.approx(expected[1], nan_ok=True)


def test_cost_at_drop_takes_what_is_equal_up_to_rounding():
    assert cost_at_drop([0.3, 1.0], [0.94, 0.95], reference=0.95, drop=0.01) == 0.3
    assert np.isnan(cost_at_drop([0.3], [0.9], reference=0.95))
    for bad in ({"reference": np.nan}, {"reference": 0.9, "drop": [0, np.inf]}):
        with pytest.raises(ValueError, match="must be finite"):
            cost_at_drop([0.3], [0.9], **bad)


# Overthinking


@given(seeds, st.booleans())
@settings(max_examples=60, deadline=None)
def test_overthinking_against_a_loop(seed, weighted):
    correct, costs, weight = drawn(seed)
    weight = weight if weighted else np.ones(len(correct))
    wasted, early, right, lost, errors = [], 0, 0, 0, 0
    for row, w in zip(correct, weight, strict=True):
        hits = np.flatnonzero(row)
        if len(hits):
            right += w
            wasted.append(w * (costs[-1] - costs[hits[0]]))
            early += w * (hits[0] < len(costs) - 1)
            lost += w * (not row[-1])
        errors += w * (not row[-1])
    found = overthinking(correct, costs, weight if weighted else None)
    total = weight.sum()
    expected_cost = sum(wasted) / right if right else np.nan
    assert found.wasteful_cost == pytest.approx(expected_cost, nan_ok=True)
    assert found.wasteful_share == pytest.approx(early / total)
    assert found.destructive_share == pytest.approx(lost / total)
    share = lost / errors if errors else np.nan
    assert found.destructive_share_of_errors == pytest.approx(share, nan_ok=True)
    assert found.kept.sum() + found.lost.sum() + found.never == pytest.approx(1)
    assert found.lost[-1] == 0
    assert found.kept.sum() == pytest.approx(np.average(correct[:, -1], weights=weight))
    cost, accuracy = oracle(correct, costs, weight)
    assert found.never == pytest.approx(1 - accuracy)
    left = (1 - found.never) * (costs[-1] - np.nan_to_num(found.wasteful_cost))
    assert cost == pytest.approx(left + found.never * costs[0])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (([True, False], [1.0]), "must be of shape"),
        (([[0, 2]], [0.5, 1.0]), "True or False"),
        (([[True, True]], [1.0]), "'costs' must hold 2"),
        (([[True, True]], [1.0, 0.5]), "must not decrease"),
        (([[True, True]], [0.5, 1.0], [0.0]), "positive weight|zero"),
        (([[True, True]], [0.5, 1.0], [-1.0]), "Negative"),
        (([[True, True]], [0.5, 1.0], [1.0, 1.0]), r"sample_weight\.shape"),
    ],
)
def test_bad_overthinking(args, message):
    with pytest.raises(ValueError, match=message):
        overthinking(*args)


# Monotonicity


@given(seeds, st.booleans())
@settings(max_examples=50, deadline=None)
def test_monotonicity_against_a_loop(seed, weighted):
    correct, _, weight = drawn(seed)
    probability = np.random.default_rng(seed).random(correct.shape)
    weight = weight if weighted else np.ones(len(weight))
    for tolerance in (0.0, 0.3):
        falls = [
            any(row[i] - later > tolerance for i in range(len(row)) for later in row[i:])
            for row in probability
        ]
        share = monotonicity(probability, tolerance, weight if weighted else None)
        assert isinstance(share, float)
        assert share == pytest.approx(np.average(falls, weights=weight))
    assert monotonicity(probability).shape == (5,)
    assert (np.diff(monotonicity(probability)) <= 0).all()
    assert not monotonicity(np.sort(probability, axis=1)).any()
    # The very fall is not more than the fall.
    assert monotonicity([[0.75, 0.25]], [0.25, 0.5]).tolist() == [1, 0]


def test_bad_monotonicity():
    for probability, tolerance, message in (
        ([0.1, 0.2], 0.1, "must be of shape"),
        ([[0.1, 1.2]], 0.1, r"must be in \[0, 1\]"),
        ([[0.1, np.nan]], 0.1, "must be finite"),
        ([[0.1, 0.2]], -0.1, "must not be negative"),
    ):
        with pytest.raises(ValueError, match=message):
            monotonicity(probability, tolerance)


# Decisions


@given(seeds, st.booleans())
@settings(max_examples=50, deadline=None)
def test_decisions_are_what_scikit_learn_says(seed, weighted):
    correct, _, weight = drawn(seed)
    scores = np.random.default_rng(seed).random(correct.shape).round(1)
    used = weight > 0 if weighted else np.ones(len(weight), dtype=bool)
    found = decision_auroc(scores, correct, weight if weighted else None)
    for exit_ in range(correct.shape[1]):
        right = correct[:, exit_]
        stop = np.array([row[exit_] or not row[exit_ + 1 :].any() for row in correct])
        for values, truth in zip(found, (right, stop), strict=True):
            if len(set(truth[used])) < 2:
                assert np.isnan(values[exit_])
                continue
            options = {"sample_weight": weight[used]} if weighted else {}
            expected = roc_auc_score(truth[used], scores[used, exit_], **options)
            assert values[exit_] == pytest.approx(expected)
    assert np.isnan(found[1][-1])


def test_bad_decisions():
    with pytest.raises(ValueError, match="same shape"):
        decision_auroc(np.zeros((2, 3)), np.ones((2, 2), dtype=bool))
    with pytest.raises(ValueError, match="'scores' must be finite"):
        decision_auroc([[np.nan]], [[True]])


# Reliability


def probabilities_of(seed, n_rows, n_exits=3, n_classes=2):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(n_classes), (n_rows, n_exits)), rng.integers(0, n_classes, n_rows)


@given(seeds, st.integers(1, 12), st.sampled_from(["uniform", "quantile"]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_reliability_against_a_loop(seed, n_bins, strategy, weighted):
    probabilities, y = probabilities_of(seed, n_rows=30, n_classes=3)
    probabilities[0] = np.eye(3)[0]
    weight = np.random.default_rng(seed).integers(0, 3, len(y))
    weight[0] = 1
    curve = reliability_curve(
        probabilities, y, n_bins, strategy=strategy, weight=weight if weighted else None
    )
    weight = weight if weighted else np.ones(len(y))
    assert curve.confidence.shape == curve.accuracy.shape == curve.share.shape == (3, n_bins)
    assert curve.share.sum(axis=1) == pytest.approx(1)
    for exit_ in range(3):
        sure = probabilities[:, exit_].max(axis=1)
        right = probabilities[:, exit_].argmax(axis=1) == y
        error = 0.0
        for k in range(n_bins):
            low, high = curve.edges[exit_, k : k + 2]
            rows = (sure <= high) & ((sure > low) | (k == 0)) & (weight > 0)
            if strategy == "uniform":
                assert (low, high) == pytest.approx((k / n_bins, (k + 1) / n_bins))
            assert curve.share[exit_, k] == pytest.approx(weight[rows].sum() / weight.sum())
            if not rows.any():
                assert np.isnan(curve.accuracy[exit_, k])
                assert np.isnan(curve.confidence[exit_, k])
                continue
            found = curve.accuracy[exit_, k], curve.confidence[exit_, k]
            expected = [np.average(v[rows], weights=weight[rows]) for v in (right, sure)]
            assert found == pytest.approx(expected)
            error += weight[rows].sum() / weight.sum() * abs(expected[0] - expected[1])
        assert curve.error[exit_] == pytest.approx(error)
    options = {"strategy": strategy, "weight": weight}
    found = expected_calibration_error(probabilities, y, n_bins, **options)
    assert found == pytest.approx(curve.error)


def test_reliability_is_the_curve_of_scikit_learn():
    probabilities, y = probabilities_of(0, n_rows=500)
    curve = reliability_curve(probabilities, y, n_bins=10)
    for exit_ in range(3):
        right = probabilities[:, exit_].argmax(axis=1) == y
        sure = probabilities[:, exit_].max(axis=1)
        held = curve.share[exit_] > 0
        expected = calibration_curve(right, sure, n_bins=10)
        assert curve.accuracy[exit_, held] == pytest.approx(expected[0])
        assert curve.confidence[exit_, held] == pytest.approx(expected[1])


def test_quantile_bins_hold_equal_shares():
    probabilities, y = probabilities_of(1, n_rows=400, n_classes=5)
    curve = reliability_curve(probabilities, y, n_bins=8, strategy="quantile")
    assert curve.share == pytest.approx(1 / 8)
    # Heads that give labels only are all alike: one bin holds them.
    labels = np.eye(5)[np.zeros((10, 2), dtype=int)]
    curve = reliability_curve(labels, np.arange(10) % 2, n_bins=8, strategy="quantile")
    assert (curve.share.max(axis=1) == 1).all()
    assert curve.error == pytest.approx(0.5)


def test_weights_are_repetitions_in_reliability():
    probabilities, y = probabilities_of(2, n_rows=40, n_classes=3)
    weight = np.random.default_rng(0).integers(0, 4, 40)
    again = np.repeat(np.arange(40), weight)
    for strategy in ("uniform", "quantile"):
        weighted = reliability_curve(probabilities, y, 7, strategy=strategy, weight=weight)
        repeated = reliability_curve(probabilities[again], y[again], 7, strategy=strategy)
        assert weighted.edges == pytest.approx(repeated.edges)
        assert weighted.accuracy == pytest.approx(repeated.accuracy, nan_ok=True)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"probabilities": np.full((4, 2), 0.5)}, "For one classifier give"),
        ({"probabilities": np.full((4, 2, 2), 1.5)}, r"must be in \[0, 1\]"),
        ({"probabilities": np.full((4, 2, 2), np.nan)}, r"must be in \[0, 1\]"),
        ({"y_index": [0, 1, 0]}, "must hold 4 integers"),
        ({"y_index": ["a", "b", "a", "b"]}, "np.searchsorted"),
        ({"y_index": [0, 1, 2, 0]}, "must lie between 0 and 1"),
        ({"n_bins": 0}, "'n_bins' must be an integer"),
        ({"n_bins": 2.5}, "'n_bins' must be an integer"),
        ({"strategy": "equal"}, "'strategy' must be one of"),
        ({"weight": [0, 0, 0, 0]}, "positive weight|zero"),
    ],
)
def test_bad_reliability(changed, message):
    given_ = {"probabilities": np.full((4, 2, 2), 0.5), "y_index": [0, 1, 0, 1], **changed}
    with pytest.raises(ValueError, match=message):
        reliability_curve(**given_)


# By the clock


class Recorded:
    """Notes what predict is asked, and passes it on."""

    def __init__(self, classifier):
        self.classifier, self.asked = classifier, []

    def __getattr__(self, name):
        return getattr(self.classifier, name)

    def fit(self, X, y):
        raise AssertionError("nothing is fitted here")

    def __sklearn_is_fitted__(self):
        return True

    def predict(self, X, threshold=None, budget=None):
        self.asked.append((threshold, budget, len(X)))
        return self.classifier.predict(X, threshold=threshold, budget=budget)


def test_speedup_asks_in_turns():
    X, y, X_test, _ = blobs()
    recorded = Recorded(quick().fit(X, y))
    found = speedup(recorded, X_test, budget=0.8, n_repeats=3)
    early, plain = (None, 0.8, len(X_test)), (np.inf, None, len(X_test))
    assert recorded.asked == [early, plain, early, plain, plain, early, early, plain]
    assert found.times.shape == found.plain_times.shape == (3,)
    assert (found.times > 0).all()
    pipeline = make_pipeline(StandardScaler(), quick(calibration=None)).fit(X, y)
    assert speedup(pipeline, X_test, threshold=0.5, n_repeats=1).ratio > 0


def test_speedup_by_hand():
    found = Speedup(np.array([1.0, 2.0, 1.0]), np.array([2.0, 2.0, 4.0]))
    assert (found.seconds, found.plain_seconds, found.ratio) == (1.0, 2.0, 2.0)
    assert found.ratio_range == (1.0, 4.0)
    assert str(found).startswith("2.00 times as fast as without early exits, 1.00 to 4.00 in 3")


def test_bad_speedups():
    X, y, X_test, _ = blobs()
    clf = quick(calibration=None).fit(X, y)
    with pytest.raises(ValueError, match="'n_repeats' must be"):
        speedup(clf, X_test, n_repeats=0)
    with pytest.raises(ValueError, match="needs calibration samples"):
        speedup(clf, X_test, budget=0.5)
    with pytest.raises(TypeError, match="must be an estimator with exits"):
        speedup(LogisticRegression().fit(X, y), X_test)


def slow_cost_accuracy(correct, scores, costs, thresholds, weight):
    cost = right = 0.0
    for row in range(len(correct)):
        exit_ = 0
        while exit_ < len(thresholds) and not scores[row, exit_] >= thresholds[exit_]:
            exit_ += 1
        cost += weight[row] * costs[exit_]
        right += weight[row] * correct[row, exit_]
    return cost / sum(weight), right / sum(weight)


@given(cases())
@settings(max_examples=60, deadline=None)
def test_cost_accuracy_against_a_slow_loop(case):
    table, y, costs, thresholds, weight = case
    correct = table.labels == y[:, None]
    points = np.stack([thresholds, np.zeros_like(thresholds), np.full_like(thresholds, 0.5)])
    found = cost_accuracy(correct, table.scores, costs, points, weight)
    for i, point in enumerate(points):
        expected = slow_cost_accuracy(correct, table.scores, costs, point, weight)
        assert (found[0][i], found[1][i]) == pytest.approx(expected)


@given(cases(max_rows=4, max_exits=3), st.booleans())
@settings(max_examples=40, deadline=None)
def test_no_policy_passes_the_oracle(case, weighted):
    table, y, costs, _, weight = case
    weight = weight if weighted else None
    correct = table.labels == y[:, None]
    cost, accuracy = oracle(correct, costs, weight)
    for exits in product(range(table.n_exits), repeat=len(y)):
        right = np.average(correct[np.arange(len(y)), exits], weights=weight)
        assert right <= accuracy + 1e-12
        if right > accuracy - 1e-12:
            assert np.average(costs[list(exits)], weights=weight) >= cost - 1e-12


@given(cases(max_rows=5))
@settings(max_examples=40, deadline=None)
def test_random_exits_are_the_mean_of_all_orders(case):
    table, y, costs, thresholds, _ = case
    correct = table.labels == y[:, None]
    exits = table.exits(thresholds)
    orders = np.array(list(permutations(exits)))
    cost, accuracy = random_exits(correct, exits, costs)
    assert cost == pytest.approx(costs[exits].mean())
    assert accuracy == pytest.approx(correct[np.arange(len(y)), orders].mean())


@given(cases())
@settings(max_examples=60, deadline=None)
def test_weights_are_repetitions_in_the_measures(case):
    table, y, costs, thresholds, weight = case
    again = np.repeat(np.arange(len(y)), weight)
    correct, exits = table.labels == y[:, None], table.exits(thresholds)
    for weighted, repeated in (
        (oracle(correct, costs, weight), oracle(correct[again], costs)),
        (
            random_exits(correct, exits, costs, weight),
            random_exits(correct[again], exits[again], costs),
        ),
        (
            cost_accuracy(correct, table.scores, costs, thresholds[None], weight),
            cost_accuracy(correct[again], table.scores[again], costs, thresholds[None]),
        ),
    ):
        assert np.ravel(weighted) == pytest.approx(np.ravel(repeated))

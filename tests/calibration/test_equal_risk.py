"""The frontier of thresholds with the same estimated risk at all exits."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skearlyexit import AccuracyDrop, Budget, ErrorRise, TargetAccuracy
from skearlyexit.calibration import CalibrationData, compute_frontier
from skearlyexit.calibration._calibration_data import ErrorScale
from skearlyexit.calibration._equal_risk import increasing
from skearlyexit.calibration._search import search_frontier
from tests._calibration_data import evidences, naive_evaluate, simulated
from tests._data import same


@settings(deadline=None, max_examples=30)
@given(evidences())
def test_points_increase_and_costs_are_those_of_the_samples(data):
    frontier = compute_frontier(data)
    assert np.all(np.diff(frontier.costs) > 0)
    assert np.all(np.diff(frontier.accuracies) > 0)
    assert np.all(frontier.thresholds[1:] >= frontier.thresholds[:-1])
    found = [naive_evaluate(data, row) for row in frontier.thresholds]
    np.testing.assert_allclose([cost for cost, _ in found], frontier.costs)
    for row, shares in zip(frontier.thresholds, frontier.shares, strict=True):
        np.testing.assert_array_equal(data.shares(row), shares)


@settings(deadline=None, max_examples=30)
@given(evidences())
def test_from_the_first_exit_to_the_accuracy_of_the_last(data):
    frontier = compute_frontier(data)
    assert frontier.costs[0] == pytest.approx(data.costs[0])
    last = np.average(data.correct[:, -1], weights=data.weight)
    assert frontier.accuracies[-1] >= last - 1e-12


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_increasing(values):
    values = np.array(values)
    found = increasing(values)
    assert np.all(np.diff(found) >= 0)
    for i, value in enumerate(found):
        assert value == pytest.approx((values[: i + 1].max() + values[i:].min()) / 2)
    assert np.array_equal(increasing(np.sort(values)), np.sort(values))


def test_the_same_confidence_means_another_risk_at_another_exit():
    rng = np.random.default_rng(0)
    sure = rng.random((4000, 3))
    correct = rng.random((4000, 3)) < np.stack([sure[:, 0] ** 3, sure[:, 1] ** 0.3, sure[:, 2]], 1)
    correct[:, 2] = True
    data = simulated(0, 4000, 3)
    data = type(data)(sure, correct, data.costs, data.weight)
    thresholds = compute_frontier(data).thresholds
    some = thresholds[np.all((thresholds > 0.2) & (thresholds < 0.98), axis=1)]
    assert len(some) > 10
    assert np.all(some[:, 0] > some[:, 1])
    # Of the samples near the thresholds, about as many are wrong at both exits.
    for row in some[:: len(some) // 5]:
        near = [np.abs(sure[:, i] - row[i]) < 0.05 for i in range(2)]
        risks = [1 - correct[near[i], i].mean() for i in range(2)]
        assert risks[0] == pytest.approx(risks[1], abs=0.15)


def halves(seed):
    data = simulated(seed, 10_400, 4)
    return data.take(np.arange(400)), data.take(np.arange(400, 10_400))


def test_on_new_samples_it_loses_less_than_a_search():
    lost = {"frontier": [], "search": []}
    for seed in range(12):
        known, new = halves(seed)
        last = new.correct[:, -1].mean()
        frontier = compute_frontier(known)
        for method, values in lost.items():
            thresholds = AccuracyDrop(0.005, method=method).thresholds(known, frontier)
            values.append(last - new.evaluate(thresholds)[1])
    assert np.mean(lost["frontier"]) < 0.6 * np.mean(lost["search"])


@settings(deadline=None, max_examples=40)
@given(evidences(), st.floats(0, 0.3))
def test_points_hold_on_the_calibration_samples(data, drop):
    frontier = compute_frontier(data)
    last = np.average(data.correct[:, -1], weights=data.weight)
    chosen = AccuracyDrop(drop).thresholds(data, frontier)
    assert naive_evaluate(data, chosen)[1] >= last - drop - 1e-9
    budget = data.costs[0] + drop * (data.costs[-1] - data.costs[0])
    assert naive_evaluate(data, Budget(budget).thresholds(data, frontier))[0] <= budget + 1e-9


@settings(deadline=None, max_examples=40)
@given(evidences(), st.floats(0, 1))
def test_a_target_is_met_or_the_error_says_what_can_be(data, target):
    frontier = compute_frontier(data)
    try:
        chosen = TargetAccuracy(target).thresholds(data, frontier)
    except ValueError as error:
        best = float(str(error).split("reach is ")[1].split(",")[0])
        assert best <= target
        chosen = TargetAccuracy(best - 1e-4).thresholds(data, frontier)
        target = best - 1e-4
    assert naive_evaluate(data, chosen)[1] >= target - 1e-9


def test_method():
    data = simulated(0, 200, 3)
    assert len(compute_frontier(data, method="search")) != len(compute_frontier(data))
    with pytest.raises(ValueError, match=r"'method' must be one of .*; got 'fast'"):
        compute_frontier(data, method="fast")
    losses = replace(data, losses=1.0 - data.correct, correct=None)
    assert same(compute_frontier(losses).thresholds, search_frontier(data).thresholds)
    with pytest.raises(ValueError, match="'search' or 'auto' with a router, and in"):
        compute_frontier(losses, method="risk")


def test_a_reason_is_given_where_no_sample_exits_early():
    data = simulated(0, 200, 3)
    never = replace(data, correct=np.tile([False, False, True], (200, 1)))
    point = AccuracyDrop(0.01).calibrate(never, compute_frontier(never))
    assert np.isinf(point.thresholds).all()
    assert point.reason.startswith("No sample exits early: on the 200 calibration samples")
    assert "AccuracyDrop(value=0.01)" in point.reason
    assert not AccuracyDrop(0.5).calibrate(data, compute_frontier(data)).reason


def of_regression(seed, n_samples, n_targets=1):
    """Values of three exits, whose errors are known up to noise by the scores."""
    rng = np.random.default_rng(seed)
    sure = rng.random((n_samples, 3))
    size = np.array([1.0, 0.5, 0.0]) * (1 - sure)
    last = rng.normal(size=(n_samples, 1, n_targets))
    values = last + size[..., None] * rng.normal(size=(n_samples, 3, n_targets))
    y = last[:, 0] + rng.normal(size=(n_samples, n_targets))
    losses = np.square(values - y[:, None]).mean(axis=2)
    return CalibrationData(
        np.clip(sure + 0.1 * rng.normal(size=sure.shape), 0, 1),
        None,
        np.array([0.2, 0.5, 1.0]),
        np.ones(n_samples),
        labels=values,
        y=y,
        losses=losses / y.var(),
        error_scale=ErrorScale(True, float(y.std())),
    )


def test_in_regression_the_error_rises_less_on_new_samples_than_by_a_search():
    rises = {"auto": [], "search": []}
    for seed in range(20):
        known, new = of_regression(seed, 200), of_regression(1000 + seed, 5000)
        at_end = np.sqrt(new.losses[:, -1].mean())
        for method, found in rises.items():
            frontier = compute_frontier(known, method=method)
            thresholds = ErrorRise(0.02).thresholds(known, frontier)
            found.append(np.sqrt(1 - new.evaluate(thresholds)[1]) / at_end - 1)
    assert np.mean(rises["auto"]) < 0.02
    assert np.mean(rises["auto"]) < 0.7 * np.mean(rises["search"])


def test_in_regression_all_targets_count_alike_whatever_their_unit():
    data = of_regression(0, 400, n_targets=2)
    other = replace(data, labels=data.labels * [1.0, 2.0**10])
    assert same(compute_frontier(data).thresholds, compute_frontier(other).thresholds)
    # A target that all exits predict alike changes little.
    alone = replace(data, labels=data.labels[..., :1])
    constant = replace(data, labels=data.labels * [1.0, 0.0])
    found = [Budget(0.6).thresholds(each, compute_frontier(each)) for each in (alone, constant)]
    assert ((found[0] > 0.1) & (found[0] < 1)).all()
    np.testing.assert_allclose(found[1], found[0], atol=0.05)


@pytest.mark.parametrize("n_exits", [1, 3])
def test_in_regression_exits_may_all_be_equal(n_exits):
    data = of_regression(0, 50)
    data = replace(
        data,
        scores=data.scores[:, :n_exits],
        costs=data.costs[-n_exits:],
        labels=np.repeat(data.labels[:, -1:], n_exits, axis=1),
        losses=np.repeat(data.losses[:, -1:], n_exits, axis=1),
    )
    frontier = compute_frontier(data)
    assert frontier.costs[0] == pytest.approx(data.costs[0])
    cost, _ = data.evaluate(ErrorRise(0.0).thresholds(data, frontier))
    assert cost == pytest.approx(data.costs[0])

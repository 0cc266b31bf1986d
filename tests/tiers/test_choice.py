"""The best assignment and thresholds, against a search by brute force."""

from copy import deepcopy
from functools import cache, partial
from itertools import product

import numpy as np
import pytest
from sklearn.metrics import get_scorer

from skearlyexit import (
    AccuracyDrop,
    Budget,
    EarlyExitRegressor,
    ErrorRise,
    Link,
    MLPBackbone,
    RiskControl,
    Threshold,
)
from skearlyexit.calibration import NotCertifiedError
from skearlyexit.tiers import ModelParts, Tier, TierPlan, choose_plan
from tests.tiers._models import X_TEST, Y_TEST, X, network

TIERS = [
    Tier("device", rate=1e5, power=2.0),
    Tier("edge", rate=1e6, power=5.0, price=1.0),
    Tier("cloud", rate=1e8, price=9.0),
]
LINKS = [Link(bandwidth=2e4, latency=0.004, energy=1e-5), Link(bandwidth=1e4, latency=0.02)]
MEASURES = {"latency": "latency", "bytes": "n_bytes", "energy": "energy", "price": "price"}


@cache
def exits_of_a_grid():
    """Exits for those thresholds of a grid under which at most 2 % of the samples become wrong."""
    table, rows = network().exit_table(X_TEST), np.arange(len(X_TEST))
    correct = table.labels == np.searchsorted(network().classes_, Y_TEST)[:, None]
    grid = product([*np.linspace(0.25, 1.0, 16), np.inf], repeat=2)
    found = [table.exits(thresholds) for thresholds in grid]
    least = correct[:, -1].mean() - 0.02 - 1e-12
    return [exits for exits in found if correct[rows, exits].mean() >= least]


def last_accuracy():
    *_, last = network().staged_predict(X_TEST)
    return (last == Y_TEST).mean()


@pytest.mark.parametrize("minimize", MEASURES)
def test_no_plan_and_thresholds_of_a_grid_are_better(minimize):
    choice = choose_plan(
        TIERS,
        LINKS,
        network(),
        X_TEST,
        Y_TEST,
        minimize=minimize,
        operating_point=AccuracyDrop(0.02),
    )
    assert len(choice.ranking) == 10  # 3 exits in order on 3 tiers
    parts, best = ModelParts.of(network(), X_TEST), np.inf
    for assignment in [[i, j, k] for i, j, k in product(range(3), repeat=3) if i <= j <= k]:
        plan = TierPlan(TIERS, LINKS, assignment)
        for exits in exits_of_a_grid():
            report = plan.report_of_exits(parts, exits)
            best = min(best, getattr(report, MEASURES[minimize]))
    assert choice.value <= best + 1e-12


@pytest.mark.parametrize("minimize", MEASURES)
def test_the_report_of_the_choice_says_the_same(minimize):
    choice = choose_plan(TIERS, LINKS, network(), X_TEST, Y_TEST, minimize=minimize)
    for ranked in choice.ranking:
        report = ranked.plan.report(network(), X_TEST, Y_TEST, threshold=ranked.thresholds)
        assert getattr(report, MEASURES[minimize]) == pytest.approx(ranked.value)
        assert last_accuracy() - report.accuracy == pytest.approx(ranked.drop)
        assert ranked.drop <= 0.01 + 1e-12
    assert choice.value == min(ranked.value for ranked in choice.ranking)
    assert (choice.plan, choice.drop) == (choice.ranking[0].plan, choice.ranking[0].drop)


def test_thresholds_go_by_the_links():
    """If the last exit is behind a slow link, samples exit before it that else would go on."""
    far = choose_plan(
        TIERS[::2],
        [Link(latency=9.0)],
        network(),
        X_TEST,
        Y_TEST,
        operating_point=AccuracyDrop(0.02),
    )
    assert far.plan.assignment == ["device"] * 3
    split = next(
        each for each in far.ranking if each.plan.assignment == ["device", "device", "cloud"]
    )
    own = network().frontier_.thresholds
    table = network().exit_table(X_TEST)
    correct = table.labels == np.searchsorted(network().classes_, Y_TEST)[:, None]
    rows = np.arange(len(table))
    behind = [
        (table.exits(each) == 2).mean()
        for each in own
        if correct[rows, table.exits(each)].mean() >= last_accuracy() - 0.02
    ]
    assert (table.exits(split.thresholds) == 2).mean() <= min(behind)


def test_more_may_be_lost_for_less():
    values = [
        choose_plan(
            TIERS, LINKS, network(), X_TEST, Y_TEST, operating_point=AccuracyDrop(drop)
        ).value
        for drop in (0.0, 0.01, 0.05, 1.0)
    ]
    assert values == sorted(values, reverse=True)
    assert values[0] > values[-1]


def test_text():
    choice = choose_plan(TIERS, LINKS, network(), X_TEST, Y_TEST, minimize="bytes")
    lines = str(choice).splitlines()
    assert lines[0] == "lowest mean bytes for AccuracyDrop(value=0.01)"
    assert lines[2].startswith("device, device, device")
    assert lines[2].split()[3] == "0"
    assert len(lines) == 12
    assert str(choice) == repr(choice)


def test_what_cannot_be_minimized():
    with pytest.raises(ValueError, match=r"'minimize' must be one of .* Got 'time'"):
        choose_plan(TIERS, LINKS, network(), X_TEST, Y_TEST, minimize="time")


def test_what_is_zero_cannot_be_minimized():
    free = [Tier("device", rate=1e5), Tier("cloud", rate=1e8)]
    with pytest.raises(ValueError, match="minimize='price' is 0 for all assignments"):
        choose_plan(free, [Link()], network(), X_TEST, Y_TEST, minimize="price")


def test_a_single_exit_has_no_thresholds():
    clf = deepcopy(network()).set_params(exits=1, operating_point=None, calibration=None)
    clf.fit(X, (X[:, 0] > 0).astype(int))
    point = RiskControl(0.2)
    found = choose_plan(TIERS, LINKS, clf, X_TEST, X_TEST[:, 0] > 0, operating_point=point)
    assert found.thresholds.shape == (0,)
    assert len(found.plan.assignment) == 1


def test_thresholds_with_a_guarantee_are_those_of_the_calibration():
    point = RiskControl(0.1, confidence_level=0.8)
    choice = choose_plan(TIERS, LINKS, network(), X_TEST, Y_TEST, operating_point=point)
    expected = deepcopy(network()).calibrate(X_TEST, Y_TEST, point).thresholds_
    for ranked in choice.ranking:
        np.testing.assert_array_equal(ranked.thresholds, expected)
    assert "RiskControl(target_level=0.1, confidence_level=0.8)" in str(choice)


def test_a_guarantee_for_groups_depends_on_their_number():
    point = RiskControl(0.1, confidence_level=0.8)
    for n_groups in (5, 100):
        groups = np.arange(len(X_TEST)) % n_groups
        choose = partial(choose_plan, operating_point=point, groups=groups)
        if n_groups == 5:
            with pytest.raises(NotCertifiedError, match="5 groups of calibration samples"):
                choose(TIERS, LINKS, network(), X_TEST, Y_TEST)
        else:
            choice = choose(TIERS, LINKS, network(), X_TEST, Y_TEST)
            model = deepcopy(network()).calibrate(X_TEST, Y_TEST, point, groups=groups)
            np.testing.assert_array_equal(choice.thresholds, model.thresholds_)


def test_fixed_thresholds_leave_the_assignment():
    choice = choose_plan(
        TIERS, LINKS, network(), X_TEST, Y_TEST, operating_point=Threshold([0.6, 0.9])
    )
    reports = [
        each.plan.report(network(), X_TEST, Y_TEST, threshold=[0.6, 0.9]).latency
        for each in choice.ranking
    ]
    assert choice.value == pytest.approx(min(reports))


@pytest.mark.parametrize("metric", ["balanced_accuracy", "neg_log_loss"])
def test_other_metrics(metric):
    point, rows, truth = AccuracyDrop(0.02, metric=metric), X_TEST[:150], Y_TEST[:150]
    choice = choose_plan(TIERS[:2], LINKS[:1], network(), rows, truth, operating_point=point)
    score = get_scorer(metric)
    model = deepcopy(network())
    model.thresholds_ = choice.thresholds
    end = deepcopy(network())
    end.thresholds_ = np.full(2, np.inf)
    assert score(model, rows, truth) >= score(end, rows, truth) - 0.02 - 1e-9


def test_regression_limits_the_rise_of_the_error():
    target, truth = X[:, 0] * 3.0 + X[:, 1], X_TEST[:, 0] * 3.0 + X_TEST[:, 1]
    reg = EarlyExitRegressor(
        MLPBackbone(3, width=16, hidden=16),
        exits=3,
        max_epochs=3,
        policy="change",
        calibration=None,
        random_state=0,
    ).fit(X, target)
    choice = choose_plan(TIERS, LINKS, reg, X_TEST, truth)
    assert choice.operating_point.description == "ErrorRise(value=0.01)"
    errors = [
        np.sqrt(((reg.predict(X_TEST, threshold=each) - truth) ** 2).mean())
        for each in (choice.thresholds, np.inf)
    ]
    assert errors[0] <= errors[1] * 1.01 + 1e-12


def test_operating_points_that_do_not_apply():
    for budget in (Budget(0.5), Budget(9000, unit="MACs")):
        with pytest.raises(ValueError, match="limits the cost of the network"):
            choose_plan(TIERS, LINKS, network(), X_TEST, Y_TEST, operating_point=budget)
    with pytest.raises(ValueError, match="there is no error of a value"):
        choose_plan(TIERS, LINKS, network(), X_TEST, Y_TEST, operating_point=ErrorRise(0.01))
    with pytest.raises(TypeError, match=r"an object such as AccuracyDrop\(0\.01\)\. Got 0\.02"):
        choose_plan(TIERS, LINKS, network(), X_TEST, Y_TEST, operating_point=0.02)

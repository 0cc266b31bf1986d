"""The report of a fitted classifier: its numbers are those of predict."""

from operator import attrgetter

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score

from skearlyexit import Budget, MACsCost, RiskControl
from tests._data import blobs, quick, same

X, y, X_TEST, Y_TEST = blobs()
WORDS = np.array(["ant", "bee", "cow", "dog"])


@pytest.fixture(scope="module")
def clf():
    return quick(operating_point=RiskControl(0.12)).fit(X, WORDS[y])


POINTS = [{}, {"budget": 0.7}, {"threshold": 0.4}, {"threshold": [0.35, 0.5]}]


@pytest.mark.parametrize("asked", POINTS)
@pytest.mark.parametrize("weighted", [False, True])
def test_it_tells_what_predict_does(clf, asked, weighted):
    truth = WORDS[Y_TEST]
    weight = np.random.default_rng(0).integers(0, 3, len(truth)) if weighted else None
    report = clf.exit_report(X_TEST, truth, sample_weight=weight, **asked)
    labels, exits = clf.predict(X_TEST, return_exits=True, **asked)
    last = clf.predict(X_TEST, threshold=np.inf)
    assert len(np.unique(exits)) > 1
    assert report.overall.accuracy == pytest.approx(clf.score(X_TEST, truth, weight, **asked))
    last_score = accuracy_score(truth, last, sample_weight=weight)
    assert report.overall.last_accuracy == pytest.approx(last_score)
    assert report.overall.drop == pytest.approx(last_score - report.overall.accuracy)
    assert report.overall.mean_cost == pytest.approx(np.average(clf.costs_[exits], weights=weight))
    for i, staged in enumerate(clf.staged_predict(X_TEST)):
        alone = accuracy_score(truth, staged, sample_weight=weight)
        assert report.exits.accuracy_alone[i] == pytest.approx(alone)
        assert report.exits.exit_rate[i] == pytest.approx(np.average(exits == i, weights=weight))
        assert report.exits.reach_rate[i] == pytest.approx(np.average(exits >= i, weights=weight))
        here = exits == i
        if not here.any():
            assert np.isnan(report.exits.accuracy_exiting[i])
            continue
        part = None if weight is None else weight[here]
        leaving = accuracy_score(truth[here], labels[here], sample_weight=part)
        assert report.exits.accuracy_exiting[i] == pytest.approx(leaving)
    for k, word in enumerate(WORDS):
        rows = truth == word
        part = None if weight is None else weight[rows]
        right = accuracy_score(truth[rows], labels[rows], sample_weight=part)
        assert report.classes.accuracy[k] == pytest.approx(right)
        cost = np.average(clf.costs_[exits[rows]], weights=part)
        assert report.classes.mean_cost[k] == pytest.approx(cost)
    assert same(report.classes.labels, clf.classes_)
    assert report.exits.names == clf.exit_names_


def test_it_tells_the_operating_point(clf):
    report = clf.exit_report(X_TEST, WORDS[Y_TEST])
    assert report.request == "RiskControl(target_level=0.12, confidence_level=0.9)"
    assert report.certified is True
    assert report.reason == clf.operating_point_.reason
    assert same(report.exits.thresholds, clf.thresholds_)
    assert "asked for: RiskControl(target_level=0.12, confidence_level=0.9), certified" in str(
        report
    )


def test_the_argument_is_another_operating_point(clf):
    by_budget = clf.exit_report(X_TEST, WORDS[Y_TEST], budget=0.7)
    assert by_budget.request == "Budget(value=0.7)"
    assert by_budget.certified is None
    assert by_budget.reason == ""
    by_threshold = clf.exit_report(X_TEST, WORDS[Y_TEST], threshold=0.9)
    assert by_threshold.request == "Threshold(value=0.9)"
    assert same(by_threshold.exits.thresholds, np.array([0.9, 0.9]))


def test_what_could_not_be_certified_is_said():
    report = quick().fit(X[:90], y[:90]).exit_report(X_TEST, Y_TEST)
    assert report.certified is False
    assert "No sample exits early" in report.reason
    assert report.overall.drop_interval.tolist() == [0, 0]
    assert "not certified" in str(report)
    assert report.classes.labels.tolist() == [0, 1, 2, 3]


def test_without_calibration_rows():
    report = quick(calibration=None).fit(X, y).exit_report(X_TEST, Y_TEST)
    assert report.request == ""
    assert "there are no calibration samples" in str(report)


def test_one_exit():
    report = quick(exits=1).fit(X, y).exit_report(X_TEST, Y_TEST)
    assert len(report.exits.costs) == 1
    assert report.overall.drop == 0
    assert "There is a single exit." in str(report)


def test_costs_in_the_unit_of_the_table(clf):
    truth = WORDS[Y_TEST]
    report = clf.exit_report(X_TEST, truth, budget=0.7)
    assert report.cost_unit == "MACs"
    assert report.plain_cost == clf.cost_table_.plain
    assert f"The plain network costs {clf.cost_table_.plain:,.0f} MACs per sample." in str(report)
    timed = quick(cost=MACsCost(rate=1e9)).fit(X, WORDS[y])
    budget = Budget(0.7 * timed.cost_table_.plain * 1e3, unit="ms")
    report = timed.exit_report(X_TEST, truth, budget=budget)
    assert report.request == budget.description
    assert report.plain_cost == pytest.approx(clf.cost_table_.plain / 1e9)
    assert "mean cost per sample, us" in str(report)


def test_the_level_widens_the_intervals(clf):
    # Samples leave at every exit.
    params = {"threshold": np.quantile(clf.exit_table(X_TEST).scores[:, :-1], 0.5, axis=0)}
    narrow = clf.exit_report(X_TEST, WORDS[Y_TEST], confidence_level=0.8, **params)
    wide = clf.exit_report(X_TEST, WORDS[Y_TEST], confidence_level=0.99, **params)
    for name in ("overall.accuracy", "overall.drop", "overall.mean_cost", "exits.exit_rate"):
        inner, outer = (attrgetter(f"{name}_interval")(report) for report in (narrow, wide))
        assert (outer[..., 0] < inner[..., 0]).all()
        assert (inner[..., 1] < outer[..., 1]).all()


def test_bad_input(clf):
    truth = WORDS[Y_TEST]
    with pytest.raises(NotFittedError):
        quick().exit_report(X_TEST, truth)
    with pytest.raises(ValueError, match="labels that were not seen in fit"):
        clf.exit_report(X_TEST, np.full(len(truth), "eel"))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        clf.exit_report(X_TEST, truth[:-1])
    with pytest.raises(ValueError, match="At most one of 'threshold' and 'budget'"):
        clf.exit_report(X_TEST, truth, threshold=0.5, budget=0.5)
    with pytest.raises(ValueError, match="'confidence_level' parameter"):
        clf.exit_report(X_TEST, truth, confidence_level=1.5)
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        clf.exit_report(X_TEST, truth, sample_weight=-np.ones(len(truth)))


def test_beside_the_plain_network():
    clf = quick().fit(X, WORDS[y])
    plain = clone(clf).set_params(exits=1).fit(X, WORDS[y])
    report = clf.exit_report(X_TEST, WORDS[Y_TEST], plain=plain)
    assert report.overall.plain_accuracy == pytest.approx(plain.score(X_TEST, WORDS[Y_TEST]))
    by_labels = clf.exit_report(X_TEST, WORDS[Y_TEST], plain=plain.predict(X_TEST))
    assert str(by_labels) == str(report)


@pytest.mark.parametrize("plain", ["plain", np.zeros(3), 0])
def test_no_plain_model(plain):
    with pytest.raises(ValueError, match="'plain' parameter must be a fitted classifier"):
        quick().fit(X, y).exit_report(X_TEST, Y_TEST, plain=plain)


def test_thresholds_that_the_user_changes_are_no_longer_certified():
    clf = quick(operating_point=RiskControl(0.2)).fit(X, y)
    assert clf.exit_report(X_TEST, Y_TEST).certified
    clf.thresholds_ = [0.35, 0.5]
    report = clf.exit_report(X_TEST, Y_TEST)
    assert report.certified is None
    assert "RiskControl" not in report.request
    exits, by_hand = (
        clf.predict(X_TEST, return_exits=True, **asked)[1]
        for asked in ({}, {"threshold": [0.35, 0.5]})
    )
    np.testing.assert_array_equal(exits, by_hand)


def test_changing_thresholds_in_place_changes_no_budget():
    clf = quick(budget=0.6).fit(X, y)
    before = clf.predict(X_TEST, budget=0.6, return_exits=True)[1]
    clf.thresholds_[:] = 2.0
    np.testing.assert_array_equal(clf.predict(X_TEST, budget=0.6, return_exits=True)[1], before)
    assert (clf.predict(X_TEST, return_exits=True)[1] == clf.n_exits_ - 1).all()

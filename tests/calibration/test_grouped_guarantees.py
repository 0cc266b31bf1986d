"""Guarantees for samples in groups, of which only the groups are independent."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier
from skorch.callbacks import Callback

from skearlyexit import CascadeClassifier, CascadeRegressor, EarlyExitRegressor, MLPBackbone
from skearlyexit.calibration import (
    CalibrationData,
    ConformalRiskControl,
    ErrorRise,
    NotCertifiedError,
    RiskControl,
    compute_frontier,
)
from skearlyexit.calibration._calibration_data import ErrorScale
from skearlyexit.calibration._p_values import betting_p_value, hoeffding_bentkus_p_value
from tests._calibration_data import naive_exit, simulated
from tests._data import blobs, quick

X, y, X_NEW, y_new = blobs()


def in_groups(rng, n_groups, size):
    """Samples of which most that exit wrongly belong to a tenth of the groups."""
    groups = np.repeat(np.arange(n_groups), size)
    is_hard = (rng.random(n_groups) < 0.1)[groups]
    first = rng.random(len(groups))
    wrong = rng.random(len(groups)) < np.where(is_hard, 0.9, 0.02) * (1 - first)
    right = np.column_stack([~wrong, np.ones_like(wrong)])
    scores = np.column_stack([first, np.ones_like(first)])
    return CalibrationData(scores, right, np.array([0.3, 1.0]), np.ones(len(first)), groups=groups)


def risks_of_draws(point, n_draws, *, with_groups):
    """True risk at the thresholds chosen on each of many drawn sets of samples."""
    population = in_groups(np.random.default_rng(10**6), 40_000, 10)
    wrong = ~population.correct[:, 0]
    found = []
    for seed in range(n_draws):
        data = in_groups(np.random.default_rng(seed), 120, 40)
        data = data if with_groups else replace(data, groups=None)
        (threshold,) = point.thresholds(data, None)
        found.append(np.mean(wrong & (population.scores[:, 0] >= threshold)))
    return np.array(found)


@pytest.mark.parametrize("test", ["betting", "hoeffding_bentkus"])
def test_confidence_holds_for_groups_and_not_for_their_samples(test):
    point = RiskControl(0.05, test=test)
    assert np.mean(risks_of_draws(point, 100, with_groups=True) > 0.05) <= 0.1
    assert np.mean(risks_of_draws(point, 100, with_groups=False) > 0.05) > 0.2


def test_expected_risk_of_groups():
    found = risks_of_draws(ConformalRiskControl(0.05), 100, with_groups=True)
    assert 0.02 < found.mean() <= 0.05


def naive_group_losses(data, threshold):
    """Mean performance gap of each group."""
    losses = {}
    for row, group in enumerate(data.groups):
        exit_ = naive_exit(data.scores[row], [threshold] * (data.n_exits - 1))
        lost = data.correct[row, -1] and not data.correct[row, exit_]
        losses.setdefault(group, []).append(float(lost))
    return np.array([np.mean(losses[group]) for group in sorted(losses)])


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 10**6),
    st.sampled_from(["betting", "hoeffding_bentkus"]),
    st.lists(st.integers(0, 12), min_size=60, max_size=60),
)
def test_the_tests_are_those_of_means_of_groups(seed, test, groups):
    data = replace(simulated(seed, 60, 3, decimals=1), groups=np.array(groups))
    family = [0.95, 0.7, 0.4]
    p_values = []
    for threshold in family:
        losses = naive_group_losses(data, threshold)
        if test == "betting":
            p_values.append(betting_p_value(losses, 0.4, np.ones(len(losses))))
        else:
            p_values.append(hoeffding_bentkus_p_value(losses.mean(), len(losses), 0.4))
    point = RiskControl(0.4, family=family, test=test)
    n_passed = int(np.argmax([*(p > 0.1 for p in p_values), True]))
    if not n_passed:
        with pytest.raises(NotCertifiedError, match="groups of calibration samples"):
            point.thresholds(data, None)
    else:
        assert (point.thresholds(data, None) == family[n_passed - 1]).all()


@pytest.mark.parametrize("point", [RiskControl(0.05), ConformalRiskControl(0.05)])
def test_groups_of_one_sample_are_samples(point):
    data = simulated(0, 500, 3)
    alone = replace(data, groups=np.random.default_rng(0).permutation(500))
    frontier = compute_frontier(data)
    expected = point.calibrate(data, frontier)
    found = point.calibrate(alone, frontier)
    np.testing.assert_array_equal(found.thresholds, expected.thresholds)
    assert found.reason == expected.reason


def test_few_groups_certify_little_however_large_they_are():
    data = replace(simulated(0, 3000, 3), groups=np.arange(3000) % 20)
    with pytest.raises(NotCertifiedError, match=r"that 20 groups of calibration samples can"):
        RiskControl(0.01).thresholds(data, None)
    with pytest.raises(NotCertifiedError, match=r"for 20 groups of calibration samples is"):
        ConformalRiskControl(0.01).thresholds(data, None)


def test_what_is_not_valid_for_groups_is_refused():
    data = replace(simulated(0, 3000, 3), groups=np.arange(3000) // 2)
    with pytest.raises(ValueError, match="must not be 'binomial' for samples with groups"):
        RiskControl(0.05, test="binomial").thresholds(data, None)
    weighted = replace(data, weight=np.where(np.arange(3000) < 100, 2.0, 1.0))
    for point, samples in ((RiskControl(0.05), weighted), (RiskControl(0.05, max_weight=2), data)):
        with pytest.raises(NotCertifiedError, match="groups and weights"):
            point.thresholds(samples, None)


class NeverTrains(Callback):
    def on_train_begin(self, net, **kwargs):
        raise AssertionError("a network was trained")


class TestEstimators:
    def test_regression(self):
        reg = EarlyExitRegressor(
            MLPBackbone(2, width=16, hidden=16),
            exits=["stem"],
            policy="change",
            random_state=0,
            max_epochs=5,
            calibration=0.5,
        )
        far = RiskControl(0.5, risk=lambda y, early, last: (np.abs(early - last) > 0.5) * 1.0)
        reg.set_params(operating_point=far).fit(X, X[:, 0], groups=np.arange(len(X)) % 60)
        assert "mean over groups" in reg.operating_point_.reason
        chain = CascadeRegressor(
            [("a", LinearRegression()), ("b", LinearRegression())], cost=[1, 2]
        )
        chain.set_params(operating_point=far, policy="change", calibration=0.5, random_state=0)
        chain.fit(X, X[:, 0], groups=np.arange(len(X)) % 60)
        assert "mean over groups" in chain.operating_point_.reason

    def test_samples_of_weight_0_leave_their_group(self):
        weight, groups = np.ones(len(X_NEW)), np.arange(len(X_NEW)) // 2
        weight[::2] = 0
        clf = quick(calibration=None).fit(X, y)
        point = clf.calibrate(X_NEW, y_new, RiskControl(0.2), sample_weight=weight, groups=groups)
        expected = quick(calibration=None).fit(X, y)
        expected.calibrate(X_NEW[1::2], y_new[1::2], RiskControl(0.2))
        np.testing.assert_array_equal(point.thresholds_, expected.thresholds_)
        assert point.operating_point_.reason == expected.operating_point_.reason

    def test_the_default_is_that_for_the_number_of_groups(self):
        rows = np.arange(5000) % len(X_NEW)
        clf = quick(calibration=None).fit(X, y)
        few = np.arange(5000) % 300
        for groups, level in ((None, 0.005), (np.arange(5000) // 4, 0.01), (few, 0.02)):
            clf.calibrate(X_NEW[rows], y_new[rows], groups=groups)
            assert clf.operating_point_.request.target_level == level

    def test_fit_and_calibrate(self):
        groups = np.arange(len(X)) // 2
        clf = quick(operating_point=RiskControl(0.1), calibration=0.5).fit(X, y, groups=groups)
        assert clf.operating_point_.certified
        assert "mean over groups" in clf.operating_point_.reason
        samples = clf.calibrate(X_NEW, y_new).operating_point_.reason
        assert "groups" not in samples
        of_new = np.arange(len(X_NEW)) // 2
        assert (
            "mean over groups" in clf.calibrate(X_NEW, y_new, groups=of_new).operating_point_.reason
        )
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            clf.calibrate(X_NEW, y_new, groups=of_new[:-1])

    @pytest.mark.parametrize("is_chain", [False, True])
    def test_the_default_certifies_nothing_with_few_groups(self, is_chain):
        model = quick(calibration=3)
        if is_chain:
            estimators = [
                ("small", GaussianNB()),
                ("large", DecisionTreeClassifier(random_state=0)),
            ]
            model = CascadeClassifier(estimators, random_state=0)
        model.fit(X, y, groups=np.arange(len(X)) // 50)
        assert model.operating_point_.certified is False
        assert "groups of calibration samples" in model.operating_point_.reason
        assert np.isinf(model.thresholds_).all()

    def test_what_cannot_be_certified_is_known_before_training(self):
        clf = quick(operating_point=RiskControl(0.05), callbacks=[NeverTrains()])
        with pytest.raises(NotCertifiedError, match="10 groups of calibration samples"):
            clf.set_params(calibration=5).fit(X, y, groups=np.arange(len(X)) // 50)


def test_standard_error_of_groups():
    """Samples that are each there ten times are as many as they were."""
    rng = np.random.default_rng(0)
    one = simulated(0, 200, 2)
    losses = rng.random((200, 2))
    one = replace(one, correct=None, losses=losses, error_scale=ErrorScale(True, 1.0))
    exits = (rng.random(200) < 0.5).astype(int)
    ten = one.take(np.tile(np.arange(200), 10))
    grouped = replace(ten, groups=np.tile(np.arange(200), 10))
    rise, error = ErrorRise()._rise(one, exits)
    found = ErrorRise()._rise(grouped, np.tile(exits, 10))
    np.testing.assert_allclose(found, (rise, error * np.sqrt(200 / 199)))
    of_one_group = replace(ten, groups=np.zeros(2000, dtype=int))
    assert ErrorRise()._rise(of_one_group, np.tile(exits, 10))[1] == np.inf
    frontier = compute_frontier(of_one_group)
    assert np.isinf(ErrorRise(10.0).thresholds(of_one_group, frontier)).all()
    chosen = ErrorRise(10.0, standard_errors=0).thresholds(of_one_group, frontier)
    np.testing.assert_array_equal(chosen, frontier.thresholds[0])
    assert ErrorRise()._rise(ten, np.tile(exits, 10))[1] < 0.5 * error

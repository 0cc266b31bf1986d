"""Thresholds of the same estimated risk at all exits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skearlyexit.calibration import (
    CalibrationData,
    ConformalRiskControl,
    NotCertifiedError,
    RiskControl,
)
from skearlyexit.calibration._family_of_risks import family_of_risks

LEVELS = np.linspace(0, 1, 41)
COSTS = np.array([0.2, 0.5, 1.0])


def overconfident(n, seed=0):
    """Two early exits: errors of the first are three times as frequent as its score says."""
    rng = np.random.default_rng(seed)
    scores = np.column_stack([rng.random((n, 2)), np.ones(n)])
    chance = np.column_stack([np.minimum(3 * (1 - scores[:, 0]), 1), 0.1 * (1 - scores[:, 1])])
    correct = np.column_stack([rng.random((n, 2)) >= chance, np.ones(n, dtype=bool)])
    return CalibrationData(scores, correct, COSTS, np.ones(n))


def losses(data):
    return (~data.correct).astype(float)


def family(data):
    return family_of_risks(data.scores, losses(data), data.weight, LEVELS)


def test_estimated_risk_is_that_of_the_scores():
    """Scores of which the log-odds of an error are a linear function are estimated exactly."""
    rng = np.random.default_rng(0)
    n = 200_000
    odds = rng.normal(size=(n, 2))
    scores = np.column_stack([1 / (1 + np.exp(-odds)), np.ones(n)])
    intercepts, slopes = np.array([-1.0, 0.5]), np.array([2.0, 0.7])
    chance = 1 / (1 + np.exp(-(intercepts - slopes * odds)))
    lost = np.column_stack([rng.random((n, 2)) < chance, np.zeros(n, dtype=bool)])
    found = family_of_risks(scores, lost.astype(float), np.ones(n), LEVELS)[4:-4]
    level = LEVELS[4:-4, None]
    expected = 1 / (1 + np.exp(-(intercepts - np.log(level / (1 - level))) / slopes))
    np.testing.assert_allclose(found, expected, atol=0.03)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(0, 1000), st.booleans())
def test_any_samples_give_descending_thresholds(n, seed, binary):
    rng = np.random.default_rng(seed)
    scores = rng.integers(2, size=(n, 3)) if binary else rng.random((n, 3))
    lost = rng.integers(-1, 2, size=(n, 3)).astype(float)
    found = family_of_risks(scores.astype(float), lost, rng.random(n) + 0.1, LEVELS)
    assert found.shape == (len(LEVELS), 2)
    assert np.isinf(found[0]).all()
    assert (found[-1] == 0).all()
    assert (found[1:] <= found[:-1]).all()


def test_weights_are_relative():
    data = overconfident(300)
    weight = np.where(losses(data)[:, 0] > 0, 4.0, 1.0)
    found, scaled = (
        family_of_risks(data.scores, losses(data), factor * weight, LEVELS) for factor in (1, 1e-9)
    )
    np.testing.assert_allclose(found, scaled)
    # Samples that are lost at the first exit weigh more there.
    assert (found[4:-4, 0] > family(data)[4:-4, 0]).all()


def test_an_exit_without_errors_is_not_believed_blindly():
    scores = np.tile([[0.9, 1.0]], (20, 1))
    found = family_of_risks(scores, np.zeros((20, 2)), np.ones(20), np.array([0.001, 0.1]))
    assert found[0, 0] > 0.9 > found[1, 0]


def test_exits_of_different_reliability_get_different_thresholds():
    data = overconfident(4000)
    thresholds = RiskControl(0.05).thresholds(data, None)
    assert thresholds[0] > thresholds[1]
    common = RiskControl(0.05, family="common").thresholds(data, None)
    assert common[0] == common[1]
    assert data.evaluate(thresholds)[0] < data.evaluate(common)[0] - 0.05


@pytest.mark.parametrize("kind", [RiskControl, ConformalRiskControl])
def test_samples_that_are_too_few_for_both_are_all_tested(kind):
    data = overconfident(60)
    # 0.96 ** n falls below a tenth between 56 and 57 samples, and 48 of 60 would be tested.
    request = kind(0.04 if kind is RiskControl else 0.02)
    data = CalibrationData(data.scores, np.ones_like(data.correct), COSTS, np.ones(60))
    common = kind(request.target_level, family="common")
    assert request.thresholds(data, None).tolist() == common.thresholds(data, None).tolist()


def test_what_is_estimated_is_not_tested():
    data = overconfident(1000)
    drawn = np.random.RandomState(0).permutation(1000)
    learning, tested = drawn[:200], drawn[200:]
    request = RiskControl(0.05)
    found = {}
    for name, wrong in (("learning", learning), ("tested", tested)):
        correct = np.ones_like(data.correct)
        correct[wrong, :2] = False
        each = CalibrationData(data.scores, correct, COSTS, np.ones(1000))
        found[name] = each.take(tested).evaluate(request.thresholds(each, None))
    # All samples that are tested are right, so that all may exit.
    assert found["learning"] == (COSTS[0], 1.0)
    assert found["tested"][1] > 0.95


def test_a_function_is_tested_on_all_samples():
    """Its loss may be positive at the last exit, so that fewer samples might certify nothing."""
    data = overconfident(300)
    labels = np.where(data.correct, 1, 0)
    data = CalibrationData(
        data.scores, data.correct, COSTS, np.ones(300), labels, np.ones(300, dtype=int)
    )

    def wrong(y_true, y_exit, y_last):
        return (y_exit != y_true).astype(float)

    found, common = (
        RiskControl(0.2, risk=wrong, **params).thresholds(data, None)
        for params in ({}, {"family": "common"})
    )
    assert found.tolist() == common.tolist()


def test_thresholds_that_no_sample_reaches_are_not_certified():
    scores = np.ones((2000, 2))
    correct = np.column_stack([np.arange(2000) % 2 == 0, np.ones(2000, dtype=bool)])
    data = CalibrationData(scores, correct, np.array([0.5, 1.0]), np.ones(2000))
    for family in ("auto", "common"):
        with pytest.raises(NotCertifiedError, match=r"that 2000 calibration samples .* is 0\.5"):
            RiskControl(0.01, family=family).thresholds(data, None)

"""The test of the exit rates, against scipy and simulated samples."""

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from skearlyexit.serve._drift import Drift, p_value

RATES = np.array([0.5, 0.3, 0.2])


def run(drift, rates, n_samples, seed=0, n_at_once=10):
    """Add samples of some exit rates; alarms that began or ended."""
    rng = np.random.default_rng(seed)
    changes = []
    for _ in range(0, n_samples, n_at_once):
        exits = rng.choice(len(rates), size=n_at_once, p=rates)
        if drift.add(exits, np.zeros(n_at_once, dtype=bool)):
            changes.append(drift.is_alarm)
    return changes


def started(window=500, level=1e-4, rates=RATES, n_reference=1000):
    drift = Drift(window, level)
    drift.start(rates, n_reference)
    return drift


def test_it_is_pearsons_test_of_two_samples():
    counts = np.array([260.0, 120.0, 120.0])
    expected = chi2_contingency([counts, RATES * 1000], correction=False).pvalue
    assert p_value(counts, RATES, 1000) == pytest.approx(expected)


def test_exits_with_few_samples_count_together():
    rates = np.array([0.5, 0.001, 0.498, 0.001])
    counts = np.array([250.0, 0.0, 249.0, 1.0])
    together = chi2_contingency([[250, 250], [500, 500]], correction=False).pvalue
    assert p_value(counts, rates, 1000) == pytest.approx(together)
    assert p_value(np.array([500.0, 0.0]), np.array([1.0, 0.0]), 1000) == 1.0
    assert p_value(np.array([400.0, 100.0]), np.array([1.0, 0.0]), 1000) < 1e-6


def test_other_exit_rates_raise_an_alarm_that_ends_with_them():
    drift = started()
    assert run(drift, RATES, 3000) == []
    assert run(drift, [0.2, 0.3, 0.5], 1000) == [True]
    assert drift.is_alarm
    assert run(drift, RATES, 3000, seed=1) == [False]
    assert not drift.is_alarm


def test_alarms_without_a_change_are_as_rare_as_stated():
    p_values = []
    rng = np.random.default_rng(0)
    for _ in range(2000):
        reference = rng.multinomial(1000, RATES) / 1000
        p_values.append(p_value(rng.multinomial(500, RATES).astype(float), reference, 1000))
    for level in (0.5, 0.1, 0.01):
        n_alarms = np.sum(np.array(p_values) < level)
        assert abs(n_alarms - 2000 * level) < 4 * np.sqrt(2000 * level)


def test_samples_kept_from_later_exits_raise_no_alarm():
    drift = started(window=1000)
    rng = np.random.default_rng(0)
    exits = rng.choice(3, size=5000, p=RATES)
    drift.add(np.minimum(exits, 0), exits > 0)
    assert drift.p_value > 0.01
    assert np.allclose(drift.rates_now(3), [1, 0, 0])
    drift.add(np.zeros(1000, dtype=int), np.zeros(1000, dtype=bool))
    assert drift.is_alarm


def test_nothing_is_tested_before_the_window_is_full_or_without_rates():
    drift = started()
    assert run(drift, [0.0, 0.0, 1.0], 490) == []
    assert np.isnan(drift.p_value)
    drift.start(None, 0)
    assert run(drift, [0.0, 0.0, 1.0], 2000) == []
    assert np.isnan(drift.p_value)


def test_another_point_begins_anew():
    drift = started()
    assert run(drift, [0.0, 0.5, 0.5], 600) == [True]
    drift.start(np.array([0.0, 0.5, 0.5]), 1000)
    assert not drift.is_alarm
    assert run(drift, [0.0, 0.5, 0.5], 600) == []

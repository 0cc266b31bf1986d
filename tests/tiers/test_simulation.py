"""Requests under load, against the report without load and the formulas of queueing theory."""

import numpy as np
import pytest

from skearlyexit import Link
from skearlyexit.tiers import Tier, TierPlan
from skearlyexit.tiers._simulation import drawn_requests
from tests.tiers._models import X_TEST, Y_TEST, X, network
from tests.tiers._requests import run

N = 60_000
#: Latencies of the exits: 3, 8, 15 and 26 seconds, without links.
ALONE = TierPlan([Tier("device", rate=1.0)], [], [0] * 4)
TWO = TierPlan(
    [Tier("device", rate=1.0), Tier("cloud", rate=2.0)],
    [Link(bandwidth=8.0, latency=0.5)],
    [0, 0, 1, 1],
)
#: Of the network of three exits.
SMALL = TierPlan(
    [Tier("device", rate=1e5, overhead=0.001), Tier("cloud", rate=1e7)],
    [Link(bandwidth=1e4, latency=0.01)],
    ["device", "device", "cloud"],
)


def poisson(rate, n_requests=N, seed=1):
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, n_requests))


class TestFormulas:
    def test_one_exit_waits_as_in_md1(self):
        found = run(ALONE, np.zeros(N, dtype=int), poisson(0.25))  # 3 seconds each
        load = 0.75
        assert found.tier_waits.mean() == pytest.approx(load / (1 - load) / 2 * 3.0, rel=0.05)
        assert found.latency == pytest.approx(found.tier_waits.mean() + 3.0)
        assert found.tier_utilization[0] == pytest.approx(load, rel=0.02)

    def test_several_exits_wait_as_in_mg1(self):
        """The formula of Pollaczek and Khinchine, of the moments of the services."""
        exits = np.random.default_rng(0).choice(4, N, p=[0.6, 0.2, 0.15, 0.05])
        seconds = np.array([3.0, 8.0, 15.0, 26.0])[exits]
        rate = 0.6 / seconds.mean()
        found = run(ALONE, exits, poisson(rate))
        expected = rate * (seconds**2).mean() / 2 / (1 - 0.6)
        assert found.tier_waits.mean() == pytest.approx(expected, rel=0.06)

    def test_nobody_waits_twice_where_the_second_tier_is_faster(self):
        """What leaves a queue with equal services is at least a service apart."""
        plan = TierPlan(
            [Tier("device", rate=1.0), Tier("cloud", rate=100.0)], [Link(latency=2.0)], [0, 0, 1, 1]
        )
        found = run(plan, np.full(N, 3), poisson(0.1))
        assert found.tier_waits[:, 0].max() > 0
        assert not found.tier_waits[:, 1].any()
        assert not found.link_waits.any()
        np.testing.assert_allclose(
            found.latencies, found.tier_waits[:, 0] + 8.0 + 2.0 + 0.18, rtol=1e-9
        )

    def test_a_slow_link_is_a_queue(self):
        """All samples are sent, each 64 bytes in 8 seconds."""
        plan = TierPlan(
            [Tier("device", rate=1.0), Tier("cloud", rate=1e9)], [Link(bandwidth=8.0)], [1] * 4
        )
        found = run(plan, np.zeros(N, dtype=int), poisson(0.1))
        load = 0.8
        assert found.link_waits.mean() == pytest.approx(load / (1 - load) / 2 * 8.0, rel=0.06)
        assert found.link_utilization[0] == pytest.approx(load, rel=0.02)
        assert np.isnan(found.tier_waits[:, 0]).all()


class TestWithoutLoad:
    def test_latencies_are_those_of_the_report(self):
        # So far apart that no two meet.
        times = np.arange(len(X_TEST)) * 10.0
        found = SMALL.simulate(network(), X_TEST, Y_TEST, arrivals=times)
        report = SMALL.report(network(), X_TEST, Y_TEST)
        for name in ("latency", "latency_p50", "latency_p95", "latency_p99", "accuracy"):
            assert getattr(found, name) == pytest.approx(getattr(report, name))
        _, exits = network().predict(X_TEST, return_exits=True)
        assert np.array_equal(found.exits, exits)
        assert np.array_equal(found.samples, np.arange(len(X_TEST)))
        assert (found.degraded_rate, found.unanswered_rate) == (0.0, 0.0)

    def test_a_batch_that_is_never_full_waits_for_its_time(self):
        patient = TierPlan([Tier("a", 1.0, max_batch_size=4, max_batch_wait=2.0)], [], [0] * 4)
        found = run(patient, [0, 1], [0.0, 100.0])
        assert found.latencies.tolist() == [2.0 + 3.0, 2.0 + 8.0]


class TestLoad:
    def test_several_workers_and_batches_of_tiers(self):
        slow = run(ALONE, np.zeros(500, dtype=int), poisson(0.6, 500)).latency
        both = TierPlan([Tier("device", rate=1.0, n_workers=2)], [], [0] * 4)
        assert run(both, np.zeros(500, dtype=int), poisson(0.6, 500)).latency < slow / 3
        calls = {"rate": 100.0, "overhead": 2.0}
        single, batched = (
            TierPlan([Tier("device", **calls, max_batch_size=size)], [], [0] * 4) for size in (1, 8)
        )
        latencies = [
            run(each, np.zeros(500, dtype=int), poisson(0.6, 500)).latency
            for each in (single, batched)
        ]
        assert latencies[1] < latencies[0] / 3

    def test_the_same_seed_draws_the_same(self):
        options = {"arrivals": 30.0, "n_requests": 50, "loss": 0.3}
        first, again, other = (
            SMALL.simulate(network(), X_TEST, Y_TEST, **options, random_state=seed)
            for seed in (0, 0, 1)
        )
        assert np.array_equal(first.latencies, again.latencies)
        assert np.array_equal(first.samples, again.samples)
        assert not np.array_equal(first.latencies, other.latencies)
        assert len(first.latencies) == 50

    def test_samples_are_drawn_and_arrivals_are_as_frequent_as_asked_for(self):
        samples, times = drawn_requests(7, 4.0, 20_000, np.random.RandomState(0))
        assert np.diff(times).mean() == pytest.approx(0.25, rel=0.03)
        np.testing.assert_allclose(np.bincount(samples) / len(samples), 1 / 7, atol=0.01)
        samples, times = drawn_requests(7, 4.0, None, np.random.RandomState(0))
        assert len(samples) == 7


class TestLoss:
    def test_what_is_lost_is_answered_before_the_link(self):
        gains = np.tile([False, True, True, False], (N, 1))
        found = run(TWO, np.full(N, 3), np.arange(N) * 99.0, loss=0.25, gains=gains)
        assert found.degraded_rate == pytest.approx(0.25, abs=0.01)
        assert np.array_equal(found.exits == 1, found.is_degraded)
        assert found.accuracy == found.degraded_rate
        # 8 s of computation, 2 s to send 16 bytes, and 1 s until the loss is noticed.
        np.testing.assert_allclose(found.latencies[found.is_degraded], 11.0)
        np.testing.assert_allclose(found.latencies[~found.is_degraded], 8.0 + 2.5 + 9.0)

    def test_lost_transmissions_are_repeated(self):
        found = run(TWO, np.full(N, 3), np.arange(N) * 999.0, loss=0.25, n_retries=2)
        assert found.degraded_rate == pytest.approx(0.25**3, abs=0.003)
        spent = found.latencies - 17.0 - 2.5  # beyond one transmission
        for n_lost, share in ((0, 0.75), (1, 0.75 * 0.25), (2, 0.75 * 0.25**2)):
            is_so = ~found.is_degraded & np.isclose(spent, n_lost * 3.0)
            assert is_so.mean() == pytest.approx(share, abs=0.01)
        np.testing.assert_allclose(found.latencies[found.is_degraded], 8.0 + 3 * 2.0 + 3 * 1.0)

    def test_each_link_has_its_own(self):
        plan = TierPlan([Tier(name, 1.0) for name in "abc"], [Link(), Link()], [0, 1, 1, 2])
        found = run(plan, np.full(N, 3), np.arange(N) * 99.0, loss=[0.0, 0.5])
        assert set(found.exits) == {2, 3}
        assert found.degraded_rate == pytest.approx(0.5, abs=0.01)


class TestOutages:
    def test_a_sample_is_answered_by_its_last_exit(self):
        gains = np.tile([False, True, False, False], (4, 1))
        found = run(
            TWO,
            [3, 3, 0, 3],
            [0.0, 100.0, 200.0, 300.0],
            outages={"cloud": [(90, 250)]},
            gains=gains,
        )
        assert found.exits.tolist() == [3, 1, 0, 3]
        assert found.is_degraded.tolist() == [False, True, False, False]
        # Once it gets there: 8 s of computation, and 2.5 s on the link.
        assert found.latencies[1] == 10.5
        assert found.accuracy == 0.25
        assert "25.00% degraded, 0.00% without an answer" in str(found)

    def test_without_an_exit_before_there_is_no_answer(self):
        gains = np.ones((3, 4), dtype=bool)
        found = run(TWO, [0, 0, 0], [0.0, 50.0, 100.0], outages={"device": [(40, 60)]}, gains=gains)
        assert found.exits.tolist() == [0, -1, 0]
        assert np.isnan(found.latencies[1])
        assert found.latency == 3.0
        assert found.unanswered_rate == pytest.approx(1 / 3)
        assert found.accuracy == pytest.approx(2 / 3)

    def test_nothing_is_answered(self):
        found = run(TWO, [0], [5.0], outages={"device": [(0, 9)]})
        assert np.isnan([found.latency, found.latency_p95]).all()
        assert "100.00% without an answer" in str(found)

    def test_of_a_model(self):
        times = np.arange(len(X_TEST)) * 10.0
        found = SMALL.simulate(
            network(), X_TEST, Y_TEST, arrivals=times, outages={"cloud": [(-1, times[-1] + 10)]}
        )
        table = network().exit_table(X_TEST)
        exits = np.minimum(table.exits(network().thresholds_), 1)
        labels = network().classes_[table.labels[np.arange(len(exits)), exits]]
        assert np.array_equal(found.exits, exits)
        assert found.accuracy == pytest.approx((labels == Y_TEST).mean())


def test_text():
    found = SMALL.simulate(network(), X_TEST, Y_TEST, arrivals=20.0, random_state=0)
    lines = str(found).splitlines()
    assert lines[0].startswith("400 requests that come in within")
    assert lines[2] == f"accuracy {found.accuracy:.2%}"
    assert lines[5].split()[:2] == ["device", "100.0%"]
    assert lines[7].startswith("device to cloud")
    assert "degraded" not in str(found)


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"arrivals": 0.0}, "'arrivals' must be a positive number"),
            ({"arrivals": [1.0, 2.0]}, "the times of 400 samples"),
            ({"arrivals": np.arange(400)[::-1]}, "in ascending order"),
            ({"arrivals": np.arange(400), "n_requests": 3}, "'n_requests' must be None"),
            ({"n_requests": 0}, "'n_requests' must be a positive integer"),
            ({"loss": 1.0}, "'loss' must be a probability below 1"),
            ({"loss": [0.1, 0.1]}, "one for each of 1 links"),
            ({"n_retries": -1}, "'n_retries' must be an integer"),
            ({"outages": {"moon": [(0, 1)]}}, "names of tiers with exits"),
            ({"outages": {"cloud": [0, 1]}}, "must be pairs of the times"),
            ({"outages": {"cloud": [(1, 0)]}}, "in ascending order and apart"),
            ({"outages": {"cloud": [(0, 2), (1, 3)]}}, "in ascending order and apart"),
        ],
    )
    def test_impossible_arguments(self, options, match):
        with pytest.raises(ValueError, match=match):
            SMALL.simulate(network(), X_TEST, Y_TEST, **{"arrivals": 1.0, **options})

    def test_a_tier_that_passes_on_cannot_be_gone(self):
        plan = TierPlan(SMALL.tiers, SMALL.links, [1, 1, 1])
        with pytest.raises(ValueError, match=r"names of tiers with exits, \['cloud'\]"):
            plan.simulate(network(), X, X, arrivals=1.0, outages={"device": [(0, 1)]})


def test_exits_and_arrivals_are_not_changed():
    exits, times = np.full(3, 3), np.arange(3.0)
    run(TWO, exits, times, outages={"cloud": [(0, 99)]})
    assert exits.tolist() == [3, 3, 3]
    assert times.tolist() == [0.0, 1.0, 2.0]

"""A queue, against recursions for each request and the formulas of queueing theory."""

from math import factorial

import numpy as np
import pytest

from skearlyexit.tiers._queue import serve

N = 100_000
RATE = 0.7


def requests(seed=0, n_requests=N, rate=RATE):
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.exponential(1 / rate, n_requests)), rng


def waits(served, arrivals):
    return served.starts - arrivals


def test_every_request_of_a_single_worker_follows_the_recursion_of_lindley():
    arrivals, rng = requests(n_requests=1000, rate=1.2)
    services = rng.exponential(size=1000)
    served = serve(arrivals, services)
    end = 0.0
    for arrival, service, start, found in zip(
        arrivals, services, served.starts, served.ends, strict=True
    ):
        assert start == max(arrival, end)
        end = start + service
        assert found == end
    assert served.busy == pytest.approx(services.sum())
    assert not served.is_lost.any()


def test_nothing_is_at_work_before_the_first_request():
    served = serve(np.array([-100.0, -50.0, 0.0]), np.ones(3))
    assert served.starts.tolist() == [-100, -50, 0]


def test_several_workers_take_requests_in_order():
    arrivals, rng = requests(n_requests=1000, rate=3.0)
    services = rng.exponential(size=1000)
    served = serve(arrivals, services, n_workers=3)
    free = np.zeros(3)
    for arrival, service, start in zip(arrivals, services, served.starts, strict=True):
        worker = free.argmin()
        assert start == max(arrival, free[worker])
        free[worker] = start + service


def test_exponential_services_wait_as_long_as_in_mm1():
    arrivals, rng = requests()
    found = waits(serve(arrivals, rng.exponential(size=N)), arrivals)
    assert found.mean() == pytest.approx(RATE / (1 - RATE), rel=0.05)
    # The time in the system is exponential with rate 1 - RATE, so that a share RATE waits, and
    # those that wait do so for an exponential time.
    assert (found > 1e-9).mean() == pytest.approx(RATE, abs=0.01)
    assert (found > 3.0).mean() == pytest.approx(RATE * np.exp(-(1 - RATE) * 3.0), abs=0.015)


def test_equal_services_wait_half_as_long():
    arrivals, _ = requests()
    found = waits(serve(arrivals, np.ones(N)), arrivals)
    assert found.mean() == pytest.approx(RATE / (1 - RATE) / 2, rel=0.04)


def test_several_workers_wait_as_long_as_in_mmc():
    load, c = 2.1, 3
    arrivals, rng = requests(n_requests=3 * N, rate=load)
    found = waits(serve(arrivals, rng.exponential(size=3 * N), n_workers=c), arrivals)
    # Formula of Erlang C.
    full = load**c / factorial(c) * c / (c - load)
    waiting = full / (sum(load**k / factorial(k) for k in range(c)) + full)
    assert (found > 1e-9).mean() == pytest.approx(waiting, abs=0.01)
    assert found.mean() == pytest.approx(waiting / (c - load), rel=0.05)


def test_two_queues_in_a_row_wait_as_two_of_their_own():
    """What leaves a queue with exponential services comes as it came (Burke)."""
    arrivals, rng = requests()
    first = serve(arrivals, rng.exponential(0.5, N)).ends
    second = serve(first, rng.exponential(size=N))
    assert (first - arrivals).mean() == pytest.approx(1 / (1 / 0.5 - RATE), rel=0.03)
    assert waits(second, first).mean() == pytest.approx(RATE / (1 - RATE), rel=0.06)
    assert abs(np.corrcoef(first - arrivals, second.ends - first)[0, 1]) < 0.05


class TestBatches:
    def test_a_full_batch_starts_at_once(self):
        served = serve(
            np.array([0.0, 1.0, 2.0, 9.0]),
            np.array([1.0, 2.0, 3.0, 1.0]),
            overhead=0.5,
            max_batch_size=3,
            max_batch_wait=5.0,
        )
        assert served.starts.tolist() == [2.0, 2.0, 2.0, 14.0]
        assert served.ends.tolist() == [8.5, 8.5, 8.5, 15.5]
        assert served.busy == 8.0

    def test_a_batch_that_is_not_full_starts_after_the_longest_wait(self):
        served = serve(np.array([0.0, 1.0, 6.0]), np.ones(3), max_batch_size=3, max_batch_wait=4.0)
        assert served.starts.tolist() == [4.0, 4.0, 10.0]

    def test_while_workers_are_busy_batches_grow(self):
        served = serve(np.array([0.0, 0.1, 0.2, 0.3]), np.ones(4), max_batch_size=2)
        assert served.starts.tolist() == [0.0, 1.0, 1.0, 3.0]

    def test_no_longer_wait_and_one_request_a_batch_is_no_batching(self):
        arrivals, rng = requests(n_requests=500)
        services = rng.exponential(size=500)
        plain = serve(arrivals, services).ends
        assert np.array_equal(serve(arrivals, services, max_batch_wait=3.0).ends, plain)

    def test_batches_save_the_overhead(self):
        arrivals, _ = requests(n_requests=5000, rate=1.5)
        options = {"overhead": 0.6, "services": np.full(5000, 0.1)}
        alone = serve(arrivals, **options)
        together = serve(arrivals, **options, max_batch_size=8)
        assert together.busy < alone.busy
        assert waits(together, arrivals).mean() < waits(alone, arrivals).mean() / 5


class TestOutages:
    def test_what_waits_or_works_or_comes_is_lost(self):
        arrivals = np.array([0.0, 1.0, 2.0, 5.0, 7.9, 8.0, 8.5])
        served = serve(arrivals, np.full(7, 3.0), outages=[(4.0, 8.0)])
        # Finished, in work, waiting, and two that come in between.
        assert served.is_lost.tolist() == [False, True, True, True, True, False, False]
        assert served.ends.tolist() == [3.0, 4.0, 4.0, 5.0, 7.9, 11.0, 14.0]
        assert served.busy == 3.0 + 1.0 + 6.0

    def test_what_ends_as_it_begins_is_finished(self):
        served = serve(np.array([1.0]), np.array([3.0]), outages=[(4.0, 8.0)])
        assert not served.is_lost.any()

    def test_several(self):
        served = serve(np.array([0.0, 3.0, 5.5]), np.ones(3), outages=[(0.5, 1.0), (5.0, 6.0)])
        assert served.is_lost.tolist() == [True, False, True]

    def test_a_batch_is_lost_as_a_whole(self):
        served = serve(
            np.array([0.0, 1.0]),
            np.ones(2),
            max_batch_size=2,
            max_batch_wait=9.0,
            outages=[(2.0, 3.0)],
        )
        assert served.is_lost.all()
        assert served.ends.tolist() == [2.0, 2.0]

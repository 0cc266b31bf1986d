"""Metrics in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from skearlyexit.serve._drift import Drift
from skearlyexit.serve._points import Point

#: Upper bounds of the classes of latencies, in seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, eq=False)
class Answered:
    """Answers for the samples of a request.

    Attributes
    ----------
    labels : ndarray of shape (n_samples, ...)
        What is predicted, as the user is told.
    exits, tiers : ndarray of shape (n_samples,)
        Index of the exit, and of its tier.
    degraded : ndarray of shape (n_samples,), bool
        Whether the sample had not exited there, but the next tier did not answer in time.
    probabilities : ndarray of shape (n_samples, n_classes) or None
        Predicted probabilities, if they were asked for.
    point : Point
        Operating point of all samples of the request.
    """

    labels: np.ndarray
    exits: np.ndarray
    tiers: np.ndarray
    degraded: np.ndarray
    probabilities: np.ndarray | None
    point: Point


class Metrics:
    """Counters of an application.

    Parameters
    ----------
    exit_names, tier_names : sequence of str
        Names of the exits and tiers.
    costs : ndarray of shape (n_exits,)
        Cumulative cost of exiting at each exit.
    drift : Drift
        Test of the exit rates.
    """

    def __init__(
        self,
        exit_names: Sequence[str],
        tier_names: Sequence[str],
        costs: np.ndarray,
        drift: Drift,
    ) -> None:
        self.registry = CollectorRegistry()
        self._exits, self._tiers = list(exit_names), list(tier_names)
        self._costs, self._drift = costs, drift
        self._requests = self._counter("requests", "Requests for predictions.", "status")
        self._samples = self._counter("samples", "Samples answered.", "exit", "tier", "degraded")
        self._cost = self._counter("cost", "Cost of all samples; 1 is the plain network.")
        self._failures = self._counter(
            "tier_failures", "Calls of a tier that gave no answer.", "tier", "reason"
        )
        self._alarms = self._counter("drift_alarms", "Alarms because of other exit rates.")
        self._seconds = Histogram(
            "skearlyexit_request_seconds",
            "Time to the answer of requests that were answered.",
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._queued = self._gauge("queued_samples", "Samples without an answer.")
        self._queued_bytes = self._gauge("queued_bytes", "Bytes of requests without an answer.")
        self._rate = self._gauge("exit_rate", "Share of recent samples at an exit.", "exit")
        self._expected = self._gauge(
            "expected_exit_rate", "Share of the calibration samples at an exit.", "exit"
        )
        self._mean_cost = self._gauge("mean_cost", "Mean cost of recent samples.")
        self._expected_cost = self._gauge(
            "expected_mean_cost", "Mean cost of the calibration samples."
        )
        self._budget = self._gauge("budget", "Largest mean cost that was asked for.")
        self._threshold = self._gauge("threshold", "Threshold in force.", "exit")
        self._version = self._gauge(
            "operating_point_version", "Number of changes of the operating point."
        )
        self._p_value = self._gauge("drift_p_value", "Result of the last test of the exit rates.")
        self._alarm = self._gauge("drift_alarm", "1 if the exit rates have changed.")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"skearlyexit_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"skearlyexit_{name}", text, labels, registry=self.registry)

    def answered(self, answered: Answered, seconds: float) -> None:
        """Count the answers of a request."""
        self._seconds.observe(seconds)
        self._cost.inc(float(self._costs[answered.exits].sum()))
        columns = answered.exits, answered.tiers, answered.degraded
        kinds, numbers = np.unique(np.stack(columns), axis=1, return_counts=True)
        for (exit_, tier, degraded), n_samples in zip(kinds.T, numbers, strict=True):
            flag = "true" if degraded else "false"
            self._samples.labels(self._exits[exit_], self._tiers[tier], flag).inc(int(n_samples))

    def replied(self, status: int) -> None:
        """Count a reply to a request for predictions."""
        self._requests.labels(str(status)).inc()

    def failed(self, tier: int, reason: str) -> None:
        """Count a call of a tier that gave no answer."""
        self._failures.labels(self._tiers[tier], reason).inc()

    def alarm(self) -> None:
        """Count an alarm."""
        self._alarms.inc()

    def text(self, point: Point, n_queued: int, n_queued_bytes: int) -> bytes:
        """All metrics, with the state of the application at this time."""
        self._queued.set(n_queued)
        self._queued_bytes.set(n_queued_bytes)
        self._version.set(point.version)
        self._budget.set(np.nan if point.budget is None else point.budget)
        for name, threshold in zip(self._exits, point.thresholds, strict=False):
            self._threshold.labels(name).set(threshold)
        recent = self._drift.rates_now(len(self._exits))
        known = np.full(len(self._exits), np.nan) if point.rates is None else point.rates
        for name, now, expected in zip(self._exits, recent, known, strict=True):
            self._rate.labels(name).set(now)
            self._expected.labels(name).set(expected)
        self._mean_cost.set(float(recent @ self._costs))
        self._expected_cost.set(float(known @ self._costs))
        self._p_value.set(self._drift.p_value)
        self._alarm.set(self._drift.is_alarm)
        return bytes(generate_latest(self.registry))

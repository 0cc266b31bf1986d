"""Report on a model that is divided among several machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skearlyexit._utils._frames import aligned, preformatted
from skearlyexit.calibration._budget import SECONDS

if TYPE_CHECKING:
    from skearlyexit.tiers._by_exit import ByExit
    from skearlyexit.tiers._plan import TierPlan


@dataclass(frozen=True, eq=False, repr=False)
class TierReport:
    """Latency, bytes, energy, price and accuracy of a model on several machines.

    Latencies are in seconds, without the time that samples wait for others.

    Attributes
    ----------
    n_samples : int
        Number of samples of positive weight.
    latency, latency_p50, latency_p95, latency_p99 : float
        Mean and percentiles of the latency of the samples. A percentile is the smallest latency
        that at least this share of the samples does not exceed.
    n_bytes : float
        Mean number of bytes per sample over all links.
    energy, price : float
        Mean energy and price per sample.
    accuracy, last_accuracy : float
        Accuracy, and accuracy if no sample exited early. In regression, the share of the loss that
        is explained. NaN if it is not known.
    uncompressed_accuracy : float
        Accuracy if embeddings are sent without compression. NaN if they are anyway.
    error : float
        In regression, the error in the units of y, as in `CalibratedPoint`. Otherwise NaN.
    exit_names, exit_tiers : list of str
        Name and tier of each exit.
    exit_rate, exit_latency : ndarray of shape (n_exits,)
        Share of the samples that exit at each exit, and their latency.
    tier_names : list of str
        Names of the tiers.
    tier_rate, tier_seconds : ndarray of shape (n_tiers,)
        Share of the samples for which each tier computes something, and mean seconds of
        computation, over all samples. Several devices compute at the same time.
    link_names : list of str
        Names of what the links transfer, as in `TierPlan`: to the next tier, back if the answer is
        sent back, and among several devices.
    link_rate, link_bytes : ndarray of shape (n_transfers,)
        Share of the samples for which there is each transfer, and mean number of bytes, over all
        samples.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit import Link
    >>> from skearlyexit.tiers import ModelParts, Tier, TierPlan
    >>> parts = ModelParts(["a", "b"], work=np.array([10.0, 90.0]), n_bytes=np.array([64.0, 16.0]))
    >>> plan = TierPlan(
    ...     [Tier("device", rate=1000), Tier("cloud", rate=9000)], [Link(latency=0.04)],
    ...     ["device", "cloud"])
    >>> report = plan.report_of_exits(parts, [0, 0, 0, 1])
    >>> print(report)
    4 samples, without waiting for others
    latency 22.5 ms on average, p50 10 ms, p95 60 ms, p99 60 ms
    per sample: 4 bytes
    <BLANKLINE>
    exit    tier  latency  exit rate
    a     device    10 ms  75.0%
    b      cloud    60 ms  25.0%
    <BLANKLINE>
    tier    computes for  per sample
    device        100.0%  10 ms
    cloud          25.0%  2.5 ms
    <BLANKLINE>
    link             sent for  bytes per sample
    device to cloud     25.0%  4
    """

    n_samples: int
    latency: float
    latency_p50: float
    latency_p95: float
    latency_p99: float
    n_bytes: float
    energy: float
    price: float
    accuracy: float
    last_accuracy: float
    uncompressed_accuracy: float
    error: float
    exit_names: list[str]
    exit_tiers: list[str]
    exit_rate: np.ndarray
    exit_latency: np.ndarray
    tier_names: list[str]
    tier_rate: np.ndarray
    tier_seconds: np.ndarray
    link_names: list[str]
    link_rate: np.ndarray
    link_bytes: np.ndarray

    @classmethod
    def of(
        cls,
        plan: TierPlan,
        exit_names: list[str],
        by_exit: ByExit,
        exits: np.ndarray,
        weight: np.ndarray,
        *,
        accuracy: float,
        last_accuracy: float,
        uncompressed_accuracy: float = np.nan,
        error: float = np.nan,
    ) -> TierReport:
        """Report of samples whose exits are known."""
        rate = np.bincount(exits, weight, len(exit_names)) / weight.sum()
        p50, p95, p99 = percentiles(by_exit.latency[exits], weight)
        return cls(
            n_samples=len(exits),
            latency=float(rate @ by_exit.latency),
            latency_p50=p50,
            latency_p95=p95,
            latency_p99=p99,
            n_bytes=float(rate @ by_exit.n_bytes),
            energy=float(rate @ by_exit.energy),
            price=float(rate @ by_exit.price),
            accuracy=accuracy,
            last_accuracy=last_accuracy,
            uncompressed_accuracy=uncompressed_accuracy,
            error=error,
            exit_names=list(exit_names),
            exit_tiers=[plan.tier_names[i] for i in plan.tier_of_exit],
            exit_rate=rate,
            exit_latency=by_exit.latency,
            tier_names=plan.tier_names,
            tier_rate=rate @ by_exit.computed,
            tier_seconds=rate @ by_exit.compute,
            link_names=plan.link_names,
            link_rate=rate @ by_exit.crossed,
            link_bytes=rate @ by_exit.sent,
        )

    def __str__(self) -> str:
        exits = aligned(
            {
                "exit": self.exit_names,
                "tier": self.exit_tiers,
                "latency": [seconds_text(each) for each in self.exit_latency],
                "exit rate": [f"{rate:.1%}" for rate in self.exit_rate],
            }
        )
        tiers = aligned(
            {
                "tier": self.tier_names,
                "computes for": [f"{rate:.1%}" for rate in self.tier_rate],
                "per sample": [seconds_text(each) for each in self.tier_seconds],
            }
        )
        lines = [*self._lines(), "", *exits, "", *tiers]
        if len(self.link_rate):
            lines += ["", *aligned(self._links())]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return preformatted(str(self))

    def _lines(self) -> list[str]:
        lines = [
            f"{self.n_samples:,} samples, without waiting for others",
            latency_line(self.latency, self.latency_p50, self.latency_p95, self.latency_p99),
        ]
        totals = [f"{bytes_text(self.n_bytes)} bytes"]
        for what in ("energy", "price"):
            if value := getattr(self, what):
                totals.append(f"{what} {value:.3g}")
        lines.append(f"per sample: {', '.join(totals)}")
        if not np.isnan(self.error):
            lines.append(f"error {self.error:.4g}, {self.accuracy:.2%} of the loss explained")
        elif not np.isnan(self.accuracy):
            lines.append(f"accuracy {self.accuracy:.2%}")
        if not np.isnan(self.last_accuracy):
            lines[-1] += f", {self.last_accuracy:.2%} if no sample exits early"
        if not np.isnan(self.uncompressed_accuracy):
            lines[-1] += f", {self.uncompressed_accuracy:.2%} without compression"
        return lines

    def _links(self) -> dict[str, list[str]]:
        return {
            "link": self.link_names,
            "sent for": [f"{rate:.1%}" for rate in self.link_rate],
            "bytes per sample": [bytes_text(each) for each in self.link_bytes],
        }


def percentiles(latencies: np.ndarray, weight: np.ndarray) -> tuple[float, float, float]:
    """50th, 95th and 99th percentile, which are latencies of samples."""
    found = np.quantile(latencies, [0.5, 0.95, 0.99], method="inverted_cdf", weights=weight)
    p50, p95, p99 = map(float, found)
    return p50, p95, p99


def latency_line(mean: float, p50: float, p95: float, p99: float) -> str:
    """Mean and percentiles in words."""
    p50_text, p95_text, p99_text = map(seconds_text, (p50, p95, p99))
    return (
        f"latency {seconds_text(mean)} on average, p50 {p50_text}, p95 {p95_text}, p99 {p99_text}"
    )


def seconds_text(seconds: float) -> str:
    """Time in the largest unit that it exceeds."""
    name = next((unit for unit, size in SECONDS.items() if seconds >= size), "us")
    return f"{seconds / SECONDS[name]:.3g} {name}" if seconds else "0"


def bytes_text(n_bytes: float) -> str:
    """Number of bytes, without decimals if there are many."""
    return f"{n_bytes:,.0f}" if n_bytes >= 100 else f"{n_bytes:.3g}"

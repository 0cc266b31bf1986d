"""Requests on their way through the queues of tiers and links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from skearlyexit._utils._frames import aligned, preformatted
from skearlyexit.costs import Link
from skearlyexit.tiers._parts import ModelParts
from skearlyexit.tiers._queue import Interval, serve
from skearlyexit.tiers._report import latency_line, percentiles, seconds_text

if TYPE_CHECKING:
    from skearlyexit.tiers._plan import TierPlan

#: Answer of a request that no tier could answer.
UNANSWERED = -1


@dataclass(frozen=True, eq=False, repr=False)
class TierSimulation:
    """What became of requests to a model on several machines.

    Attributes
    ----------
    samples : ndarray of shape (n_requests,)
        Index of the sample of each request.
    arrivals : ndarray of shape (n_requests,)
        Time at which each request comes in, in seconds.
    latencies : ndarray of shape (n_requests,)
        Seconds until it is answered, and the answer is sent back if it is. NaN without an answer.
    exits : ndarray of shape (n_requests,)
        Exit that answers it; -1 without an answer.
    is_degraded : ndarray of shape (n_requests,), bool
        Whether a tier that was gone or a link that failed kept it from its own exit. It is then
        answered by the last exit of the tiers before.
    accuracy : float
        Accuracy of the answers. Requests without an answer count as wrong. In regression, it is the
        share of the loss that is explained, which is 0 without an answer.
    tier_names : list of str
        Names of the tiers.
    tier_waits : ndarray of shape (n_requests, n_tiers)
        Seconds that each request waits before each tier, NaN where it is not served.
    tier_utilization : ndarray of shape (n_tiers,)
        Share of the time that the workers of each tier work, from the first arrival to the last
        answer.
    link_names : list of str
        Names of the links to the next tier and, if answers are sent back, of those back.
    link_waits : ndarray of shape (n_requests, n_links)
        Seconds that each request waits before each of them, NaN where it does not cross it.
    link_utilization : ndarray of shape (n_links,)
        Share of the time that each of them is in use.
    latency, latency_p50, latency_p95, latency_p99 : float
        Mean and percentiles of the latencies of answered requests. NaN if there are none.
    degraded_rate, unanswered_rate : float
        Share of the requests that are degraded, and that have no answer.

    Examples
    --------
    See `TierPlan.simulate`, which returns such an object:

    >>> from sklearn.datasets import load_digits
    >>> from skearlyexit import EarlyExitClassifier, Link, MLPBackbone
    >>> from skearlyexit.tiers import Tier, TierPlan
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=32, hidden=32), exits=["stem"], calibration=None, max_epochs=3,
    ...     random_state=0).fit(X, y)
    >>> plan = TierPlan([Tier("device", 1e6), Tier("cloud", 1e9)], [Link(latency=0.02)], [0, 1])
    >>> found = plan.simulate(clf, X, y, arrivals=50.0, threshold=0.5, random_state=0)
    >>> found.latencies.shape, found.degraded_rate
    ((1797,), 0.0)
    """

    samples: np.ndarray
    arrivals: np.ndarray
    latencies: np.ndarray
    exits: np.ndarray
    is_degraded: np.ndarray
    accuracy: float
    tier_names: list[str]
    tier_waits: np.ndarray
    tier_utilization: np.ndarray
    link_names: list[str]
    link_waits: np.ndarray
    link_utilization: np.ndarray

    @property
    def latency(self) -> float:
        return float(np.mean(self._answered)) if len(self._answered) else np.nan

    @property
    def latency_p50(self) -> float:
        return self._percentiles[0]

    @property
    def latency_p95(self) -> float:
        return self._percentiles[1]

    @property
    def latency_p99(self) -> float:
        return self._percentiles[2]

    @property
    def degraded_rate(self) -> float:
        return float(self.is_degraded.mean())

    @property
    def unanswered_rate(self) -> float:
        return float((self.exits == UNANSWERED).mean())

    @property
    def _answered(self) -> np.ndarray:
        return self.latencies[self.exits != UNANSWERED]

    @property
    def _percentiles(self) -> tuple[float, float, float]:
        answered = self._answered
        if not len(answered):
            return np.nan, np.nan, np.nan
        return percentiles(answered, np.ones(len(answered)))

    def __str__(self) -> str:
        n_requests, span = len(self.arrivals), self.arrivals[-1] - self.arrivals[0]
        lines = [f"{n_requests:,} requests that come in within {seconds_text(float(span))}"]
        if len(self._answered):
            lines.append(latency_line(self.latency, *self._percentiles))
        lines.append(f"accuracy {self.accuracy:.2%}")
        if self.is_degraded.any():
            lines.append(
                f"{self.degraded_rate:.2%} degraded, {self.unanswered_rate:.2%} without an answer"
            )
        names = [*self.tier_names, *self.link_names]
        waits = np.hstack([self.tier_waits, self.link_waits])
        used = np.isfinite(waits)
        means = np.where(used, waits, 0.0).sum(axis=0) / np.maximum(used.sum(axis=0), 1)
        table = aligned(
            {
                "queue": names,
                "requests": [f"{share:.1%}" for share in used.mean(axis=0)],
                "utilization": [
                    f"{share:.1%}" for share in (*self.tier_utilization, *self.link_utilization)
                ],
                "wait": [seconds_text(float(mean)) for mean in means],
            }
        )
        return "\n".join([*lines, "", *table])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return preformatted(str(self))


@dataclass(frozen=True)
class Faults:
    """What may fail on the way.

    Attributes
    ----------
    loss : ndarray of shape (n_links,)
        Probability that a transmission over each link is lost.
    n_retries : int
        Number of times that a lost transmission is repeated.
    outages : list of list of (float, float)
        Intervals in which each tier is gone.
    """

    loss: np.ndarray
    n_retries: int
    outages: list[list[Interval]]

    @classmethod
    def of(cls, plan: TierPlan, loss: Any, n_retries: Any, outages: Any) -> Faults:
        """Validated faults; the arguments are those of `TierPlan.simulate`."""
        n_links = len(plan.links)
        losses = np.asarray(loss, dtype=np.float64)
        if losses.shape not in ((), (n_links,)) or not ((losses >= 0) & (losses < 1)).all():
            raise ValueError(
                f"'loss' must be a probability below 1, or one for each of {n_links} links. Got "
                f"{loss!r}."
            )
        if not isinstance(n_retries, Integral) or n_retries < 0:
            raise ValueError(f"'n_retries' must be an integer of at least 0. Got {n_retries!r}.")
        given = {} if outages is None else outages
        used = {plan.tier_names[i] for i in plan.tier_of_exit}
        if not isinstance(given, Mapping) or not set(given) <= used:
            raise ValueError(
                f"'outages' must map names of tiers with exits, {sorted(used)}, to intervals. Got "
                f"{outages!r}."
            )
        intervals = [_intervals(name, given.get(name, ())) for name in plan.tier_names]
        return cls(np.broadcast_to(losses, n_links), int(n_retries), intervals)


def drawn_requests(
    n_samples: int, arrivals: Any, n_requests: Any, rng: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Sample and arrival of each request; the arguments are those of `TierPlan.simulate`."""
    if isinstance(arrivals, Real):
        n_requests = n_samples if n_requests is None else n_requests
        if not 0 < float(arrivals) < float("inf"):
            raise ValueError(
                f"'arrivals' must be a positive number of requests per second. Got {arrivals!r}."
            )
        if not isinstance(n_requests, Integral) or n_requests < 1:
            raise ValueError(f"'n_requests' must be a positive integer. Got {n_requests!r}.")
        times = np.cumsum(rng.exponential(1 / float(arrivals), int(n_requests)))
        return rng.randint(n_samples, size=int(n_requests)), times
    times = np.asarray(arrivals, dtype=np.float64)
    if times.shape != (n_samples,) or not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise ValueError(
            f"'arrivals' must be a number of requests per second, or the times of {n_samples} "
            "samples, finite and in ascending order. Got an array of shape "
            f"{times.shape}."
        )
    if n_requests is not None:
        raise ValueError(
            "There is one request for each of the given 'arrivals', and 'n_requests' must be None. "
            f"Got {n_requests!r}."
        )
    return np.arange(n_samples), times


def simulated(
    plan: TierPlan,
    parts: ModelParts,
    exits: np.ndarray,
    samples: np.ndarray,
    arrivals: np.ndarray,
    faults: Faults,
    gains: np.ndarray,
    rng: np.random.RandomState,
) -> TierSimulation:
    """Simulate requests.

    No request goes back to a tier or link that it has passed: answers have queues of their own.
    Each queue is therefore simulated as a whole, in the order of the tiers and then back, with the
    requests in the order in which they get there.

    Parameters
    ----------
    plan : TierPlan
    parts : ModelParts
    exits : ndarray of shape (n_requests,)
        Exit of the sample of each request.
    samples, arrivals : ndarray of shape (n_requests,)
        As in `TierSimulation`.
    faults : Faults
    gains : ndarray of shape (n_samples, n_exits)
        Whether the prediction at each exit is correct, or in regression one minus its loss.
    rng : RandomState
        Generator of the losses on links.

    Returns
    -------
    simulation : TierSimulation
    """
    requests = _Requests(plan, parts, exits, arrivals, faults, rng)
    for i in range(len(plan.tiers)):
        if i:
            requests.cross(i - 1)
        requests.compute(i)
    for i in reversed(range(len(plan.back))):
        requests.send_back(i)
    answers, ends = requests.answers, requests.ends
    answered = answers != UNANSWERED
    span = max(float(ends.max() - arrivals[0]), np.finfo(np.float64).tiny)
    n_workers = np.array([tier.n_workers for tier in plan.tiers])
    return TierSimulation(
        samples=samples,
        arrivals=arrivals,
        latencies=np.where(answered, ends - arrivals, np.nan),
        exits=answers,
        is_degraded=requests.is_degraded,
        accuracy=float(np.where(answered, gains[samples, answers], 0.0).mean()),
        tier_names=plan.tier_names,
        tier_waits=requests.tier_waits,
        tier_utilization=requests.tier_busy / (span * n_workers),
        link_names=plan.link_names[: len(requests.link_busy)],
        link_waits=requests.link_waits,
        link_utilization=requests.link_busy / span,
    )


class _Requests:
    """Requests on their way through a plan.

    Parameters
    ----------
    plan : TierPlan
    parts : ModelParts
    exits, arrivals : ndarray of shape (n_requests,)
        As in `simulated`.
    faults : Faults
    rng : RandomState

    Attributes
    ----------
    answers : ndarray of shape (n_requests,)
        Exit that answers each request.
    ends : ndarray of shape (n_requests,)
        Time at which each request has passed the queues so far.
    going, is_degraded : ndarray of shape (n_requests,), bool
        Whether a request is still on its way, and whether it was kept from its exit.
    """

    def __init__(
        self,
        plan: TierPlan,
        parts: ModelParts,
        exits: np.ndarray,
        arrivals: np.ndarray,
        faults: Faults,
        rng: np.random.RandomState,
    ) -> None:
        self.faults, self.rng = faults, rng
        n_requests, n_tiers = len(exits), len(plan.tiers)
        n_links = len(plan.links) + len(plan.back)
        self.plan, self.by_exit, self.exits = plan, plan.by_exit(parts), exits
        self.answers, self.ends = exits.copy(), arrivals.copy()
        self.going, self.is_degraded = np.ones(n_requests, bool), np.zeros(n_requests, bool)
        self.tier_waits = np.full((n_requests, n_tiers), np.nan)
        self.link_waits = np.full((n_requests, n_links), np.nan)
        self.tier_busy, self.link_busy = np.zeros(n_tiers), np.zeros(n_links)

    def compute(self, i: int) -> None:
        """Let a tier compute what it has to for each request."""
        tier = self.plan.tiers[i]
        rows = self._in_order(self.going & self.by_exit.computed[self.exits, i])
        served = serve(
            self.ends[rows],
            self.by_exit.occupied[self.exits[rows], i] - tier.overhead,
            n_workers=tier.n_workers,
            overhead=tier.overhead,
            max_batch_size=tier.max_batch_size,
            max_batch_wait=tier.max_batch_wait,
            outages=self.faults.outages[i],
        )
        self.tier_waits[rows, i] = served.starts - self.ends[rows]
        self.tier_busy[i], self.ends[rows] = served.busy, served.ends
        self._degrade(rows[served.is_lost], i)
        self.going &= self.plan.tier_of_exit[self.exits] != i

    def cross(self, i: int) -> None:
        """Send what goes on over a link."""
        rows = self._in_order(self.going & self.by_exit.crossed[self.exits, i])
        self._send(rows, i, i, self.plan.links[i], self.plan.tiers[i].n_devices)

    def send_back(self, i: int) -> None:
        """Send the answers of later tiers back over a link."""
        is_behind = self.plan.tier_of_exit[self.answers] > i
        rows = self._in_order(is_behind & (self.answers != UNANSWERED))
        self._send(rows, i, len(self.plan.links) + i, self.plan.back[i], 1)

    def _send(self, rows: np.ndarray, i: int, queue: int, link: Link, n_senders: int) -> None:
        """Send something for requests over a link after a tier, for which there is a queue.

        Each of several senders has its own link. They repeat what is lost at the same time.
        """
        loss, n_retries = self.faults.loss[i], self.faults.n_retries
        needed = np.ones(len(rows), dtype=int)
        if loss:  # else nothing is drawn
            shape = len(self.exits), n_senders
            needed = self.rng.geometric(1 - loss, shape).max(axis=1)[rows]
        tries = np.minimum(needed, n_retries + 1)
        failed = needed > tries
        seconds = tries * self.by_exit.sending[self.answers[rows], queue]
        # A loss is noticed after the time of the way there and back.
        seconds += (tries - 1 + failed) * 2 * link.latency
        sent = serve(self.ends[rows], seconds)
        self.link_waits[rows, queue] = sent.starts - self.ends[rows]
        self.link_busy[queue] = sent.busy
        self.ends[rows] = sent.ends + np.where(failed, 0.0, link.latency)
        self._degrade(rows[failed], i + 1)

    def _degrade(self, rows: np.ndarray, before: int) -> None:
        """Answer requests by the last exit of the tiers before one, if there is an exit."""
        self.answers[rows] = np.searchsorted(self.plan.tier_of_exit, before) - 1
        self.going[rows], self.is_degraded[rows] = False, True

    def _in_order(self, chosen: np.ndarray) -> np.ndarray:
        """Some requests in the order in which they get to a queue, given by a mask."""
        rows = np.flatnonzero(chosen)
        return rows[np.argsort(self.ends[rows], kind="stable")]


def _intervals(name: str, given: Sequence[Interval]) -> list[Interval]:
    """Validated intervals of a tier, which follow each other."""
    values = np.asarray(given, dtype=np.float64)
    if values.size and (values.ndim != 2 or values.shape[1] != 2):
        raise ValueError(
            f"The outages of {name!r} must be pairs of the times at which they begin and end. Got "
            f"{given!r}."
        )
    flat = values.ravel()
    if np.isnan(flat).any() or (np.diff(flat) <= 0).any():
        raise ValueError(
            f"The outages of {name!r} must be in ascending order and apart. Got {given!r}."
        )
    return [(float(begin), float(end)) for begin, end in values.reshape(-1, 2)]

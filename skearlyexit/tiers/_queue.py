"""A queue before the workers of a tier, or before a link."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Times in seconds between which nothing works.
Interval = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Served:
    """What became of the requests in a queue.

    Attributes
    ----------
    starts : ndarray of shape (n_requests,)
        Time at which a worker takes each request. NaN if none does.
    ends : ndarray of shape (n_requests,)
        Time at which it is finished or lost.
    is_lost : ndarray of shape (n_requests,), bool
        Whether the request was in the queue, in work or came in while nothing worked.
    busy : float
        Seconds that all workers worked.
    """

    starts: np.ndarray
    ends: np.ndarray
    is_lost: np.ndarray
    busy: float


def serve(
    arrivals: np.ndarray,
    services: np.ndarray,
    *,
    n_workers: int = 1,
    overhead: float = 0.0,
    max_batch_size: int = 1,
    max_batch_wait: float = 0.0,
    outages: Sequence[Interval] = (),
) -> Served:
    """Serve requests in the order in which they come in.

    A free worker takes a batch as soon as it is full, or its first request has waited for the
    longest time. It works on it for the overhead and the sum of the services, and all requests of
    the batch end together.

    Parameters
    ----------
    arrivals : ndarray of shape (n_requests,)
        Times at which the requests come in, ascending.
    services : ndarray of shape (n_requests,)
        Seconds of work for each.
    n_workers : int, default=1
        Number of batches in work at the same time.
    overhead : float, default=0.0
        Seconds of work for each batch in addition.
    max_batch_size : int, default=1
        Maximum number of requests of a batch.
    max_batch_wait : float, default=0.0
        Seconds for which the first request of a batch waits at most for others.
    outages : sequence of (float, float), default=()
        Intervals in which nothing works, in order and apart. What is waiting or in work when one
        begins, and what comes in during it, is lost.

    Returns
    -------
    served : Served
    """
    # Lists: the loop takes single numbers, which is slow for arrays.
    came, work, n_requests = arrivals.tolist(), services.tolist(), len(arrivals)
    starts, ends, lost = [np.nan] * n_requests, [0.0] * n_requests, [False] * n_requests
    free, busy, first = [-np.inf] * n_workers, 0.0, 0
    begins = [begin for begin, _ in outages]
    while first < n_requests:
        # The outage that is, or is next, when the first request of the batch comes in.
        at = bisect_right(begins, came[first]) - 1
        if at >= 0 and came[first] < outages[at][1]:
            ends[first], lost[first] = came[first], True
            first += 1
            continue
        begin, end = outages[at + 1] if at + 1 < len(outages) else (np.inf, np.inf)
        ready = came[first]
        if max_batch_size > 1:
            full = first + max_batch_size - 1
            ready = min(ready + max_batch_wait, came[full] if full < n_requests else np.inf)
        start = max(free[0], ready)
        if start >= begin:
            ends[first], lost[first] = begin, True
            first += 1
            continue
        last = min(bisect_right(came, start, first), first + max_batch_size)
        finish = start + overhead + sum(work[first:last])
        is_cut = finish > begin
        busy += min(finish, begin) - start
        heapq.heapreplace(free, end if is_cut else finish)
        for i in range(first, last):
            starts[i], ends[i], lost[i] = start, min(finish, begin), is_cut
        first = last
    return Served(np.array(starts), np.array(ends), np.array(lost, dtype=bool), busy)

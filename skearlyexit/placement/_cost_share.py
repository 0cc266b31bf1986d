"""Placement at given shares of the cost of the backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit._utils._warnings import warn
from skearlyexit.placement._base import Candidates, Placed, Placement, Probe, placed_at

_GOLDEN = (1 + 5**0.5) / 2

#: Share of the cost of early exit i of n, where i starts at 0.
SCHEDULES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "linear": lambda i, n: (i + 1) / (n + 1),
    "sdn": lambda i, n: 0.9 * (i + 1) / max(n, 1),
    "pareto": lambda i, n: 1 - 0.8 ** (i + 1),
    "fine": lambda i, n: 1 - 0.95 ** (i + 1),
    "golden": lambda i, n: _GOLDEN ** (i - n),
}

#: More than the candidates of any network, and few enough to hold the shares in memory.
MAX_EXITS = 100_000


class CostShare(Placement):
    """Placement at given shares of the cost of the backbone.

    Each exit is placed after the block at which the cumulative cost of the backbone is nearest to
    the share, such that all exits are different and the sum of the differences is the smallest.
    Blocks without a cost, such as activations and pooling, belong to the block before them. If
    there are more shares than candidates, an exit is placed at each candidate, and a warning is
    issued.

    Parameters
    ----------
    n_exits : int, default=4
        Number of exits, including the last.
    schedule : {"linear", "sdn", "pareto", "fine", "golden"} or sequence of float, \
            default="linear"
        Shares of the cost for the n early exits i = 0, ..., n - 1:

        - ``"linear"``: (i + 1) / (n + 1);
        - ``"sdn"``: 0.9 (i + 1) / n, that is 15 %, 30 %, ..., 90 % for ``n_exits=7``;
        - ``"pareto"``: 1 - 0.8^(i + 1);
        - ``"fine"``: 1 - 0.95^(i + 1);
        - ``"golden"``: phi^(i - n), where phi is the golden ratio.

        A sequence gives the shares themselves, between 0 and 1 in ascending order; `n_exits` is
        then ignored.

    References
    ----------
    Kaya, Hong, Dumitras, "Shallow-deep networks: understanding and mitigating network
    overthinking", ICML 2019 (shares of cost). Demir, Akbas, "Early-exit convolutional neural
    networks", 2024 (pareto, fine, golden).

    Examples
    --------
    >>> import numpy as np
    >>> CostShare(2).place(Candidates(["a", "relu", "b", "c"], np.array([5.0, 0, 2, 3]))).ends
    [1, 3]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_exits": [Interval(Integral, 1, MAX_EXITS, closed="both")],
        "schedule": [StrOptions(set(SCHEDULES)), "array-like"],
    }

    def __init__(self, n_exits: int = 4, *, schedule: str | Sequence[float] = "linear") -> None:
        self.n_exits = n_exits
        self.schedule = schedule

    def place(self, candidates: Candidates, probe: Probe | None = None) -> Placed:
        places = candidates.places
        cumulative = candidates.cumulative[places]
        total = cumulative[-1]
        shares = self._shares()
        # An exit before any cost has no stage that could be skipped to reach it.
        n_free = int(np.sum(cumulative[:-1] == 0))
        early = cumulative[n_free:-1] / max(total, 1e-300)
        reasons = [*["it has no cost"] * n_free, *["no share is nearest to it"] * len(early)]
        if len(shares) > len(early):
            warn(
                f"The backbone holds {len(early) + 1} of the {len(shares) + 1} exits asked for. "
                "Ask for fewer exits."
            )
            kept = list(range(n_free, len(places)))
            reasons[n_free:] = ["there are more shares than candidates"] * len(early)
        else:
            kept = [n_free + i for i in _nearest(early, shares)]
            for i, share in zip(kept, shares, strict=True):
                reasons[i] = f"nearest to {share:.1%}"
            kept.append(len(places) - 1)
        return placed_at(kept, places, candidates, repr(self), [*reasons, "the end"])

    def _shares(self) -> np.ndarray:
        """Shares of the early exits."""
        if isinstance(self.schedule, str):
            n_early = self.n_exits - 1
            return SCHEDULES[self.schedule](np.arange(n_early), n_early)
        shares = np.asarray(self.schedule, dtype=np.float64)
        if shares.ndim != 1 or not np.all((shares > 0) & (shares < 1)):
            raise ValueError(
                "The 'schedule' parameter of CostShare must be a name or shares of the cost "
                f"between 0 and 1. Got {self.schedule!r} instead."
            )
        in_order = np.unique(shares)
        if not np.array_equal(shares, in_order):
            raise ValueError(
                "The 'schedule' parameter of CostShare must be ascending and name each share once, "
                f"since heads and thresholds are given in that order. Got {self.schedule!r}; give "
                f"{in_order.tolist()!r}."
            )
        return shares


def _nearest(costs: np.ndarray, shares: np.ndarray) -> list[int]:
    """Different costs in ascending order with the smallest sum of differences from the shares."""
    if not len(shares):
        return []
    # sums[i]: smallest sum so far, with the current share at cost i.
    sums = np.zeros(len(costs))
    before: list[np.ndarray] = []
    for k, share in enumerate(shares):
        best = np.minimum.accumulate(sums)
        # Position of the smallest sum up to each cost; the first one if several are equal.
        position = np.maximum.accumulate(
            np.where(np.append(True, sums[1:] < best[:-1]), np.arange(len(sums)), 0)
        )
        if k:
            best, position = np.append(np.inf, best[:-1]), np.append(0, position[:-1])
        before.append(position)
        # Equal distances, up to rounding, are those of the earlier candidate.
        sums = best + np.round(np.abs(costs - share), 12)
    found = [int(np.argmin(sums))]
    for position in reversed(before[1:]):
        found.insert(0, int(position[found[0]]))
    return found

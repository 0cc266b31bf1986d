"""Placement at given shares of the cost of the backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit._utils._warnings import warn
from skearlyexit.placement._base import Candidates, Placed, Placement, Probe
from skearlyexit.placement._report import PlacementReport

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

    Each exit is placed after the first block at which the cumulative cost of the backbone reaches
    the share. Blocks without a cost, such as activations and pooling, belong to the block before
    them. If two shares are reached at the same block, they result in one exit, and a warning is
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
        wanted = self._shares() * total
        # A share that is reached exactly must not be moved to the next block by rounding.
        first = np.searchsorted(cumulative, wanted * (1 - 1e-12), side="left")
        kept = sorted({int(i) for i in first} | {len(places) - 1})
        if len(kept) < len(wanted) + 1:
            warn(
                f"The backbone holds {len(kept)} of the {len(wanted) + 1} exits asked for: some "
                "shares of its cost are reached within the same block. Ask for fewer exits, or "
                "name the blocks."
            )
        reasons = ["" for _ in places]
        for i, share in zip(first, wanted / max(total, 1e-300), strict=True):
            reasons[i] += f"{', ' if reasons[i] else 'first to reach '}{share:.1%}"
        reasons[-1] = "the end"
        chosen = np.isin(np.arange(len(places)), kept)
        reasons = [reason or "no share is first reached here" for reason in reasons]
        report = PlacementReport(
            repr(self),
            [candidates.names[i] for i in places],
            cumulative / max(total, 1e-300),
            chosen,
            reasons,
        )
        return Placed([int(places[i]) for i in kept], report)

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

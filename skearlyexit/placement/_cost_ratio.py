"""Placement at costs that grow by a factor."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval

from skearlyexit._utils._warnings import warn
from skearlyexit.placement._base import Candidates, Placed, Placement, Probe, placed_at


class CostRatio(Placement):
    """Placement at costs that grow by at least a factor from exit to exit.

    Exits are close together near the input, where easy samples can exit at little cost, and far
    apart near the end. At equal shares of the cost, no exit is before the first share.

    Parameters
    ----------
    ratio : float, default=1.4
        Smallest ratio of the costs of the backbone up to an exit and up to the previous one.
    first : float, default=0.01
        Smallest cost of the backbone up to the first exit, as a share of the cost of the entire
        backbone.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.placement import Candidates
    >>> names = ["stem", "a", "b", "c", "d", "e", "f"]
    >>> placed = CostRatio().place(Candidates(names, np.array([2.0, 16, 16, 16, 16, 16, 16])))
    >>> [names[end] for end in placed.ends]
    ['stem', 'a', 'b', 'c', 'f']
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "ratio": [Interval(Real, 1, None, closed="left")],
        "first": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(self, ratio: float = 1.4, *, first: float = 0.01) -> None:
        self.ratio = ratio
        self.first = first

    def place(self, candidates: Candidates, probe: Probe | None = None) -> Placed:
        places = candidates.places
        cumulative = candidates.cumulative[places]
        total = cumulative[-1]
        reasons = []
        kept: list[int] = []
        least = self.first * total
        for i, cost in enumerate(cumulative[:-1]):
            # A ratio that is reached exactly must not be missed by rounding.
            if not cost or cost < least * (1 - 1e-12):
                reasons.append("too close to the exit before" if kept else "too early")
            elif cost * self.ratio > total * (1 + 1e-12):
                reasons.append("too close to the end")
            else:
                before = f"{cost / cumulative[kept[-1]]:.2f} times the exit before" if kept else ""
                reasons.append(before or "the first")
                kept.append(i)
                least = cost * self.ratio
        if not kept:
            warn(
                "No sample exits early: the backbone has no candidate for an exit at a cost of "
                f"{self.first:.3g} (first) to {1 / self.ratio:.3g} (1 / ratio) times that of its "
                f"end. {self._remedy(candidates.names[places[0]], cumulative)}"
            )
        kept.append(len(places) - 1)
        return placed_at(kept, places, candidates, repr(self), [*reasons, "the end"])

    def _remedy(self, first: str, cumulative: np.ndarray) -> str:
        """What to do where there is no candidate, given the name of the first and all costs."""
        if len(cumulative) > 1 and cumulative[0] * self.ratio > cumulative[-1]:
            return (
                f"The first candidate, {first!r}, has {cumulative[0] / cumulative[-1]:.0%} of it. "
                "Give fewer features, as by feature selection or TruncatedSVD, or a backbone with "
                "more layers behind it."
            )
        return (
            "list_exits(backbone, X) lists candidates, and TracedBackbone(module) finds those "
            "inside of a module, such as one of a chain."
        )

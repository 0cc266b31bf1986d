"""Placement by exhaustive search for the best exits under a budget."""

from __future__ import annotations

from itertools import combinations
from math import comb
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval

from skearlyexit._utils._warnings import warn
from skearlyexit.calibration._best_at_budget import best_at_budget
from skearlyexit.calibration._frontier import ROUNDING
from skearlyexit.placement._held_out import HeldOut
from skearlyexit.placement._probing import Choice, ProbingPlacement


class ExactPlacement(ProbingPlacement):
    """Exhaustive search for the exits with the highest accuracy under a budget.

    A head is trained at each candidate, and evaluated on held-out samples. For every subset of the
    candidates with `n_exits` exits, the thresholds with the highest accuracy are sought for which
    the mean cost is at most `budget`. The subset with the highest accuracy is chosen, among equal
    ones that with the lowest cost, and among these the one whose exits come first. The cost of a
    subset includes only the heads and decisions of its exits.

    The search over the subsets is exhaustive. Thresholds are searched on a grid of quantiles of the
    scores: with up to four exits, all combinations of at least 40 quantiles per exit; with more
    exits, all combinations of fewer quantiles, and then one threshold at a time.

    Parameters
    ----------
    n_exits : int, default=4
        Number of exits, including the last.
    budget : float, default=0.5
        Maximum mean cost per sample, in units of the cost of the plain network.
    max_candidates : int, default=12
        Maximum number of candidates, including the end of the network. If there are more, those at
        equal shares of the cost are used.
    max_subsets : int, default=1000
        Maximum number of subsets. An error is raised if there are more. With 2,000 held-out
        samples, a subset takes about 0.01 seconds with up to four exits, and 0.05 seconds with
        more.

    Examples
    --------
    >>> ExactPlacement(3, budget=0.4)
    ExactPlacement(budget=0.4, n_exits=3)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_exits": [Interval(Integral, 1, None, closed="left")],
        "budget": [Interval(Real, 0, None, closed="neither")],
        "max_candidates": [Interval(Integral, 2, None, closed="left")],
        "max_subsets": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_exits: int = 4,
        *,
        budget: float = 0.5,
        max_candidates: int = 12,
        max_subsets: int = 1000,
    ) -> None:
        self.n_exits = n_exits
        self.budget = budget
        self.max_candidates = max_candidates
        self.max_subsets = max_subsets

    def _check_number(self, n_places: int) -> None:
        n_exits = min(self.n_exits, n_places)
        if n_exits < self.n_exits:
            warn(
                f"The backbone holds {n_exits} of the {self.n_exits} exits asked for: "
                f"ExactPlacement uses {n_places} candidates. Ask for fewer exits, or raise "
                "'max_candidates' if the network has more blocks."
            )
        n_subsets = comb(n_places - 1, n_exits - 1)
        if n_subsets > self.max_subsets:
            raise ValueError(
                f"ExactPlacement would have to try {n_subsets} subsets for {n_exits} exits "
                f"among {n_places} candidates, but 'max_subsets' is {self.max_subsets}. Lower "
                "'max_candidates' or 'n_exits', or raise 'max_subsets'."
            )

    def _choose(self, held_out: HeldOut) -> Choice:
        end = held_out.n_places - 1
        subsets = list(combinations(range(end), min(self.n_exits, end + 1) - 1))
        least = np.inf
        # Accuracy and cost of each subset, rounded so that equal ones compare as equal.
        ranks = []
        for subset in subsets:
            data = held_out.calibration_data([*subset, end])
            least = min(least, float(data.costs[0]))
            if data.costs[0] <= self.budget * ROUNDING:
                _, cost, accuracy = best_at_budget(data, self.budget)
                ranks.append((-round(accuracy, 12), round(cost, 12), subset))
        if not ranks:
            raise ValueError(
                "The 'budget' parameter of ExactPlacement must be at least the cost of the first "
                f"exit. Got {self.budget!r} instead; the smallest budget that {self.n_exits} exits "
                f"among {end + 1} candidates can meet is {least:.4g}."
            )
        ranks.sort()
        best = ranks[0][2]
        figures, reasons = [], []
        for i in range(end):
            inside, outside = (
                next((-loss for loss, _, subset in ranks if (i in subset) == wanted), np.nan)
                for wanted in (True, False)
            )
            figures.append({"best with": inside, "best without": outside})
            reasons.append(_reason(i in best, inside, outside))
        return Choice(best, reasons, figures)


def _reason(chosen: bool, inside: float, outside: float) -> str:
    if np.isnan(inside):
        return "no subset with it meets the budget"
    if not chosen:
        return f"accuracy at most {inside:.2%} with it, {outside:.2%} with the best exits"
    if np.isnan(outside):
        return f"accuracy {inside:.2%} with it; no other exits meet the budget"
    return f"accuracy {inside:.2%} with it, at most {outside:.2%} without it"

"""The best exits of all for a budget."""

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
    """The exits with which the most held-out rows are answered rightly under a budget.

    Heads are trained once at every candidate. Then for every subset of the candidates with the
    number of exits asked for, thresholds are sought under which the mean cost keeps the budget and
    the accuracy is highest, and the subset with the highest is taken: of equal ones the cheapest,
    and of these the one whose exits come first. Costs are those of each subset, with the heads and
    decisions that run in it.

    Every subset is looked at. Thresholds are sought on a grid: with up to four exits all
    combinations of 40 quantiles of the scores and more at each exit, with more exits fewer at once
    and then one exit at a time.

    Parameters
    ----------
    n_exits : int, default=4
        Number of exits, the last included.
    budget : float, default=0.5
        Largest mean cost per row, in units of the plain network.
    max_candidates : int, default=12
        Places to look at, the end included; of more, some at equal shares of the cost.
    max_subsets : int, default=1000
        Subsets that may be looked at; more raise an error. With 2,000 held-out rows one takes about
        a hundredth of a second with up to four exits, and five times that with more.

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
                f"ExactPlacement looks at {n_places} places. Ask for fewer exits, or raise "
                "'max_candidates' if the network has more blocks."
            )
        n_subsets = comb(n_places - 1, n_exits - 1)
        if n_subsets > self.max_subsets:
            raise ValueError(
                f"ExactPlacement would have to look at {n_subsets} subsets for {n_exits} exits "
                f"among {n_places} places, but 'max_subsets' is {self.max_subsets}. Lower "
                "'max_candidates' or 'n_exits', or raise 'max_subsets'."
            )

    def _choose(self, held_out: HeldOut) -> Choice:
        end = held_out.n_places - 1
        subsets = list(combinations(range(end), min(self.n_exits, end + 1) - 1))
        least = np.inf
        # Accuracy and cost of each subset; of equal accuracy to the last bit, the cheaper is first.
        ranks = []
        for subset in subsets:
            evidence = held_out.evidence([*subset, end])
            least = min(least, float(evidence.costs[0]))
            if evidence.costs[0] <= self.budget * ROUNDING:
                _, cost, accuracy = best_at_budget(evidence, self.budget)
                ranks.append((-round(accuracy, 12), round(cost, 12), subset))
        if not ranks:
            raise ValueError(
                "The 'budget' parameter of ExactPlacement must be at least the cost of the first "
                f"exit. Got {self.budget!r} instead; the smallest budget that {self.n_exits} exits "
                f"among {end + 1} places can meet is {least:.4g}."
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
        return "no subset with it keeps the budget"
    if not chosen:
        return f"with it {inside:.2%} are right at most, with the best exits {outside:.2%}"
    if np.isnan(outside):
        return f"with it {inside:.2%} are right; no other exits keep the budget"
    return f"with it {inside:.2%} are right, without it {outside:.2%} at most"

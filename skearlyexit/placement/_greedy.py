"""Exits kept one after the other, from the input up."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit.placement._held_out import HeldOut, careful_thresholds, reach
from skearlyexit.placement._probing import Choice, ProbingPlacement


class GreedyPlacement(ProbingPlacement):
    """Exits kept, from the input up, that leave no more than a share of the cost to be paid.

    Of the rows that reach candidate i, the share m goes on. An exit stays there if::

        (f + c + m g) / (f + g) <= max_share

    with f the cost of the stage that leads to it, from the last exit kept; g that of the stage that
    follows, to the next exit; and c that of its head with the decision. Nothing is decided yet
    about the candidates that follow, so that the next exit is the end of the network, whose head
    belongs to its stage, since the plain network runs it too. A candidate that is dropped lengthens
    the stage before the next one.

    The condition as printed in the survey is the same with (1 - m) c instead of c, the head being
    charged to the rows that leave only.

    Both know nothing of accuracy, so that thresholds have to keep it: each exit gets the lowest at
    which the rows that leave there lose at most `max_drop`. Thresholds come from every second
    held-out row, m from the others.

    Parameters
    ----------
    max_share : float, default=0.9
        Largest share that rows may still have to pay, on average, of the way from the last exit
        to the end; TH in the survey. At 1 an exit only has to save what its head costs.
    form : {"corrected", "printed"}, default="corrected"
        Whether the head is charged to all rows that reach the exit, or only to those that leave.
    max_drop : float, default=0.0
        Largest loss of accuracy against the end at each exit; see `EfficiencyTest`.
    max_candidates : int, default=16
        Places to look at, the end included; of more, some at equal shares of the cost.

    Notes
    -----
    If the stage that follows were taken to end at the next candidate, kept or not, an exit would
    have to pay for itself within it, and the more candidates there are, the fewer could.

    References
    ----------
    Scardapane, Scarpiniti, Baccarelli, Uncini, "Why should we add early exits to neural
    networks?", Cognitive Computation 2020 (eq. 5). Baccarelli, Scardapane, Scarpiniti, Momenzadeh,
    Uncini, "Optimized training and scalable implementation of conditional deep neural networks with
    early exits for fog-supported IoT applications", Information Sciences 2020.

    Examples
    --------
    >>> GreedyPlacement(0.8)
    GreedyPlacement(max_share=0.8)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "max_share": [Interval(Real, 0, 1, closed="both")],
        "form": [StrOptions({"corrected", "printed"})],
        "max_drop": [Interval(Real, 0, 1, closed="both")],
        "max_candidates": [Interval(Integral, 2, None, closed="left")],
    }

    def __init__(
        self,
        max_share: float = 0.9,
        form: str = "corrected",
        *,
        max_drop: float = 0.0,
        max_candidates: int = 16,
    ) -> None:
        self.max_share = max_share
        self.form = form
        self.max_drop = max_drop
        self.max_candidates = max_candidates

    def _choose(self, held_out: HeldOut) -> Choice:
        learn, judge = held_out.halves()
        stages, heads = held_out.stages, held_out.heads
        end = held_out.n_places - 1
        kept: list[int] = []
        reasons, figures = [], []
        stage = 0.0
        for i in range(end):
            trial = [*kept, i, end]
            thresholds = careful_thresholds(learn.evidence(trial), self.max_drop)
            here, onward = reach(judge.evidence(trial), thresholds)[-2:]
            passed = onward / here if here > 0 else 1.0
            stage += stages[i]
            rest = stages[i + 1 :].sum()
            charged = heads[i] if self.form == "corrected" else (1 - passed) * heads[i]
            share = (stage + charged + passed * rest) / max(stage + rest, 1e-300)
            figures.append(
                {
                    "threshold": thresholds[-1],
                    "reach": here,
                    "passed on": passed,
                    "stage": stage,
                    "head": heads[i],
                    "rest": rest,
                    "share paid": share,
                }
            )
            # Sides that are equal up to rounding are equal. Where no sample exits there is no exit.
            if share <= self.max_share + 1e-12 and passed < 1:
                kept.append(i)
                stage = 0.0
            reasons.append(_reason(figures[-1], self.max_share))
        return Choice(kept, reasons, figures)


def _reason(figures: dict[str, float], max_share: float) -> str:
    if np.isinf(figures["threshold"]):
        return "no threshold keeps the accuracy"
    if figures["reach"] == 0:
        return "no row gets there"
    return (
        f"{figures['share paid']:.1%} of the way to the end would be paid, "
        f"at most {max_share:.1%} may be"
    )

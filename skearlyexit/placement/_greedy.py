"""Greedy placement, from the input to the end of the network."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit.placement._held_out import HeldOut, careful_thresholds, reach
from skearlyexit.placement._probing import Choice, ProbingPlacement


class GreedyPlacement(ProbingPlacement):
    """Greedy placement, which decides on one candidate after another from the input on.

    A head is trained at each candidate, and evaluated on held-out samples. A candidate becomes an
    exit if some samples exit there, and if::

        (f + c + m g) / (f + g) <= max_share

    where f is the cost from the previous exit to the candidate, g the cost from the candidate to
    the end of the network, including the head there, c the cost of the head and the decision of the
    candidate, and m the share of the samples that continue among those that reach it. The left side
    is the mean cost of these samples from the previous exit on, as a share of that without an exit
    at the candidate.

    In the form printed by Scardapane et al., c is replaced by ``(1 - m) c``, which charges only the
    samples that exit with the cost of the head.

    The condition does not depend on the accuracy. Each exit therefore gets the lowest threshold for
    which the loss of accuracy is at most `max_drop`. Thresholds are chosen on one half of the
    held-out samples, and m is measured on the other half.

    Parameters
    ----------
    max_share : float, default=0.9
        Largest value of the left side of the condition, TH in Scardapane et al. With 1, an exit
        only has to save the cost of its head.
    form : {"corrected", "printed"}, default="corrected"
        Whether the cost of the head is charged to all samples that reach the exit (``c``), or only
        to those that exit (``(1 - m) c``).
    max_drop : float, default=0.0
        Largest loss of accuracy at each exit compared with the end of the network; see
        `EfficiencyTest`.
    max_candidates : int, default=16
        Maximum number of candidates, including the end of the network. If there are more, those at
        equal shares of the cost are used.

    Notes
    -----
    In the condition, g is the cost up to the end of the network, and not up to the next candidate.
    With the latter, an exit would have to save its cost before the next candidate, and the more
    candidates there are, the fewer exits do.

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
            thresholds = careful_thresholds(learn.calibration_data(trial), self.max_drop)
            here, onward = reach(judge.calibration_data(trial), thresholds)[-2:]
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
            # Differences due to rounding do not count. An exit at which no sample exits is useless.
            if share <= self.max_share + 1e-12 and passed < 1:
                kept.append(i)
                stage = 0.0
            reasons.append(_reason(figures[-1], self.max_share))
        return Choice(kept, reasons, figures)


def _reason(figures: dict[str, float], max_share: float) -> str:
    if np.isinf(figures["threshold"]):
        return "no threshold keeps the accuracy"
    if figures["reach"] == 0:
        return "no sample reaches it"
    return (
        f"{figures['share paid']:.1%} of the cost up to the end would be paid, "
        f"at most {max_share:.1%} may be"
    )

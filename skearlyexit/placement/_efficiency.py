"""Exits that save more than their heads cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit.placement._held_out import HeldOut, careful_thresholds, reach
from skearlyexit.placement._probing import Choice, ProbingPlacement


class EfficiencyTest(ProbingPlacement):
    """Exits at which exiting samples save more than the head costs those that pass.

    An exit stays if D (I - J) > H I: of the share I of the rows that reaches it, J goes on and pays
    D, the way to the next exit with the head there, while everybody who reached it has paid H, its
    head and the decision. As printed in the survey the right side is C J, with C the cumulative
    cost of exiting here: all that was computed before the exit is charged to the samples that go
    on, although they need it in any case. Late exits then pass only if nearly all samples exit.

    The test knows nothing of accuracy, so that thresholds have to keep it: each exit gets the
    lowest at which the rows that leave there lose at most `max_drop`. Thresholds come from every
    second held-out row, reach from the others.

    What an exit saves depends on the exits around it. Of the subsets of the candidates in which
    every exit passes, the one with the least mean cost is taken, and of equal ones the smallest. If
    there are too many subsets, all candidates are taken and the one that fails by most is dropped
    until all pass. If none passes, only the end of the network stays.

    Parameters
    ----------
    form : {"corrected", "printed"}, default="corrected"
        Whether the cost of the head is charged to all samples that reach the exit, or the
        cumulative cost of the exit to those that go on.
    max_drop : float, default=0.0
        Largest loss of accuracy against the end at each exit: the weight of the rows that leave
        there wrong and would be right at the end, less that of the rows for which it is the other
        way round, as a share of all rows. With several exits the losses may add up.
    max_candidates : int, default=16
        Places to look at, the end included; of more, some at equal shares of the cost.
    max_subsets : int, default=4096
        Subsets to look at. There are twice as many with each further candidate.

    References
    ----------
    Scardapane, Scarpiniti, Baccarelli, Uncini, "Why should we add early exits to neural
    networks?", Cognitive Computation 2020 (eq. 4). Panda, Sengupta, Roy, "Energy-efficient and
    improved image recognition with conditional deep learning", ACM Journal on Emerging Technologies
    in Computing Systems 2017.

    Examples
    --------
    >>> EfficiencyTest("printed", max_drop=0.01)
    EfficiencyTest(form='printed', max_drop=0.01)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "form": [StrOptions({"corrected", "printed"})],
        "max_drop": [Interval(Real, 0, 1, closed="both")],
        "max_candidates": [Interval(Integral, 2, None, closed="left")],
        "max_subsets": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        form: str = "corrected",
        *,
        max_drop: float = 0.0,
        max_candidates: int = 16,
        max_subsets: int = 4096,
    ) -> None:
        self.form = form
        self.max_drop = max_drop
        self.max_candidates = max_candidates
        self.max_subsets = max_subsets

    def _choose(self, held_out: HeldOut) -> Choice:
        bench = _Bench(held_out, self.form, self.max_drop)
        n_early = held_out.n_places - 1
        if 2**n_early <= self.max_subsets:
            return _best_of_all(bench, n_early)
        return _worst_dropped(bench, n_early)


@dataclass(frozen=True)
class _Trial:
    """The test at each of some exits.

    Attributes
    ----------
    exits : tuple of int
        Positions among the places, without the end.
    figures : dict of str to ndarray of shape (n_early_exits,)
        By the titles of the report.
    cost : float
        Mean cost of a row with these exits.
    """

    exits: tuple[int, ...]
    figures: dict[str, np.ndarray]
    cost: float

    @property
    def margin(self) -> np.ndarray:
        return self.figures["saved"] - self.figures["paid"]

    @property
    def passes(self) -> np.ndarray:
        # Sides that are equal up to rounding are equal.
        return np.asarray(self.margin > 1e-12)

    def of(self, exit_: int) -> dict[str, float]:
        at = self.exits.index(exit_)
        return {title: float(values[at]) for title, values in self.figures.items()}

    def sides(self, exit_: int) -> str:
        own = self.of(exit_)
        if np.isinf(own["threshold"]):
            return "no threshold keeps the accuracy"
        if own["reach"] == 0:
            return "no row gets there"
        return f"saves {own['saved']:.2%} of the network, is charged {own['paid']:.2%}"


class _Bench:
    """Tries subsets of the early places."""

    def __init__(self, held_out: HeldOut, form: str, max_drop: float) -> None:
        self.learn, self.judge = held_out.halves()
        self.heads = held_out.heads
        self.form = form
        self.max_drop = max_drop
        self.end = held_out.n_places - 1
        # Without memory, scores and so thresholds are the same in every subset.
        self.alone: np.ndarray | None = None
        if not held_out.probed.exit_rule.has_memory:
            self.alone = self._thresholds(range(self.end))

    def _thresholds(self, exits: Sequence[int]) -> np.ndarray:
        return careful_thresholds(self.learn.evidence([*exits, self.end]), self.max_drop)

    def trial(self, exits: Sequence[int]) -> _Trial:
        at = list(exits)
        thresholds = self._thresholds(at) if self.alone is None else self.alone[at]
        evidence = self.judge.evidence([*at, self.end])
        share = reach(evidence, thresholds)
        here, onward = share[:-1], share[1:]
        way, head = np.diff(evidence.costs), self.heads[at]
        charged = head * here if self.form == "corrected" else evidence.costs[:-1] * onward
        figures = {
            "threshold": thresholds,
            "reach": here,
            "passed on": np.divide(onward, here, out=np.full(len(at), np.nan), where=here > 0),
            "way on": way,
            "head": head,
            "saved": way * (here - onward),
            "paid": charged,
        }
        return _Trial(tuple(at), figures, float(evidence.costs[0] + way @ onward))


def _subsets(n_early: int) -> Iterator[tuple[int, ...]]:
    """All subsets, the small ones first."""
    for size in range(n_early + 1):
        yield from combinations(range(n_early), size)


def _best_of_all(bench: _Bench, n_early: int) -> Choice:
    best = bench.trial(())
    for exits in _subsets(n_early):
        trial = bench.trial(exits)
        if trial.passes.all() and trial.cost < best.cost - 1e-12:
            best = trial
    reasons, figures = [], []
    for i in range(n_early):
        trial = best if i in best.exits else bench.trial(sorted({*best.exits, i}))
        reasons.append(trial.sides(i) if trial is best else _why_not(trial, best, i))
        figures.append(trial.of(i))
    return Choice(best.exits, reasons, figures)


def _why_not(trial: _Trial, best: _Trial, added: int) -> str:
    """What speaks against adding an exit to the best ones."""
    told = trial.sides(added)
    if not trial.passes[trial.exits.index(added)]:
        return told
    if not trial.passes.all():
        return f"{told}; but beside it another exit would no longer pay"
    return f"{told}; but rows would cost {trial.cost:.2%} instead of {best.cost:.2%}"


def _worst_dropped(bench: _Bench, n_early: int) -> Choice:
    reasons: dict[int, str] = {}
    figures: dict[int, dict[str, float]] = {}
    trial = bench.trial(range(n_early))
    while not trial.passes.all():
        worst = trial.exits[int(np.argmin(trial.margin))]
        reasons[worst] = f"{trial.sides(worst)}; dropped when {len(trial.exits)} were left"
        figures[worst] = trial.of(worst)
        trial = bench.trial([exit_ for exit_ in trial.exits if exit_ != worst])
    for exit_ in trial.exits:
        reasons[exit_] = trial.sides(exit_)
        figures[exit_] = trial.of(exit_)
    order = range(n_early)
    return Choice(trial.exits, [reasons[i] for i in order], [figures[i] for i in order])

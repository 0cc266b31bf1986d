"""Placement by the efficiency test: exits that save more than their heads cost."""

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
    """Placement of exits that save more than their heads cost.

    A head is trained at each candidate, and evaluated on held-out samples. An exit passes the test
    if::

        D (I - J) > H I

    where I is the share of all samples that reach the exit, J the share that continue after it, H
    the cost of its head and decision, and D the cost from this exit to the next one, including the
    head and the decision there. In the form printed by Scardapane et al., the right side is
    ``C J``, where C is the cumulative cost of the exit. This charges the samples that continue with
    the cost of everything before the exit, which they need in any case. Late exits then pass only
    if nearly all samples exit there.

    The test does not depend on the accuracy. Each exit therefore gets the lowest threshold for
    which the loss of accuracy is at most `max_drop`. Thresholds are chosen on one half of the
    held-out samples, and the shares are measured on the other half.

    The savings of an exit depend on the other exits. Of all subsets of the candidates in which each
    exit passes the test, that with the lowest mean cost is chosen, and among equal ones that with
    the fewest exits. If there are more than `max_subsets` subsets, exits are removed one by one
    instead, starting with all candidates: the exit that fails the test by the largest margin first,
    until all exits pass. If no exit passes, only the end of the network remains.

    Parameters
    ----------
    form : {"corrected", "printed"}, default="corrected"
        Right side of the test: ``H I`` if ``"corrected"``, ``C J`` if ``"printed"``.
    max_drop : float, default=0.0
        Largest loss of accuracy at each exit compared with the end of the network: the weight of
        the samples that are wrong at the exit and correct at the end, minus the weight of those for
        which the opposite holds, as a share of the weight of all samples. The losses of several
        exits may add up.
    max_candidates : int, default=16
        Maximum number of candidates, including the end of the network. If there are more, those at
        equal shares of the cost are used.
    max_subsets : int, default=4096
        Maximum number of subsets that are tested. Each further candidate doubles their number.

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
    """Results of the test for a subset of the candidates.

    Attributes
    ----------
    exits : tuple of int
        Positions among the candidates, without the end.
    figures : dict of str to ndarray of shape (n_early_exits,)
        Columns of the report.
    cost : float
        Mean cost per sample with these exits.
    """

    exits: tuple[int, ...]
    figures: dict[str, np.ndarray]
    cost: float

    @property
    def margin(self) -> np.ndarray:
        return self.figures["saved"] - self.figures["paid"]

    @property
    def passes(self) -> np.ndarray:
        # Differences due to rounding do not count.
        return np.asarray(self.margin > 1e-12)

    def of(self, exit_: int) -> dict[str, float]:
        at = self.exits.index(exit_)
        return {title: float(values[at]) for title, values in self.figures.items()}

    def sides(self, exit_: int) -> str:
        own = self.of(exit_)
        if np.isinf(own["threshold"]):
            return "no threshold keeps the accuracy"
        if own["reach"] == 0:
            return "no sample reaches it"
        return f"saves {own['saved']:.2%} of the network, is charged {own['paid']:.2%}"


class _Bench:
    """Tests subsets of the candidates before the end."""

    def __init__(self, held_out: HeldOut, form: str, max_drop: float) -> None:
        self.learn, self.judge = held_out.halves()
        self.heads = held_out.heads
        self.form = form
        self.max_drop = max_drop
        self.end = held_out.n_places - 1
        # Without memory, scores and thus thresholds are the same in every subset.
        self.alone: np.ndarray | None = None
        if not held_out.probed.exit_rule.has_memory:
            self.alone = self._thresholds(range(self.end))

    def _thresholds(self, exits: Sequence[int]) -> np.ndarray:
        return careful_thresholds(self.learn.calibration_data([*exits, self.end]), self.max_drop)

    def trial(self, exits: Sequence[int]) -> _Trial:
        at = list(exits)
        thresholds = self._thresholds(at) if self.alone is None else self.alone[at]
        data = self.judge.calibration_data([*at, self.end])
        share = reach(data, thresholds)
        here, onward = share[:-1], share[1:]
        way, head = np.diff(data.costs), self.heads[at]
        charged = head * here if self.form == "corrected" else data.costs[:-1] * onward
        figures = {
            "threshold": thresholds,
            "reach": here,
            "passed on": np.divide(onward, here, out=np.full(len(at), np.nan), where=here > 0),
            "way on": way,
            "head": head,
            "saved": way * (here - onward),
            "paid": charged,
        }
        return _Trial(tuple(at), figures, float(data.costs[0] + way @ onward))


def _subsets(n_early: int) -> Iterator[tuple[int, ...]]:
    """All subsets of the candidates before the end, in order of their size."""
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
    """Reason against adding an exit to the best subset."""
    text = trial.sides(added)
    if not trial.passes[trial.exits.index(added)]:
        return text
    if not trial.passes.all():
        return f"{text}; but with it another exit would no longer pass"
    return f"{text}; but samples would cost {trial.cost:.2%} instead of {best.cost:.2%}"


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

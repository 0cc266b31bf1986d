"""Exits at which deciding row by row is better than any constant answer."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval

from skearlyexit.calibration import CalibrationData
from skearlyexit.placement._held_out import HeldOut
from skearlyexit.placement._probing import Choice, ProbingPlacement


class AdaptivePlacement(ProbingPlacement):
    """Exits at which leaving is worth deciding row by row.

    What a row loses is 1 if its answer is wrong, plus `price` times its cost. From the last exit
    back, each exit gets the threshold under which the rows that reach it lose least, given what
    becomes of those that go on. It is dropped unless that is better, by more than `min_gain`, than
    letting all of them leave there and than having no exit there, which saves its head. Dropping an
    exit, or another threshold, changes what the others are worth, so that this is repeated until
    nothing changes. Thresholds come from every second held-out row, what they are worth from the
    others.

    Parameters
    ----------
    price : float, default=0.1
        Loss of accuracy that running the whole network is worth: at 0.1, ten points.
    min_gain : float, default=0.0
        What an exit has to gain against both constants, as a mean over all rows.
    max_candidates : int, default=16
        Places to look at, the end included; of more, some at equal shares of the cost.

    Notes
    -----
    An exit at which everybody might as well leave is dropped too, as a place where nothing is
    decided. If that was the best there is to do, the network is longer than the price justifies;
    the report says at which exits. A lower price keeps them.

    References
    ----------
    Bolukbasi, Wang, Dekel, Saligrama, "Adaptive neural networks for efficient inference",
    ICML 2017.

    Examples
    --------
    >>> AdaptivePlacement(0.2)
    AdaptivePlacement(price=0.2)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "price": [Interval(Real, 0, None, closed="left")],
        "min_gain": [Interval(Real, 0, None, closed="left")],
        "max_candidates": [Interval(Integral, 2, None, closed="left")],
    }

    def __init__(
        self, price: float = 0.1, *, min_gain: float = 0.0, max_candidates: int = 16
    ) -> None:
        self.price = price
        self.min_gain = min_gain
        self.max_candidates = max_candidates

    def _choose(self, held_out: HeldOut) -> Choice:
        learn, judge = held_out.halves()
        end = held_out.n_places - 1
        kept = list(range(end))
        thresholds = dict.fromkeys(kept, np.inf)
        trials: dict[int, _Trial] = {}
        changed = True
        while changed:
            changed = False
            for i in reversed(tuple(kept)):
                at = kept.index(i)
                current = np.array([thresholds[j] for j in kept])
                current[at] = _best_threshold(
                    _Stay(learn.evidence([*kept, end]), current, at, self.price), current[at]
                )
                changed |= bool(current[at] != thresholds[i])
                thresholds[i] = float(current[at])
                stay = _Stay(judge.evidence([*kept, end]), current, at, self.price)
                trials[i] = stay.trial(current[at], self.price * held_out.heads[i])
                if not trials[i].gain > self.min_gain + 1e-12:
                    kept.remove(i)
                    changed = True
        return Choice(
            kept,
            [_reason(trials[i], i in kept, self.min_gain) for i in range(end)],
            [trials[i].figures for i in range(end)],
        )


@dataclass(frozen=True)
class _Trial:
    """What deciding at an exit is worth, losses being means over all rows."""

    threshold: float
    reach: float
    deciding: float
    always: float
    never: float

    @property
    def gain(self) -> float:
        return min(self.always, self.never) - self.deciding

    @property
    def figures(self) -> dict[str, float]:
        return {
            "threshold": self.threshold,
            "reach": self.reach,
            "deciding": self.deciding,
            "always": self.always,
            "never": self.never,
            "gain": self.gain,
        }


class _Stay:
    """What the rows that reach an exit lose if they leave there and if they go on."""

    def __init__(
        self, evidence: CalibrationData, thresholds: np.ndarray, at: int, price: float
    ) -> None:
        rows = np.flatnonzero(np.all(evidence.scores[:, :at] < thresholds[:at], axis=1))
        later = np.append(thresholds[at + 1 :], -np.inf)
        exits = at + 1 + np.argmax(evidence.scores[rows, at + 1 :] >= later, axis=1)
        weight = evidence.weight[rows] / evidence.weight.sum()
        self.scores = evidence.scores[rows, at]
        self.weight = weight
        self.leave = weight * (~evidence.correct[rows, at] + price * evidence.costs[at])
        self.go_on = weight * (~evidence.correct[rows, exits] + price * evidence.costs[exits])

    def trial(self, threshold: float, head: float) -> _Trial:
        leaves = self.scores >= threshold
        return _Trial(
            threshold,
            reach=float(self.weight.sum()),
            deciding=float(np.where(leaves, self.leave, self.go_on).sum()),
            always=float(self.leave.sum()),
            never=float((self.go_on - head * self.weight).sum()),
        )


def _best_threshold(stay: _Stay, current: float) -> float:
    """Threshold under which these rows lose least; the current one unless another is better."""
    order = np.argsort(-stay.scores, kind="stable")
    scores = stay.scores[order]
    # What exiting changes, for the sample of the highest score, for the two of them, and so on.
    change = np.cumsum((stay.leave - stay.go_on)[order])
    # Rows with equal scores leave together.
    change[np.append(scores[1:] == scores[:-1], False)[: len(scores)]] = np.inf
    values = np.concatenate([[0.0], change])
    best = int(np.argmin(values))
    now = int(np.sum(scores >= current))
    if values[best] >= values[now] - 1e-12:
        return current
    if best == len(scores):
        return 0.0  # a row less sure than all of these is no exception
    return float(scores[best - 1]) if best else np.inf


def _reason(trial: _Trial, kept: bool, min_gain: float) -> str:
    if trial.reach == 0:
        return "no row gets there"
    constant = "leaving always" if trial.always <= trial.never else "no exit"
    told = f"deciding per row gains {trial.gain:.4f} against {constant}"
    return told if kept else f"{told}, not more than {min_gain:g}"

"""Placement by the benefit of deciding for each sample whether it exits."""

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
    """Placement of exits at which deciding for each sample is better than a constant decision.

    A head is trained at each candidate, and evaluated on held-out samples. The loss of a sample is
    1 if its prediction is wrong and 0 otherwise, plus `price` times its cost. Starting with the
    last candidate before the end of the network, each exit gets the threshold that minimizes the
    loss of the samples that reach it, given the thresholds of the other exits. An exit is dropped
    unless its threshold reduces the mean loss by more than `min_gain`, compared both with all of
    these samples exiting there and with no exit there, which saves the cost of the head. This is
    repeated until nothing changes, since the benefit of an exit depends on the other exits and
    their thresholds. Thresholds are chosen on one half of the held-out samples, and their benefit
    is measured on the other half.

    Parameters
    ----------
    price : float, default=0.1
        Weight of the cost in the loss. With 0.1, running the whole network is worth 10 percentage
        points of accuracy.
    min_gain : float, default=0.0
        Reduction of the mean loss over all samples that an exit must exceed.
    max_candidates : int, default=16
        Maximum number of candidates, including the end of the network. If there are more, those at
        equal shares of the cost are used.

    Notes
    -----
    An exit is also dropped if it is best for all samples to exit there, since nothing is decided
    there. In this case the rest of the network is not worth its cost at this `price`; the placement
    report shows the exits concerned. A lower `price` keeps them.

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
                    _Stay(learn.calibration_data([*kept, end]), current, at, self.price),
                    current[at],
                )
                changed |= bool(current[at] != thresholds[i])
                thresholds[i] = float(current[at])
                stay = _Stay(judge.calibration_data([*kept, end]), current, at, self.price)
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
    """Mean losses over all samples with a threshold at an exit, and without a decision there."""

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
    """Losses of the samples that reach an exit, if they exit there and if they do not."""

    def __init__(
        self, data: CalibrationData, thresholds: np.ndarray, at: int, price: float
    ) -> None:
        rows = np.flatnonzero(np.all(data.scores[:, :at] < thresholds[:at], axis=1))
        later = np.append(thresholds[at + 1 :], -np.inf)
        exits = at + 1 + np.argmax(data.scores[rows, at + 1 :] >= later, axis=1)
        weight = data.weight[rows] / data.weight.sum()
        self.scores = data.scores[rows, at]
        self.weight = weight
        self.leave = weight * (~data.correct[rows, at] + price * data.costs[at])
        self.go_on = weight * (~data.correct[rows, exits] + price * data.costs[exits])

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
    """Threshold with the smallest loss; the current one unless another is better."""
    order = np.argsort(-stay.scores, kind="stable")
    scores = stay.scores[order]
    # Change of the loss if the sample with the highest score exits, the two highest, and so on.
    change = np.cumsum((stay.leave - stay.go_on)[order])
    # Samples with equal scores exit together.
    change[np.append(scores[1:] == scores[:-1], False)[: len(scores)]] = np.inf
    values = np.concatenate([[0.0], change])
    best = int(np.argmin(values))
    now = int(np.sum(scores >= current))
    if values[best] >= values[now] - 1e-12:
        return current
    if best == len(scores):
        return 0.0  # new samples with lower scores exit, too
    return float(scores[best - 1]) if best else np.inf


def _reason(trial: _Trial, kept: bool, min_gain: float) -> str:
    if trial.reach == 0:
        return "no sample reaches it"
    constant = "exiting always" if trial.always <= trial.never else "no exit"
    text = f"deciding per sample gains {trial.gain:.4f} against {constant}"
    return text if kept else f"{text}, not more than {min_gain:g}"

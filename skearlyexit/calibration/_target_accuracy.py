"""The cheapest answers of a given accuracy on the calibration rows."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit.calibration._base import OperatingPoint
from skearlyexit.calibration._evidence import CalibrationData
from skearlyexit.calibration._feedback import feedback_threshold
from skearlyexit.calibration._frontier import Frontier
from skearlyexit.calibration._metric import METRIC_CONSTRAINT, metric_frontier, value_at

#: Equally filled bins of the scores at an exit, and the least number of rows in each.
N_BINS, LEAST_ROWS = 20, 10


class TargetAccuracy(OperatingPoint):
    """Least accuracy, as seen on the calibration rows.

    Parameters
    ----------
    value : float
        The accuracy wanted, as a share of the rows.
    method : {"search", "feedback", "bins"}, default="search"
        ``"search"``: the cheapest point of the frontier. ``"feedback"``: one threshold for all
        exits, moved in proportion to the difference between the accuracy that it gives and the one
        wanted, until it settles. ``"bins"``: a row leaves where calibration rows about as sure were
        right as often as wanted; each exit is looked at by itself, and what the others lose or win
        does not count, so that rows that run to the end may spoil the whole.
    metric : str or callable, default="accuracy"
        What is to be reached: the name of a scikit-learn scorer that works on labels, or such a
        scorer; with ``"bins"`` only accuracy.

    References
    ----------
    Baccarelli, Scardapane, Scarpiniti, Momenzadeh, Uncini, "Optimized training and scalable
    implementation of conditional deep neural networks with early exits for fog-supported IoT
    applications", Information Sciences 2020, for ``"feedback"``.

    Mofakhami et al., "Performance control in early exiting to deploy large models at the same cost
    of smaller ones", 2024, for ``"bins"``.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone, TargetAccuracy
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=32, hidden=32), exits=["stem"],
    ...     operating_point=TargetAccuracy(0.87), calibration=0.2, max_epochs=5, random_state=0)
    >>> point = clf.fit(X, y).operating_point_
    >>> point.request, point.n_rows, bool(point.accuracy > 0.87)
    (TargetAccuracy(value=0.87), 360, True)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "value": [Interval(Real, None, None, closed="neither")],
        "method": [StrOptions({"search", "feedback", "bins"})],
        "metric": METRIC_CONSTRAINT,
    }

    def __init__(
        self,
        value: float,
        *,
        method: str = "search",
        metric: str | Callable[..., float] = "accuracy",
    ) -> None:
        self.value = value
        self.method = method
        self.metric = metric

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.method == "bins" and self.metric != "accuracy":
            raise ValueError(
                "TargetAccuracy counts right answers in method='bins', so that its 'metric' must "
                f"be 'accuracy'. Got {self.metric!r} instead; take method='search'."
            )

    def thresholds(self, evidence: CalibrationData, frontier: Frontier) -> np.ndarray:
        """Choose thresholds; see `OperatingPoint.thresholds`."""
        best = metric_frontier(evidence, frontier, self.metric)
        if best.accuracies[-1] < self.value - 1e-12:
            raise ValueError(
                f"TargetAccuracy({self.value}) cannot be met on the calibration rows: the best "
                f"that any thresholds reach is {best.accuracies[-1]:.4f}, at a cost of "
                f"{best.costs[-1]:.3f} of the plain backbone. Ask for that or less."
            )
        if self.method == "search":
            return best.thresholds[best.at_accuracy(self.value)]
        if self.method == "feedback":
            last_exit = np.full(len(evidence.scores), evidence.n_exits - 1)
            at_the_end = value_at(evidence, last_exit, self.metric)
            if at_the_end < self.value:
                raise ValueError(
                    f"TargetAccuracy({self.value}, method='feedback') cannot be met by one "
                    f"threshold for all exits: the last exit reaches {at_the_end:.4f}. Take "
                    "method='search', or ask for that or less."
                )
            return feedback_threshold(evidence, self.value, self.metric)
        return np.array(
            [_threshold_of_bins(evidence, i, self.value) for i in range(evidence.n_exits - 1)]
        )


def _threshold_of_bins(evidence: CalibrationData, exit_: int, target: float) -> float:
    """Least score from which on every bin of rows is right as often as wanted."""
    order = np.argsort(-evidence.scores[:, exit_], kind="stable")
    scores = evidence.scores[order, exit_]
    n_bins = max(1, min(N_BINS, len(scores) // LEAST_ROWS))
    edges = np.linspace(0, len(scores), n_bins + 1).round().astype(int)
    threshold, start = np.inf, 0
    for stop in edges[1:]:
        # Rows of equal score are in one bin.
        while stop < len(scores) and scores[stop] == scores[stop - 1]:
            stop += 1
        if stop <= start:
            continue
        rows = order[start:stop]
        right = np.average(evidence.correct[rows, exit_], weights=evidence.weight[rows])
        if right < target - 1e-12:
            break
        threshold, start = float(scores[stop - 1]), stop
    return 0.0 if start == len(scores) else threshold

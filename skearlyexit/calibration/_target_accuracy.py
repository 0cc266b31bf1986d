"""Operating point: a minimum accuracy on the calibration samples."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit.calibration._base import OperatingPoint
from skearlyexit.calibration._calibration_data import CalibrationData
from skearlyexit.calibration._compute_frontier import frontier_by
from skearlyexit.calibration._feedback import feedback_threshold
from skearlyexit.calibration._frontier import Frontier
from skearlyexit.calibration._metric import METRIC_CONSTRAINT, cheapest, metric_frontier, value_at

#: Number of bins with equally many scores at an exit, and minimum number of samples in each.
N_BINS, LEAST_ROWS = 20, 10


class TargetAccuracy(OperatingPoint):
    """Minimum accuracy on the calibration samples.

    Among the thresholds that satisfy the criterion, those with the lowest mean cost are chosen.
    Since they are chosen and evaluated on the same samples, the accuracy on new samples is lower on
    average.

    Parameters
    ----------
    value : float
        Minimum accuracy, or minimum value of `metric`. If no thresholds reach it on the calibration
        samples, an error is raised.
    method : {"frontier", "search", "feedback", "bins"}, default="frontier"
        How the thresholds are chosen:

        - ``"frontier"``: the cheapest thresholds of the frontier; see `compute_frontier`.
        - ``"search"``: the cheapest of all that a search finds. With few samples, the accuracy on
          new samples is considerably lower than that on the calibration samples.
        - ``"feedback"``: one threshold for all exits. It is changed in steps proportional to the
          difference between the target and the accuracy under the current threshold. The lowest
          threshold tried that satisfies the criterion is used.
        - ``"bins"``: the calibration samples are sorted into bins by their score at each exit. The
          threshold of the exit is the lowest score such that the head has at least the target
          accuracy in every bin above it. Each exit is considered on its own, and samples that exit
          at the last exit are not considered, so the accuracy of all samples may be lower.
    metric : str or callable, default="accuracy"
        Metric that has to reach `value`, in place of the accuracy: the name of a scikit-learn
        scorer or a scorer. It may depend on predicted labels and probabilities. With ``"bins"``,
        only ``"accuracy"`` is supported.

    See Also
    --------
    AccuracyDrop : Maximum loss of accuracy compared with the last exit.
    RiskControl : Bound with a guarantee for new samples.

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
    >>> point.request, point.n_samples, bool(point.accuracy > 0.87)
    (TargetAccuracy(value=0.87), 360, True)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "value": [Interval(Real, None, None, closed="neither")],
        "method": [StrOptions({"frontier", "search", "feedback", "bins"})],
        "metric": METRIC_CONSTRAINT,
    }

    def __init__(
        self,
        value: float,
        *,
        method: str = "frontier",
        metric: str | Callable[..., float] = "accuracy",
    ) -> None:
        self.value = value
        self.method = method
        self.metric = metric

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.method == "bins" and self.metric != "accuracy":
            raise ValueError(
                "The 'metric' of TargetAccuracy must be 'accuracy' with method='bins'. Got "
                f"{self.metric!r} instead; give method='frontier'."
            )

    def obstacle_to_regression(self) -> str:
        return "there is no accuracy; give ErrorRise(0.01)"

    def thresholds(self, data: CalibrationData, frontier: Frontier) -> np.ndarray:
        best = metric_frontier(data, frontier_by(self.method, data, frontier), self.metric)
        found = cheapest(data, best, self.metric, self.value)
        if found is None:
            values = [value_at(data, data.exits(row), self.metric) for row in best.thresholds]
            # A point with this value is found if it is asked for.
            reached = np.minimum(values, best.accuracies)
            at = int(reached.argmax())
            raise ValueError(
                f"TargetAccuracy({self.value}) cannot be met on the calibration samples: the best "
                f"that any thresholds reach is {reached[at]:.4f}, at a cost of "
                f"{best.costs[at]:.3f} of the plain network. Give at most this value."
            )
        if self.method in ("frontier", "search"):
            return found
        if self.method == "feedback":
            last_exit = np.full(len(data.scores), data.n_exits - 1)
            at_the_end = value_at(data, last_exit, self.metric)
            if at_the_end < self.value:
                raise ValueError(
                    f"TargetAccuracy({self.value}, method='feedback') cannot be met by one "
                    f"threshold for all exits: the last exit reaches {at_the_end:.4f}. Give "
                    "method='frontier', or at most this value."
                )
            return feedback_threshold(data, self.value, self.metric)
        return np.array([_threshold_of_bins(data, i, self.value) for i in range(data.n_exits - 1)])


def _threshold_of_bins(data: CalibrationData, exit_: int, target: float) -> float:
    """Lowest score such that every bin of samples above it has at least the target accuracy."""
    order = np.argsort(-data.scores[:, exit_], kind="stable")
    scores = data.scores[order, exit_]
    n_bins = max(1, min(N_BINS, len(scores) // LEAST_ROWS))
    edges = np.linspace(0, len(scores), n_bins + 1).round().astype(int)
    threshold, start = np.inf, 0
    for stop in edges[1:]:
        # Samples of equal score are in the same bin.
        while stop < len(scores) and scores[stop] == scores[stop - 1]:
            stop += 1
        if stop <= start:
            continue
        rows = order[start:stop]
        right = np.average(data.gains[rows, exit_], weights=data.weight[rows])
        if right < target - 1e-12:
            break
        threshold, start = float(scores[stop - 1]), stop
    return 0.0 if start == len(scores) else threshold

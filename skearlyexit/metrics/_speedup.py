"""What early exits save by the clock."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from time import perf_counter
from typing import Any

import numpy as np

from skearlyexit._utils._unwrap import last_step


@dataclass(frozen=True, eq=False)
class Speedup:
    """Times of a model that lets rows leave, and of the same network run to its end.

    Attributes
    ----------
    times : ndarray of shape (n_repeats,)
        Seconds for all rows with early exits.
    plain_times : ndarray of shape (n_repeats,)
        Seconds for all rows run to the end, each measured beside the one of the same index.
    seconds, plain_seconds : float
        Their medians.
    ratio : float
        Median of ``plain_times / times``: 2 is twice as fast.
    ratio_range : tuple of two floats
        Smallest and largest of these ratios.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.metrics import Speedup
    >>> print(Speedup(times=np.array([0.5, 0.4, 0.5]), plain_times=np.array([1.0, 1.2, 0.9])))
    2.00 times as fast as without early exits, 1.80 to 3.00 in 3 repeats (0.5 s, not 1 s)
    """

    times: np.ndarray
    plain_times: np.ndarray

    @property
    def seconds(self) -> float:
        return float(np.median(self.times))

    @property
    def plain_seconds(self) -> float:
        return float(np.median(self.plain_times))

    @property
    def ratio(self) -> float:
        return float(np.median(self.plain_times / self.times))

    @property
    def ratio_range(self) -> tuple[float, float]:
        ratios = self.plain_times / self.times
        return float(ratios.min()), float(ratios.max())

    def __str__(self) -> str:
        low, high = self.ratio_range
        return (
            f"{self.ratio:.2f} times as fast as without early exits, {low:.2f} to {high:.2f} in "
            f"{len(self.times)} repeats ({self.seconds:.3g} s, not {self.plain_seconds:.3g} s)"
        )


def speedup(
    estimator: Any,
    X: Any,
    *,
    threshold: Any = None,
    budget: Any = None,
    n_repeats: int = 7,
) -> Speedup:
    """Time `predict` with early exits against the same network without.

    Without means ``predict(threshold=inf)``: no sample exits early, and no head but the last runs,
    as far as policy and combination can do without the others. Both are called once before, and
    then in turns, each first in every other turn, so that a machine that slows down or is busy
    slows both.

    Parameters
    ----------
    estimator : EarlyExitClassifier or Pipeline
        Fitted. Of a pipeline, the steps before the classifier are timed too, in both.
    X : array-like of shape (n_samples, ...)
        Rows like those that the model will be asked about, and as many at a time: a single row
        gains other than a thousand.
    threshold : float or sequence of float, default=None
    budget : float or Budget, default=None
        As in `EarlyExitClassifier.predict`; with neither, the operating point in force.
    n_repeats : int, default=7

    Returns
    -------
    speedup : Speedup

    Raises
    ------
    TypeError, ValueError
        If the estimator is of another kind, or an argument does not fit.

    Notes
    -----
    The mean cost counts operations, the clock everything. They differ where choosing the rows that
    go on, or a scikit-learn head, takes longer than a stage.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.metrics import speedup
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=32, hidden=32), calibration=None, max_epochs=2, random_state=0)
    >>> found = speedup(clf.fit(X, y), X, threshold=0.5, n_repeats=3)
    >>> found.times.shape, found.ratio > 0
    ((3,), True)
    """
    if not isinstance(n_repeats, Integral) or n_repeats < 1:
        raise ValueError(
            f"'n_repeats' must be an integer of at least 1. Got {n_repeats!r} instead."
        )
    last_step(estimator, X[:1])  # refuses what has no exits
    options = ({"threshold": threshold, "budget": budget}, {"threshold": np.inf})
    for arguments in options:  # the first call may allocate, or start threads
        estimator.predict(X, **arguments)
    times = np.empty((2, n_repeats))
    for turn in range(n_repeats):
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            start = perf_counter()
            estimator.predict(X, **options[which])
            times[which, turn] = perf_counter() - start
    return Speedup(*times)

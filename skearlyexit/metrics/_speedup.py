"""Measured speedup by early exits."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from time import perf_counter
from typing import Any

import numpy as np

from skearlyexit._utils._unwrap import last_step


@dataclass(frozen=True, eq=False)
class Speedup:
    """Measured times of predictions with and without early exits.

    Parameters
    ----------
    times : ndarray of shape (n_repeats,)
        Seconds for all samples with early exits, in each repetition.
    plain_times : ndarray of shape (n_repeats,)
        Seconds for all samples without early exits, in each repetition.

    Attributes
    ----------
    seconds : float
        Median of `times`.
    plain_seconds : float
        Median of `plain_times`.
    ratio : float
        Median of ``plain_times / times``. It is 2 if early exits make prediction twice as fast.
    ratio_range : tuple of (float, float)
        Minimum and maximum of ``plain_times / times``.

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
    """Measure the speedup of `predict` by early exits.

    The time is compared with that of ``predict(X, threshold=np.inf)``, where no sample exits early
    and only the last head is computed, unless the policy or combination needs the others. Both are
    called once before the measurement, and then alternately, so that changes in the load of the
    machine affect both.

    Parameters
    ----------
    estimator : EarlyExitClassifier or Pipeline
        Fitted classifier, or fitted pipeline whose last step is one. The time of a pipeline
        includes all steps.
    X : array-like of shape (n_samples, n_features) or (n_samples, ...)
        Samples, as many as will be predicted in a call: the speedup depends on their number.
    threshold : float or sequence of float, default=None
        One threshold for all exits, or one for each exit but the last, as in
        `EarlyExitClassifier.predict`.
    budget : float or Budget, default=None
        Maximum mean cost per sample, as in `EarlyExitClassifier.predict`. If neither `threshold`
        nor `budget` is given, the operating point of the model is used.
    n_repeats : int, default=7
        Number of measurements of each.

    Returns
    -------
    speedup : Speedup
        Measured times and their ratio.

    Raises
    ------
    TypeError
        If the estimator is not an early-exit classifier.
    ValueError
        If `n_repeats` is not a positive integer, or `threshold` or `budget` is invalid.

    Notes
    -----
    The speedup differs from the ratio of the mean costs, which count operations: selecting the
    samples that continue, or a scikit-learn head, may take longer than a stage.

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
    last_step(estimator, X[:1])  # raises an error for other estimators
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

"""Whether the exits are as often right as they say."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from skearlyexit.metrics._checks import checked_weight

STRATEGIES = ("uniform", "quantile")


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """Confidence against accuracy, by exit and bin.

    Attributes
    ----------
    edges : ndarray of shape (n_exits, n_bins + 1)
        Bin k holds confidences above ``edges[k]``, and up to ``edges[k + 1]``; the first one holds
        its lower edge too.
    confidence : ndarray of shape (n_exits, n_bins)
        Mean probability of the class that is answered; nan in empty bins.
    accuracy : ndarray of shape (n_exits, n_bins)
        Share of right answers; nan in empty bins.
    share : ndarray of shape (n_exits, n_bins)
        Share of the rows in each bin; sums to 1 over the bins.
    error : ndarray of shape (n_exits,)
        Expected calibration error: mean over rows of the distance between the confidence and the
        accuracy of their bin.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.metrics import ReliabilityCurve
    >>> curve = ReliabilityCurve(  # one exit, two bins
    ...     edges=np.array([[0.0, 0.5, 1.0]]), confidence=np.array([[0.5, 0.75]]),
    ...     accuracy=np.array([[0.5, 0.5]]), share=np.array([[0.5, 0.5]]))
    >>> curve.error
    array([0.125])
    """

    edges: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    share: np.ndarray

    @property
    def error(self) -> np.ndarray:
        distance = np.abs(self.accuracy - self.confidence)
        return np.asarray(np.where(self.share > 0, self.share * distance, 0.0).sum(axis=1))


def reliability_curve(
    probabilities: Any,
    y_index: Any,
    n_bins: int = 15,
    *,
    strategy: str = "uniform",
    weight: Any = None,
) -> ReliabilityCurve:
    """Accuracy against confidence at every exit.

    The confidence of an exit is the probability of the class that it answers with. Of a calibrated
    exit, answers given with a confidence of 0.8 are right in 80 % of the cases.

    Parameters
    ----------
    probabilities : array-like of shape (n_samples, n_exits, n_classes)
        Those of an exit table.
    y_index : array-like of shape (n_samples,), int
        True classes, as indices of the last axis.
    n_bins : int, default=15
        Number of bins of each exit.
    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width over [0, 1], or bins that hold equal shares of the rows, as far as
        ties allow. Heads are mostly sure, so that bins of equal width are mostly empty; with equal
        shares the error depends less on the number of bins.
    weight : array-like of shape (n_samples,), default=None
        Sample weights.

    Returns
    -------
    curve : ReliabilityCurve

    Raises
    ------
    ValueError
        If shapes do not fit, probabilities are not in [0, 1], an index is none of a class, there
        is no bin or strategy of that kind, or no row has a positive weight.

    See Also
    --------
    expected_calibration_error : One number for each exit.
    sklearn.calibration.calibration_curve : For one binary classifier, without weights.
    skearlyexit.inspection.ReliabilityDisplay : The picture.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.metrics import reliability_curve
    >>> probabilities = np.array([[[0.9, 0.1]], [[0.8, 0.2]], [[0.3, 0.7]], [[0.4, 0.6]]])
    >>> curve = reliability_curve(probabilities, [0, 1, 1, 1], n_bins=4)
    >>> curve.accuracy
    array([[nan, nan, 1. , 0.5]])
    >>> curve.error.round(6)
    array([0.35])
    """
    values, y_index = _checked_probabilities(probabilities, y_index)
    weight = checked_weight(weight, values)
    if not isinstance(n_bins, Integral) or n_bins < 1:
        raise ValueError(f"'n_bins' must be an integer of at least 1. Got {n_bins!r} instead.")
    if strategy not in STRATEGIES:
        raise ValueError(f"'strategy' must be one of {STRATEGIES}. Got {strategy!r} instead.")
    used = weight > 0
    values, y_index, weight = values[used], y_index[used], weight[used]
    correct = values.argmax(axis=2) == y_index[:, None]
    confidence = values.max(axis=2)
    grid = np.linspace(0.0, 1.0, n_bins + 1)
    edges = np.tile(grid, (values.shape[1], 1))
    if strategy == "quantile":
        # This method alone takes weights, under which a row of weight 2 is two rows.
        inner = np.quantile(confidence, grid[1:-1], 0, weights=weight, method="inverted_cdf")
        edges[:, 1:-1] = inner.T
    sums = np.zeros((3, values.shape[1], n_bins))
    for exit_, surely in enumerate(confidence.T):
        bins = np.searchsorted(edges[exit_, 1:-1], surely, side="left")
        for total, value in zip(sums, (1.0, surely, correct[:, exit_]), strict=True):
            total[exit_] = np.bincount(bins, weight * value, minlength=n_bins)
    mass = np.where(sums[0] > 0, sums[0], np.nan)
    return ReliabilityCurve(edges, sums[1] / mass, sums[2] / mass, sums[0] / weight.sum())


def expected_calibration_error(
    probabilities: Any,
    y_index: Any,
    n_bins: int = 15,
    *,
    strategy: str = "uniform",
    weight: Any = None,
) -> np.ndarray:
    """Distance between confidence and accuracy, at every exit.

    Parameters
    ----------
    probabilities : array-like of shape (n_samples, n_exits, n_classes)
        Those of an exit table.
    y_index : array-like of shape (n_samples,), int
        True classes, as indices of the last axis.
    n_bins : int, default=15
    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width, or with equal shares of the rows; see `reliability_curve`.
    weight : array-like of shape (n_samples,), default=None
        Sample weights.

    Returns
    -------
    error : ndarray of shape (n_exits,)
        Mean over rows of the absolute difference of mean confidence and accuracy in their bin,
        between 0 and 1.

    Raises
    ------
    ValueError
        As in `reliability_curve`.

    Notes
    -----
    With few rows in a bin the accuracy there is off by chance, so that even a calibrated exit has
    an error above 0. Compare exits on the same rows and bins.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.metrics import expected_calibration_error
    >>> probabilities = np.array([[[0.9, 0.1]], [[0.9, 0.1]]])
    >>> expected_calibration_error(probabilities, [0, 1]).round(6)
    array([0.4])
    """
    return reliability_curve(probabilities, y_index, n_bins, strategy=strategy, weight=weight).error


def _checked_probabilities(probabilities: Any, y_index: Any) -> tuple[np.ndarray, np.ndarray]:
    values, y_index = np.asarray(probabilities, dtype=np.float64), np.asarray(y_index)
    if values.ndim != 3 or not values.size:
        raise ValueError(
            "'probabilities' must be of shape (n_samples, n_exits, n_classes), none of them 0. Got "
            f"an array of shape {values.shape}. Of one classifier give `probabilities[:, None]`."
        )
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"'probabilities' must be in [0, 1]. Got values from {values.min()} to {values.max()}."
        )
    n_samples, _, n_classes = values.shape
    if y_index.shape != (n_samples,) or y_index.dtype.kind not in "iu":
        raise ValueError(
            f"'y_index' must hold {n_samples} integers, one for each row. Got an array of "
            f"{y_index.dtype} of shape {y_index.shape}. Of labels give "
            "`np.searchsorted(classes, y)`."
        )
    if y_index.min() < 0 or y_index.max() >= n_classes:
        raise ValueError(
            f"'y_index' must lie between 0 and {n_classes - 1}, as there are {n_classes} classes. "
            f"Got indices from {y_index.min()} to {y_index.max()}."
        )
    return values, y_index

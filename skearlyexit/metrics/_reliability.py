"""Reliability of the predicted probabilities of each exit."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from skearlyexit.metrics._checks import checked_weight

STRATEGIES = ("uniform", "quantile")


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """Reliability curve: confidence and accuracy of each exit, in bins of the confidence.

    Parameters
    ----------
    edges : ndarray of shape (n_exits, n_bins + 1)
        Edges of the bins of each exit. Bin k contains confidences larger than edge k and at most
        edge k + 1; the first bin also contains its lower edge.
    confidence : ndarray of shape (n_exits, n_bins)
        Mean probability of the predicted class in each bin. NaN in empty bins.
    accuracy : ndarray of shape (n_exits, n_bins)
        Accuracy in each bin. NaN in empty bins.
    share : ndarray of shape (n_exits, n_bins)
        Share of the samples in each bin. The sum over the bins is 1.

    Attributes
    ----------
    error : ndarray of shape (n_exits,)
        Expected calibration error of each exit: absolute difference of confidence and accuracy,
        averaged over the bins with weights `share`.

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
    """Compute accuracy against confidence at every exit.

    The confidence is the predicted probability of the predicted class. An exit is calibrated if, of
    all predictions with a confidence of 0.8, 80 % are correct, and likewise for other values.

    Parameters
    ----------
    probabilities : array-like of shape (n_samples, n_exits, n_classes)
        Predicted probabilities at each exit, such as those of an exit table.
    y_index : array-like of shape (n_samples,), int
        Index of the true class of each sample.
    n_bins : int, default=15
        Number of bins for each exit.
    strategy : {"uniform", "quantile"}, default="uniform"
        Strategy used to define the widths of the bins:

        - ``"uniform"``: bins of equal width over [0, 1]. Since most confidences are high, many bins
          are nearly empty.
        - ``"quantile"``: bins with equal shares of the samples, except for ties. The error depends
          less on the number of bins.
    weight : array-like of shape (n_samples,), default=None
        Sample weights.

    Returns
    -------
    curve : ReliabilityCurve
        Confidence, accuracy and share of the samples in each bin.

    Raises
    ------
    ValueError
        If shapes do not match, probabilities are not in [0, 1], an index is not that of a class,
        `n_bins` or `strategy` is invalid, or no sample has a positive weight.

    See Also
    --------
    expected_calibration_error : Expected calibration error of each exit.
    sklearn.calibration.calibration_curve : Curve of a single binary classifier, without weights.
    skearlyexit.inspection.ReliabilityDisplay : Visualization.

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
        # The only method that supports weights; a sample of weight 2 counts as two samples.
        inner = np.quantile(confidence, grid[1:-1], 0, weights=weight, method="inverted_cdf")
        edges[:, 1:-1] = inner.T
    sums = np.zeros((3, values.shape[1], n_bins))
    for exit_, largest in enumerate(confidence.T):
        bins = np.searchsorted(edges[exit_, 1:-1], largest, side="left")
        for total, value in zip(sums, (1.0, largest, correct[:, exit_]), strict=True):
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
    """Compute the expected calibration error of every exit.

    It is the absolute difference between mean confidence and accuracy in bins of the confidence,
    averaged over the bins with weights proportional to the number of samples.

    Parameters
    ----------
    probabilities : array-like of shape (n_samples, n_exits, n_classes)
        Predicted probabilities at each exit, such as those of an exit table.
    y_index : array-like of shape (n_samples,), int
        Index of the true class of each sample.
    n_bins : int, default=15
        Number of bins for each exit.
    strategy : {"uniform", "quantile"}, default="uniform"
        Whether bins have equal width or equal shares of the samples; see `reliability_curve`.
    weight : array-like of shape (n_samples,), default=None
        Sample weights.

    Returns
    -------
    error : ndarray of shape (n_exits,)
        Expected calibration error of each exit, between 0 and 1.

    Raises
    ------
    ValueError
        As in `reliability_curve`.

    See Also
    --------
    reliability_curve : Accuracy against confidence.

    Notes
    -----
    In bins with few samples the accuracy varies randomly, so the error is above 0 even for a
    calibrated exit. Compare exits on the same samples and with the same bins.

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
            f"an array of shape {values.shape}. For one classifier give `probabilities[:, None]`."
        )
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"'probabilities' must be in [0, 1]. Got values from {values.min()} to {values.max()}."
        )
    n_samples, _, n_classes = values.shape
    if y_index.shape != (n_samples,) or y_index.dtype.kind not in "iu":
        raise ValueError(
            f"'y_index' must hold {n_samples} integers, one for each sample. Got an array of "
            f"{y_index.dtype} of shape {y_index.shape}. For labels give "
            "`np.searchsorted(classes, y)`."
        )
    if y_index.min() < 0 or y_index.max() >= n_classes:
        raise ValueError(
            f"'y_index' must lie between 0 and {n_classes - 1}, as there are {n_classes} classes. "
            f"Got indices from {y_index.min()} to {y_index.max()}."
        )
    return values, y_index

"""Decrease of the probability of the true class from exit to exit."""

from __future__ import annotations

from typing import Any

import numpy as np

from skearlyexit.metrics._checks import checked_matrix, checked_weight


def monotonicity(
    true_class_probability: Any,
    tolerance: Any = (0.01, 0.05, 0.1, 0.2, 0.5),
    weight: Any = None,
) -> Any:
    """Share of samples whose probability of the true class decreases at a later exit.

    Ideally, predictions never get worse from one exit to the next, and the share is 0. The decrease
    of a sample is the largest difference between its probability at an exit and at any later exit.

    Parameters
    ----------
    true_class_probability : array-like of shape (n_samples, n_exits)
        Probability of the true class at each exit, in [0, 1]. From an exit table, it is
        ``table.probabilities[np.arange(len(y)), :, y]``, with class indices y.
    tolerance : float or array-like of shape (n_tolerances,), default=(0.01, 0.05, 0.1, 0.2, 0.5)
        Samples are counted if the decrease of the probability is larger than this.
    weight : array-like of shape (n_samples,), default=None
        Sample weights.

    Returns
    -------
    share : float or ndarray of shape (n_tolerances,)
        Share of the samples for each value of `tolerance`, of the same shape.

    Raises
    ------
    ValueError
        If shapes do not match, a probability is not in [0, 1], a tolerance is negative, or no
        sample has a positive weight.

    See Also
    --------
    overthinking : Samples that are classified correctly at some exit and not at the last one.

    References
    ----------
    Jazbec, Allingham, Zhang, Nalisnick, "Towards anytime classification in early-exit
    architectures by enforcing conditional monotonicity", NeurIPS 2023.

    Examples
    --------
    >>> from skearlyexit.metrics import monotonicity
    >>> monotonicity([[0.2, 0.5, 0.9], [0.7, 0.3, 0.6]], tolerance=[0.1, 0.5])
    array([0.5, 0. ])
    """
    probability = checked_matrix(true_class_probability, "true_class_probability")
    if probability.min() < 0 or probability.max() > 1:
        raise ValueError(
            "'true_class_probability' must be in [0, 1]. Got values from "
            f"{probability.min()} to {probability.max()}."
        )
    tolerance = np.asarray(tolerance, dtype=np.float64)
    if not (tolerance >= 0).all():
        raise ValueError(f"'tolerance' must not be negative. Got {tolerance.tolist()}.")
    weight = checked_weight(weight, probability)
    fall = (np.maximum.accumulate(probability, axis=1) - probability).max(axis=1)
    share = np.average(fall[:, None] > tolerance.ravel(), axis=0, weights=weight)
    return share.reshape(tolerance.shape) if tolerance.ndim else float(share[0])

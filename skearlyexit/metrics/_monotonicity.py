"""Whether later exits know what earlier ones knew."""

from __future__ import annotations

from typing import Any

import numpy as np

from skearlyexit.metrics._checks import checked_matrix, checked_weight


def monotonicity(
    true_class_probability: Any,
    tolerance: Any = (0.01, 0.05, 0.1, 0.2, 0.5),
    weight: Any = None,
) -> Any:
    """Share of rows whose probability of the true class falls from some exit to a later one.

    Of a network that may be stopped at any exit one expects that it never gets worse by going on.
    The fall of a row is the largest difference between an exit and any later one; 0 is the best
    share.

    Parameters
    ----------
    true_class_probability : array-like of shape (n_samples, n_exits)
        In [0, 1]; of a table ``table.probabilities[np.arange(len(y)), :, y]``.
    tolerance : float or array-like of shape (n_tolerances,), default=(0.01, 0.05, 0.1, 0.2, 0.5)
        Rows count that fall by more than this, in units of probability.
    weight : array-like of shape (n_samples,), default=None
        Sample weights.

    Returns
    -------
    share : float or ndarray of shape (n_tolerances,)
        Of the shape of `tolerance`.

    Raises
    ------
    ValueError
        If shapes do not fit, a probability is not in [0, 1], a tolerance is negative, or no row
        has a positive weight.

    See Also
    --------
    overthinking : Rows that are right at some exit and wrong at the end.

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

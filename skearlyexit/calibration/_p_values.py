"""P-values of the hypothesis that the risk is above a level."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.special import betainc, xlogy

#: Seed of the order of the samples in the betting test.
SEED = 0


def binomial_p_value(risks: np.ndarray, n_samples: float, level: float) -> np.ndarray:
    """Probability of at most this many losses among `n_samples` samples if the risk is `level`.

    The binomial distribution function, extended to real numbers. It is exact for losses of 0 and 1,
    and valid only for samples of equal weight.

    Parameters
    ----------
    risks : ndarray
        Mean losses.
    n_samples : float
    level : float

    Returns
    -------
    p_values : ndarray
    """
    losses = np.clip(risks * n_samples, 0.0, n_samples)
    # Numbers of losses may differ from integers by rounding.
    rounded = np.round(losses)
    losses = np.where(np.abs(losses - rounded) < 1e-9 * n_samples, rounded, losses)
    remaining = np.maximum(n_samples - losses, 1e-300)
    return np.where(losses >= n_samples, 1.0, betainc(remaining, losses + 1.0, 1.0 - level))


def hoeffding_bentkus_p_value(risks: np.ndarray, n_samples: float, level: float) -> np.ndarray:
    """Minimum of the bounds of Hoeffding and of Bentkus, for any losses in [0, 1].

    It is valid only for samples of equal weight.

    Parameters
    ----------
    risks : ndarray
        Mean losses.
    n_samples : float
    level : float

    Returns
    -------
    p_values : ndarray

    References
    ----------
    Bates, Angelopoulos, Lei, Malik, Jordan, "Distribution-free, risk-controlling prediction sets",
    Journal of the ACM 2021.
    """
    below = np.minimum(risks, level)
    divergence = xlogy(below, below / level) + xlogy(1 - below, (1 - below) / (1 - level))
    bentkus = np.e * binomial_p_value(
        np.ceil(risks * n_samples - 1e-9 * n_samples) / n_samples, n_samples, level
    )
    return np.minimum(np.minimum(np.exp(-n_samples * divergence), bentkus), 1.0)


@cache
def _order(n_samples: int) -> np.ndarray:
    """Fixed random order of the samples."""
    return np.random.RandomState(SEED).permutation(n_samples)


def betting_p_value(losses: np.ndarray, level: float, weight: np.ndarray) -> float:
    """P-value of "the weighted mean of losses in [0, 1] is at least `level`", by betting.

    The stakes depend on the variance of the losses of previous samples, so the test is more
    powerful than bounds by the mean alone if the variance is small. The samples are in a fixed
    random order.

    The hypothesis tested is that ``E[weight * (losses - level)]`` is at least 0. The test is valid
    for any dependence between weights and losses, since the terms are bounded for all samples.

    Parameters
    ----------
    losses : ndarray of shape (n_samples,)
    level : float
    weight : ndarray of shape (n_samples,)
        Weights divided by an upper bound of the weight of any sample, including new ones. The
        largest weight of these samples is not such a bound, and makes the test invalid.

    Returns
    -------
    p_value : float

    References
    ----------
    Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", Journal of
    the Royal Statistical Society B 2024.
    """
    order = _order(len(losses))
    excess = (weight * (losses - level))[order]
    # A stake may depend on previous samples only. The variance starts at its maximum, 0.25.
    n_before = np.arange(len(losses))
    spread = (0.25 + np.append(0.0, np.cumsum(np.square(excess))[:-1])) / (n_before + 1)
    stake = np.minimum(np.sqrt(2 * np.log(10) / (len(losses) * spread)), 0.75 / (1 - level))
    capital = np.cumsum(np.log1p(-stake * excess))
    return float(np.exp(-max(0.0, capital.max())))

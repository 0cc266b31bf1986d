"""How likely so little loss would be seen if the risk were too large."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.special import betainc, xlogy

#: Seed of the order in which the betting test sees the rows.
SEED = 0


def binomial_p_value(risks: np.ndarray, n_rows: float, level: float) -> np.ndarray:
    """Probability of at most this many losses among `n_rows` if the risk were `level`.

    The binomial distribution function, written for numbers that need not be whole. It is exact for
    losses of 0 and 1, and holds for samples of equal weight only.

    Parameters
    ----------
    risks : ndarray
        Mean losses.
    n_rows : float
    level : float

    Returns
    -------
    p_values : ndarray
    """
    losses = np.clip(risks * n_rows, 0.0, n_rows)
    # Sums of weights are not whole in floating point, even where they are on paper.
    rounded = np.round(losses)
    losses = np.where(np.abs(losses - rounded) < 1e-9 * n_rows, rounded, losses)
    remaining = np.maximum(n_rows - losses, 1e-300)
    return np.where(losses >= n_rows, 1.0, betainc(remaining, losses + 1.0, 1.0 - level))


def hoeffding_bentkus_p_value(risks: np.ndarray, n_rows: float, level: float) -> np.ndarray:
    """The smaller of the bounds of Hoeffding and of Bentkus, for any losses in [0, 1].

    It holds for samples of equal weight only.

    Parameters
    ----------
    risks : ndarray
        Mean losses.
    n_rows : float
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
        np.ceil(risks * n_rows - 1e-9 * n_rows) / n_rows, n_rows, level
    )
    return np.minimum(np.minimum(np.exp(-n_rows * divergence), bentkus), 1.0)


@cache
def _order(n_rows: int) -> np.ndarray:
    """A fixed random order, drawn once."""
    return np.random.RandomState(SEED).permutation(n_rows)


def betting_p_value(losses: np.ndarray, level: float, weight: np.ndarray) -> float:
    """Test by betting against "the weighted mean of losses in [0, 1] is at least `level`".

    The stakes follow how much the losses seen so far vary, so that it is sharper than bounds that
    know the mean only where they vary little. Rows are taken in a fixed random order.

    What is tested is whether ``E[weight * (losses - level)]`` is at least 0, which is valid however
    weights and losses go together, since its terms are bounded whatever samples come.

    Parameters
    ----------
    losses : ndarray of shape (n_samples,)
    level : float
    weight : ndarray of shape (n_samples,)
        As shares of a weight that no sample can exceed, seen or not. The largest weight among
        these samples is no such bound: shares of it make the test invalid.

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
    # A stake may know the rows before only; it starts as if one of the widest spread had been seen.
    n_before = np.arange(len(losses))
    spread = (0.25 + np.append(0.0, np.cumsum(np.square(excess))[:-1])) / (n_before + 1)
    stake = np.minimum(np.sqrt(2 * np.log(10) / (len(losses) * spread)), 0.75 / (1 - level))
    capital = np.cumsum(np.log1p(-stake * excess))
    return float(np.exp(-max(0.0, capital.max())))

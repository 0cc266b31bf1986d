"""Thresholds of each exit for the same estimated risk at all exits."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from skearlyexit._utils._interrupts import quietly

#: Scores closer than this to 0 or 1 count as this close, so that their log-odds are finite.
NEAREST = 1e-6
#: Precision of the prior of the logarithm of the slope. Its mean is 0: if the score is the
#: probability of a correct prediction, the log-odds of an error are minus those of the score. On 24
#: models of twelve tables, `RiskControl` had a mean cost of 0.302 with 1, and of 0.295 with 10.
PRIOR = 10.0


def family_of_risks(
    scores: np.ndarray, losses: np.ndarray, weight: np.ndarray, levels: np.ndarray
) -> np.ndarray:
    """Thresholds of each exit at which the estimated risk of exiting there is at most a level.

    The same confidence can mean different risks at different exits. At each exit the expected loss
    is estimated by logistic regression on the log-odds of the score.

    Parameters
    ----------
    scores : ndarray of shape (n_samples, n_exits)
    losses : ndarray of shape (n_samples, n_exits)
        Negative losses count as 0.
    weight : ndarray of shape (n_samples,)
    levels : ndarray of shape (n_levels,)
        Levels in ascending order, from 0 to 1.

    Returns
    -------
    family : ndarray of shape (n_levels, n_exits - 1)
        Thresholds, in descending order at each exit. They are infinite for the level 0, and 0 for
        the level 1.
    """
    columns = [
        _thresholds(score, np.maximum(loss, 0.0), weight / weight.mean(), levels)
        for score, loss in zip(scores.T[:-1], losses.T[:-1], strict=True)
    ]
    return np.stack(columns, axis=1) if columns else np.empty((len(levels), 0))


def _thresholds(
    scores: np.ndarray, losses: np.ndarray, weight: np.ndarray, levels: np.ndarray
) -> np.ndarray:
    x = logit(np.clip(scores, NEAREST, 1 - NEAREST))
    # As one more sample of each kind, so that the intercept is finite if there are no losses; see
    # Platt, "Probabilistic outputs for support vector machines", 1999.
    lost = weight @ losses
    kept = weight.sum() - lost
    targets = losses * (lost + 1) / (lost + 2) + (1 - losses) / (kept + 2)

    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        intercept, log_slope = parameters
        slope = np.exp(log_slope)
        odds = intercept - slope * x
        value = weight @ (np.logaddexp(0.0, odds) - targets * odds) + PRIOR * log_slope**2 / 2
        error = weight * (expit(odds) - targets)
        return value, np.array([error.sum(), -slope * (error @ x) + PRIOR * log_slope])

    intercept, log_slope = minimize(objective, np.zeros(2), jac=True, method="BFGS").x
    least = quietly(lambda: (intercept - logit(levels)) / np.exp(log_slope), "divide")
    furthest = logit(1 - NEAREST)
    return np.where(least > furthest, np.inf, np.where(least <= -furthest, 0.0, expit(least)))

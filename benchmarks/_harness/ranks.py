"""Average ranks of methods over blocks, and whether they differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import friedmanchisquare, rankdata, studentized_range, wilcoxon


@dataclass(frozen=True)
class Ranks:
    """What is told of a table of scores.

    Attributes
    ----------
    average : ndarray of shape (n_methods,)
        Average rank over the blocks, 1 the best; equal scores share theirs.
    p_value : float
        Of Friedman's test that all methods are alike.
    critical : float
        Nemenyi's critical difference at 5 %: methods whose average ranks are nearer do not differ.
    """

    average: np.ndarray
    p_value: float
    critical: float

    @classmethod
    def of(cls, scores: np.ndarray) -> Ranks:
        """Ranks of scores of shape (n_blocks, n_methods), at least three methods, higher better."""
        n_blocks, n_methods = scores.shape
        rounded = scores.round(10)
        average = rankdata(-rounded, axis=1).mean(axis=0)
        quantile = studentized_range.ppf(0.95, n_methods, 1e6) / np.sqrt(2)
        critical = quantile * np.sqrt(n_methods * (n_methods + 1) / (6 * n_blocks))
        return cls(average, float(friedmanchisquare(*rounded.T).pvalue), float(critical))


def against(scores: np.ndarray, base: np.ndarray) -> tuple[float, int, int, float]:
    """Mean difference from the base, blocks above and below it, and Wilcoxon's p-value."""
    gain = (scores - base).round(10)
    p_value = float(wilcoxon(gain).pvalue) if np.any(gain) else 1.0
    return float(gain.mean()), int(np.sum(gain > 0)), int(np.sum(gain < 0)), p_value

"""Router that skips exits at which a sample is not likely enough to exit."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval

#: Number of rounds in which the least score of each exit is chosen, given those of the others.
N_ROUNDS = 2


class ExitRouter(BaseEstimator):
    """Router that lets samples skip exits, by their score at the first exit.

    Each exit between the first and the last has a least score: it is asked, that is, its head is
    evaluated, only for samples whose score at the *first* exit reaches it. Others skip it, since
    they are unlikely to exit there. The least scores depend on the thresholds in force. They are
    those with which the mean cost of held-out samples under these thresholds is lowest: to ask an
    exit costs its head and decision, and saves all that comes after it for the samples that exit
    there.

    Parameters
    ----------
    max_samples : int, default=1000
        Number of held-out samples that are kept; of more, this many are drawn at random.

    Attributes
    ----------
    scores_ : ndarray of shape (n_kept, n_exits)
        Scores of the held-out samples at each exit, in ascending order of the first.
    weight_ : ndarray of shape (n_kept,)
        Their sample weights.
    costs_ : ndarray of shape (n_exits,)
        Cumulative cost of exiting at each exit if none is skipped.
    savings_ : ndarray of shape (n_exits,)
        Cost saved by skipping the exit: that of head and decision.

    See Also
    --------
    CascadeClassifier : Estimators in a row, of which a skipped one does not run at all.

    Notes
    -----
    The router learns from costs only. With the same thresholds, a sample that skips an exit exits
    at a later one, which is usually at least as accurate. Like a learned policy, it is fitted to
    other samples than those from which the thresholds are chosen and on which guarantees are
    tested, in both of which it is in force.

    References
    ----------
    Wang, Luo, Crankshaw, Tumanov, Yu, Gonzalez, "IDK cascades: fast deep learning by learning not
    to overthink", UAI 2018, for cascades that ask only some of the models.

    Examples
    --------
    Of ten samples, those with a low first score do not exit at the second exit. It is not worth its
    cost for them:

    >>> import numpy as np
    >>> from skearlyexit.routing import ExitRouter
    >>> first = np.arange(10) / 10
    >>> scores = np.stack([first, np.where(first < 0.45, 0.2, 0.9), np.ones(10)], axis=1)
    >>> router = ExitRouter().fit(
    ...     scores, costs=np.array([0.1, 0.5, 1.5]), savings=np.array([0.1, 0.4, 1.0]))
    >>> router.least_scores(np.array([0.95, 0.8]))
    array([-inf,  0.5, -inf])
    >>> router.least_scores(np.array([0.95, 0.1]))  # at this threshold, all exit at the second exit
    array([-inf, -inf, -inf])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "max_samples": [Interval(Integral, 1, None, closed="left")]
    }

    def __init__(self, *, max_samples: int = 1000) -> None:
        self.max_samples = max_samples

    def fit(
        self,
        scores: np.ndarray,
        *,
        costs: np.ndarray,
        savings: np.ndarray,
        sample_weight: np.ndarray | None = None,
        seed: int = 0,
    ) -> Self:
        """Fit the router to held-out samples.

        Parameters
        ----------
        scores : ndarray of shape (n_samples, n_exits)
            Scores at all exits. Nothing that they come from was fitted to these samples.
        costs : ndarray of shape (n_exits,)
            Cumulative cost of exiting at each exit if none is skipped.
        savings : ndarray of shape (n_exits,)
            Cost saved by skipping the exit, in the same unit.
        sample_weight : ndarray of shape (n_samples,), default=None
            Sample weights. If None, all are 1.
        seed : int, default=0
            Seed of random numbers.

        Returns
        -------
        self : ExitRouter
            Fitted router.
        """
        weight = np.ones(len(scores)) if sample_weight is None else sample_weight
        kept = np.arange(len(scores))
        if len(kept) > self.max_samples:
            kept = np.random.RandomState(seed).permutation(kept)[: self.max_samples]
        kept = kept[np.argsort(scores[kept, 0], kind="stable")]
        self.scores_, self.weight_ = scores[kept], weight[kept]
        self.costs_, self.savings_ = costs, savings
        return self

    def least_scores(self, thresholds: np.ndarray) -> np.ndarray:
        """Compute the least first score with which each exit is asked.

        Parameters
        ----------
        thresholds : ndarray of shape (n_exits - 1,)
            Thresholds of all exits but the last.

        Returns
        -------
        least : ndarray of shape (n_exits,)
            Least scores. Infinite for an exit that is never asked. Minus infinity for one that is
            always asked, as the first and the last are.
        """
        least = np.full(len(self.costs_), -np.inf)
        # Those that do not exit at the first exit, in ascending order of their score there.
        n_rows = int(np.searchsorted(self.scores_[:, 0], thresholds[0]))
        if not n_rows:
            return least
        first, weight = self.scores_[:n_rows, 0], self.weight_[:n_rows]
        reached = self.scores_[:n_rows, :-1] >= thresholds
        # No cut is between samples of equal score.
        cuts = np.concatenate([[0], 1 + np.flatnonzero(np.diff(first)), [n_rows]])
        stages = np.diff(self.costs_, prepend=0.0) - self.savings_
        for _ in range(min(N_ROUNDS, len(least) - 2)):
            gone = np.logical_or.accumulate(reached & (first[:, None] >= least[:-1]), axis=1)
            # Cost of each sample from a stage on, from the last to the first.
            onward = np.full(n_rows, stages[-1] + self.savings_[-1])
            for exit_ in range(len(least) - 2, 0, -1):
                gain = np.where(reached[:, exit_], onward, 0.0) - self.savings_[exit_]
                lost = np.cumsum(weight * gain * ~gone[:, exit_ - 1])
                # The samples below the cut skip the exit, and lose what it gains.
                cut = int(cuts[np.append(0.0, lost)[cuts].argmin()])
                least[exit_] = first[cut] if 0 < cut < n_rows else np.inf if cut else -np.inf
                asked = np.arange(n_rows) >= cut
                onward = stages[exit_] + onward - np.where(asked, gain, 0.0)
        return least

    def macs(self) -> float:
        """Count the operations for a sample, one comparison for each exit that can be skipped.

        Returns
        -------
        macs : float
            Number of multiply-accumulate operations (MACs).
        """
        return float(max(len(self.costs_) - 2, 0))

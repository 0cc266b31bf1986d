"""How well the scores of a policy tell where to leave."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from skearlyexit.metrics._checks import checked_correct, checked_matrix, checked_weight


def decision_auroc(scores: Any, correct: Any, weight: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Area under the ROC curve of the scores at each exit, for two questions.

    *Is this exit right?* and *would no later exit do better?* The second is what a decision to
    leave depends on: a row that every exit gets wrong should leave at once, and its low score
    speaks against the score only in the first.

    Parameters
    ----------
    scores : array-like of shape (n_samples, n_exits)
        What the policy makes of each exit; higher is surer.
    correct : array-like of shape (n_samples, n_exits), bool
        Whether each exit is right.
    weight : array-like of shape (n_samples,), default=None
        Sample weights.

    Returns
    -------
    right : ndarray of shape (n_exits,)
        For "this exit is right". 0.5 is chance, 1 a perfect order of the rows.
    stop : ndarray of shape (n_exits,)
        For "this exit is right, or no later one is". Of the last exit it is nan.
        Both are nan where all rows have the same answer, so that there is nothing to tell apart.

    Raises
    ------
    ValueError
        If shapes do not fit, a score is not finite, or no row has a positive weight.

    See Also
    --------
    sklearn.metrics.roc_auc_score : The area itself.

    Notes
    -----
    All rows are asked at every exit, as in an exit table, also those that would leave before.

    References
    ----------
    Corbière, Thome, Bar-Hen, Cord, Pérez, "Addressing failure prediction by learning model
    confidence", NeurIPS 2019, for the first question.

    Examples
    --------
    >>> from skearlyexit.metrics import decision_auroc
    >>> right, stop = decision_auroc(
    ...     [[0.9, 0.9], [0.3, 0.8], [0.6, 0.7]], [[True, True], [False, True], [False, False]])
    >>> right, stop
    (array([1., 1.]), array([ 1., nan]))
    """
    correct = checked_correct(correct)
    scores = checked_matrix(scores, "scores")
    if scores.shape != correct.shape:
        raise ValueError(
            "'scores' and 'correct' must be of the same shape (n_samples, n_exits). Got "
            f"{scores.shape} and {correct.shape}."
        )
    weight = checked_weight(weight, correct)
    used = weight > 0
    scores, correct, weight = scores[used], correct[used], weight[used]
    # Whether any exit after this one is right.
    later = np.zeros_like(correct)
    later[:, :-1] = np.logical_or.accumulate(correct[:, :0:-1], axis=1)[:, ::-1]
    right, stop = (
        np.array(
            [
                roc_auc_score(truth, score, sample_weight=weight)
                if 0 < truth.sum() < len(truth)
                else np.nan
                for truth, score in zip(truths.T, scores.T, strict=True)
            ]
        )
        for truths in (correct, correct | ~later)
    )
    return right, stop

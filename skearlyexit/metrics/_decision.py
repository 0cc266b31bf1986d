"""ROC AUC of the scores of a policy."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from skearlyexit.metrics._checks import checked_correct, checked_matrix, checked_weight


def decision_auroc(scores: Any, correct: Any, weight: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Area under the ROC curve of the scores at each exit, for two binary targets.

    The first target is whether the prediction at the exit is correct. The second one is whether a
    sample should exit there: the prediction is correct, or no later exit is correct either. A
    sample that is misclassified at all exits should exit at once, so a high score for it is an
    error by the first target only.

    Parameters
    ----------
    scores : array-like of shape (n_samples, n_exits)
        Scores of the policy at each exit; a higher score means a more confident prediction.
    correct : array-like of shape (n_samples, n_exits), bool
        Whether the prediction at each exit is correct.
    weight : array-like of shape (n_samples,), default=None
        Sample weights.

    Returns
    -------
    right : ndarray of shape (n_exits,)
        Area for the target that the prediction is correct: 0.5 for random scores, 1 for scores
        that rank the samples perfectly. NaN at an exit where the target is the same for all
        samples.
    stop : ndarray of shape (n_exits,)
        Area for the target that the prediction is correct or no later exit is correct. NaN at an
        exit where the target is the same for all samples, such as the last exit.

    Raises
    ------
    ValueError
        If shapes do not match, a score is not finite, or no sample has a positive weight.

    See Also
    --------
    sklearn.metrics.roc_auc_score : Area under the ROC curve.

    Notes
    -----
    All samples are used at every exit, including those that would exit before.

    References
    ----------
    Corbière, Thome, Bar-Hen, Cord, Pérez, "Addressing failure prediction by learning model
    confidence", NeurIPS 2019, for the first target.

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
    # Whether any later exit is correct.
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

"""Access to the early-exit model in a pipeline."""

from __future__ import annotations

from typing import Any

from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted


def last_step(estimator: Any, X: Any) -> tuple[Any, Any]:
    """Early-exit classifier at the end of a pipeline, and the transformed samples.

    Parameters
    ----------
    estimator : EarlyExitClassifier or Pipeline
        Fitted classifier, or a fitted pipeline whose last step is one.
    X : array-like of shape (n_samples, ...)

    Returns
    -------
    classifier : EarlyExitClassifier
    X : array-like of shape (n_samples, ...)
        Input of the classifier.

    Raises
    ------
    TypeError
        If the last step is not an early-exit classifier.
    """
    if isinstance(estimator, Pipeline):
        check_is_fitted(estimator)
        for _, step in estimator.steps[:-1]:
            if step is not None and step != "passthrough":
                X = step.transform(X)
        return last_step(estimator.steps[-1][1], X)
    if not hasattr(estimator, "exit_table"):
        raise TypeError(
            "'estimator' must be an EarlyExitClassifier, or a Pipeline whose last step is one. Got "
            f"{type(estimator).__name__} instead{_hint(estimator)}."
        )
    check_is_fitted(estimator)
    return estimator, X


def _hint(estimator: Any) -> str:
    """What to give instead of an estimator that contains others, to be appended to an error."""
    if hasattr(estimator, "best_estimator_"):
        return ". Give its best_estimator_"
    if hasattr(estimator, "estimator") or hasattr(estimator, "estimators"):
        return (
            ", whose predictions are not those of the exits of a single model. Give the fitted "
            "early-exit model inside it"
        )
    return ""

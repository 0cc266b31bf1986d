"""Access to the early-exit model in a pipeline."""

from __future__ import annotations

from typing import Any

from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted


def last_step(estimator: Any, X: Any) -> tuple[Any, Any]:
    """Early-exit estimator at the end of a pipeline, and the transformed samples.

    Parameters
    ----------
    estimator : EarlyExitClassifier, EarlyExitRegressor or Pipeline
        Fitted estimator, or a fitted pipeline whose last step is one.
    X : array-like of shape (n_samples, ...)

    Returns
    -------
    model : EarlyExitClassifier or EarlyExitRegressor
    X : array-like of shape (n_samples, ...)
        Input of the model.

    Raises
    ------
    TypeError
        If the last step is not an early-exit estimator.
    """
    model = model_of(estimator)
    while isinstance(estimator, Pipeline):
        check_is_fitted(estimator)
        for _, step in estimator.steps[:-1]:
            if step is not None and step != "passthrough":
                X = step.transform(X)
        estimator = estimator.steps[-1][1]
    check_is_fitted(model)
    return model, X


def model_of(estimator: Any) -> Any:
    """Early-exit estimator at the end of a pipeline, or the estimator itself.

    Raises
    ------
    TypeError
        If the last step is not an early-exit estimator.
    """
    model = estimator
    while isinstance(model, Pipeline):
        model = model.steps[-1][1]
    if not hasattr(model, "exit_table"):
        raise TypeError(
            "'estimator' must be an estimator with exits, such as EarlyExitClassifier, or a "
            "Pipeline whose last step is one. Got "
            f"{type(model).__name__} instead{_hint(model)}."
        )
    return model


def last_classifier(estimator: Any, X: Any, what: str) -> tuple[Any, Any]:
    """Early-exit classifier as by `last_step`, for what is defined for classes only.

    Parameters
    ----------
    estimator : EarlyExitClassifier or Pipeline
    X : array-like of shape (n_samples, ...)
    what : str
        Name of what needs classes.

    Returns
    -------
    classifier : EarlyExitClassifier
    X : array-like of shape (n_samples, ...)

    Raises
    ------
    TypeError
        If the last step is not an early-exit classifier.
    """
    model, X = last_step(estimator, X)
    if not is_classifier(model):
        raise TypeError(
            f"{what} is for classifiers. Got {type(model).__name__}, which predicts values; use "
            "its exit_report, skearlyexit.inspection.CostErrorDisplay, or a scorer of scikit-learn "
            "such as 'neg_root_mean_squared_error'."
        )
    return model, X


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

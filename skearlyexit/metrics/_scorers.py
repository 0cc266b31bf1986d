"""Scorers of accuracy and cost, for model selection with scikit-learn."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.metrics import accuracy_score, get_scorer_names
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_consistent_length, column_or_1d

from skearlyexit._utils._scoring import is_accuracy, needs_probabilities, score_predictions
from skearlyexit._utils._unwrap import last_classifier, last_step
from skearlyexit.metrics._checks import checked_weight
from skearlyexit.metrics._curve import mean_of_steps
from skearlyexit.metrics._measures import cost_accuracy


class ExitScorer(BaseEstimator, metaclass=ABCMeta):
    """Base class of scorers for early-exit models.

    A scorer is called as ``scorer(estimator, X, y)``, like those of `sklearn.metrics.make_scorer`,
    and its parameters can be cloned and set. A subclass implements `score`. If metadata routing is
    enabled, sample weights are passed to a scorer that has requested them by
    ``set_score_request(sample_weight=True)``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.metrics import ExitScorer
    >>> class EarlyShare(ExitScorer):  # share of the samples that exit before the last exit
    ...     def score(self, estimator, X, y=None, sample_weight=None):
    ...         _, exits = estimator.predict(X, return_exits=True)
    ...         early = exits < estimator.n_exits_ - 1
    ...         return float(np.average(early, weights=sample_weight))
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"], threshold=0.0, calibration=None,
    ...     max_epochs=1, random_state=0).fit(X, y)
    >>> EarlyShare()(clf, X)
    1.0
    """

    # The estimator is not metadata that can be requested.
    __metadata_request__score: ClassVar[dict[str, Any]] = {"estimator": UNUSED}

    def __call__(self, estimator: Any, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Score a fitted model, as `score` does."""
        return self.score(estimator, X, y, sample_weight)

    @abstractmethod
    def score(self, estimator: Any, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Score a fitted model.

        Parameters
        ----------
        estimator : EarlyExitClassifier or Pipeline
            Fitted classifier, or fitted pipeline whose last step is one.
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Test samples, used neither for fitting nor for calibrating the model.
        y : array-like of shape (n_samples,), default=None
            True labels. Not used by scorers of the cost alone.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.

        Returns
        -------
        score : float
            Score of the model; greater is better.

        Raises
        ------
        TypeError
            If the estimator is not an early-exit classifier.
        ValueError
            If a parameter of the scorer is invalid, or the model has not been calibrated and the
            scorer needs it.
        """

    def _accept_sample_weight(self) -> bool:
        """Tell scikit-learn to pass weights on if several metrics are computed at once."""
        return True


class AccuracyAtBudget(ExitScorer):
    """Scorer of the accuracy at a budget.

    Models are compared at the same mean cost. The thresholds for the budget are those found on the
    calibration samples of each model, not on the samples that are scored.

    Parameters
    ----------
    budget : float
        Maximum mean cost per sample, as in `EarlyExitClassifier.predict`: 1 is the cost of the
        plain network.
    metric : str or callable, default="accuracy"
        Metric in place of the accuracy: the name of a scikit-learn scorer or a scorer. It may
        depend on predicted labels and probabilities, such as ``"roc_auc"``. The thresholds for a
        budget are those with the highest accuracy.
    plain_cost : float, default=None
        Cost that corresponds to a cost of 1, in the unit of the costs of the models, by default
        multiply-accumulate operations (MACs) per sample. If None, it is the cost of the plain
        network of each model, so a budget of 0.5 is larger for a larger network. To compare
        networks of different sizes, set the same value for all.

    See Also
    --------
    CostAccuracyArea : Mean accuracy over a range of budgets.
    AccuracyMinusCost : Accuracy and cost at the operating point of each model.

    Notes
    -----
    If the first exit of a model costs more than the budget, an error is raised. In a search, its
    score is NaN, with a warning.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import cross_val_score
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.metrics import AccuracyAtBudget
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=32, hidden=32), calibration=0.3, max_epochs=10, random_state=0)
    >>> scores = cross_val_score(clf, X, y, cv=2, scoring=AccuracyAtBudget(0.6))
    >>> bool((scores > 0.6).all())
    True
    """

    def __init__(
        self,
        budget: float,
        *,
        metric: str | Callable[..., float] = "accuracy",
        plain_cost: float | None = None,
    ) -> None:
        self.budget = budget
        self.metric = metric
        self.plain_cost = plain_cost

    def score(self, estimator: Any, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        classifier, X = last_classifier(estimator, X, type(self).__name__)
        _check_frontier(classifier, self)
        if not isinstance(self.budget, Real) or not self.budget > 0:
            raise ValueError(
                "The 'budget' parameter of AccuracyAtBudget must be a positive number. Got "
                f"{self.budget!r} instead."
            )
        budget = float(self.budget) / _unit(classifier, self.plain_cost)
        value, _, _ = _outcome(classifier, X, y, self.metric, sample_weight, budget=budget)
        return value


class AccuracyMinusCost(ExitScorer):
    """Scorer of the accuracy minus the weighted mean cost, at the operating point of each model.

    Parameters
    ----------
    weight : float
        Weight of the mean cost: accuracy that is worth a mean cost of 1, that of the plain network.
        With 0.05, halving this cost is worth 2.5 percentage points of accuracy.
    metric : str or callable, default="accuracy"
        Metric in place of the accuracy: the name of a scikit-learn scorer or a scorer. It may
        depend on predicted labels and probabilities, such as ``"roc_auc"``.
    plain_cost : float, default=None
        Cost that corresponds to a cost of 1, in the unit of the costs of the models, by default
        multiply-accumulate operations (MACs) per sample. If None, it is the cost of the plain
        network of each model. To compare networks of different sizes, set the same value for all.

    See Also
    --------
    AccuracyAtBudget : Accuracy at the same budget for all models.
    MeanCost : Mean cost alone.

    Examples
    --------
    >>> from skearlyexit.metrics import AccuracyMinusCost
    >>> AccuracyMinusCost(0.1)
    AccuracyMinusCost(weight=0.1)
    """

    def __init__(
        self,
        weight: float,
        *,
        metric: str | Callable[..., float] = "accuracy",
        plain_cost: float | None = None,
    ) -> None:
        self.weight = weight
        self.metric = metric
        self.plain_cost = plain_cost

    def score(self, estimator: Any, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        if not isinstance(self.weight, Real) or not 0 <= self.weight < np.inf:
            raise ValueError(
                "The 'weight' parameter of AccuracyMinusCost must be a finite number that is not "
                f"negative. Got {self.weight!r} instead."
            )
        classifier, X = last_classifier(estimator, X, type(self).__name__)
        value, exits, weight = _outcome(classifier, X, y, self.metric, sample_weight)
        cost = _mean_cost(classifier, X, exits, weight, self.plain_cost)
        return float(value - float(self.weight) * cost)


class MeanCost(ExitScorer):
    """Scorer of the negated mean cost per sample, at the operating point of each model.

    It is negated since a greater score is better. It is intended for searches with several metrics,
    such as ``scoring={"accuracy": "accuracy", "cost": MeanCost()}``. Labels are not used.

    Parameters
    ----------
    plain_cost : float, default=None
        Cost that corresponds to a cost of 1, in the unit of the costs of the models, by default
        multiply-accumulate operations (MACs) per sample. If None, it is the cost of the plain
        network of each model. To compare networks of different sizes, set the same value for all.

    See Also
    --------
    skearlyexit.inspection.SearchDisplay : Visualization of such a search.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.metrics import MeanCost
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = EarlyExitClassifier(MLPBackbone(3, width=32, hidden=32), threshold=0.0,
    ...     calibration=None, max_epochs=2, random_state=0).fit(X, y)
    >>> bool(round(MeanCost()(clf, X), 9) == -round(clf.costs_[0], 9))  # all exit at exit 0
    True
    """

    def __init__(self, *, plain_cost: float | None = None) -> None:
        self.plain_cost = plain_cost

    def score(self, estimator: Any, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        classifier, X = last_step(estimator, X)
        _, exits = classifier.predict(X, return_exits=True)
        return -_mean_cost(classifier, X, exits, sample_weight, self.plain_cost)


class CostAccuracyArea(ExitScorer):
    """Scorer of the mean accuracy over all budgets in a range.

    It is the mean of `AccuracyAtBudget`, for models that are used with several budgets. The
    thresholds for each budget are those found on the calibration samples of each model, not on the
    samples that are scored.

    Parameters
    ----------
    low : float
        Lowest budget.
    high : float
        Highest budget.
    below : float, default=0.0
        Value at budgets below the cost of the first exit, which the model cannot meet. With another
        metric than the accuracy, give the worst value that it can have.
    metric : str or callable, default="accuracy"
        Metric in place of the accuracy: the name of a scikit-learn scorer or a scorer. It may
        depend on predicted labels and probabilities, such as ``"roc_auc"``. The thresholds for a
        budget are those with the highest accuracy.
    plain_cost : float, default=None
        Cost that corresponds to a cost of 1, in the unit of the costs of the models, by default
        multiply-accumulate operations (MACs) per sample. If None, it is the cost of the plain
        network of each model. To compare networks of different sizes, set the same value for all.

    See Also
    --------
    cost_accuracy_auc : Area under the curve of given costs and accuracies.

    Notes
    -----
    Budgets are kept on the calibration samples, as in `EarlyExitClassifier.predict`; on the scored
    samples the mean cost differs by sampling error. If the first exit of a model costs more than
    `high`, an error is raised. In a search, its score is NaN, with a warning.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.metrics import CostAccuracyArea
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=32, hidden=32), calibration=0.3, max_epochs=10, random_state=0)
    >>> search = GridSearchCV(
    ...     clf, {"training": ["joint", "separate"]}, cv=2, scoring=CostAccuracyArea(0.3, 0.9))
    >>> bool(search.fit(X, y).best_score_ > 0.6)
    True
    """

    def __init__(
        self,
        low: float,
        high: float,
        *,
        below: float = 0.0,
        metric: str | Callable[..., float] = "accuracy",
        plain_cost: float | None = None,
    ) -> None:
        self.low = low
        self.high = high
        self.below = below
        self.metric = metric
        self.plain_cost = plain_cost

    def score(self, estimator: Any, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        classifier, X = last_classifier(estimator, X, type(self).__name__)
        frontier = _check_frontier(classifier, self)
        y = column_or_1d(y)
        if is_accuracy(self.metric):
            table = classifier._label_table(X)
            correct = classifier.classes_[table.labels] == y[:, None]
            weight = checked_weight(sample_weight, correct)
            _, values = cost_accuracy(
                correct,
                table.scores,
                classifier.costs_,
                frontier.thresholds,
                weight,
                table.routing,
            )
        else:
            values = _values_of_points(classifier, X, y, self.metric, sample_weight)
        costs = frontier.costs * _unit(classifier, self.plain_cost)
        return mean_of_steps(costs, values, low=self.low, high=self.high, below=self.below)


def _outcome(
    classifier: Any, X: Any, y: Any, metric: Any, sample_weight: Any, **asked: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """Value of a metric at an operating point, exits of the samples, and their weights."""
    y, probabilities = column_or_1d(y), None
    if _needs_probabilities(metric):
        probabilities, exits = classifier.predict_proba(X, return_exits=True, **asked)
        labels = classifier.classes_[probabilities.argmax(axis=1)]
    else:
        labels, exits = classifier.predict(X, return_exits=True, **asked)
    weight = checked_weight(sample_weight, labels)
    if is_accuracy(metric):
        return float(accuracy_score(y, labels, sample_weight=weight)), exits, weight
    check_consistent_length(y, labels)
    classes = classifier.classes_
    value = score_predictions(metric, y, labels, probabilities, classes=classes, weight=weight)
    return value, exits, weight


def _values_of_points(
    classifier: Any, X: Any, y: np.ndarray, metric: Any, sample_weight: Any
) -> np.ndarray:
    """Value of a metric at each point of the frontier, shape (n_points,)."""
    _needs_probabilities(metric)  # raises an error for other values
    table, classes = classifier.exit_table(X), classifier.classes_
    check_consistent_length(y, table.scores)
    weight = checked_weight(sample_weight, table.scores)
    rows, values = np.arange(len(y)), []
    for thresholds in classifier.frontier_.thresholds:
        probabilities = table.probabilities[rows, table.exits(thresholds)]
        labels = classes[probabilities.argmax(axis=1)]
        values.append(
            score_predictions(metric, y, labels, probabilities, classes=classes, weight=weight)
        )
    return np.array(values)


def _needs_probabilities(metric: Any) -> bool:
    """Whether a scorer needs probabilities; raises a ValueError for what is no scorer."""
    if not callable(metric) and metric not in get_scorer_names():
        raise ValueError(
            "The 'metric' parameter must be a scorer or the name of one, as "
            f"sklearn.metrics.get_scorer_names() returns them. Got {metric!r} instead."
        )
    return needs_probabilities(metric)


def _check_frontier(classifier: Any, scorer: ExitScorer) -> Any:
    """Frontier of a classifier; raises a ValueError if it has none."""
    if classifier.frontier_ is None:
        raise ValueError(
            f"{type(scorer).__name__} needs a model that was calibrated for budgets, and this one "
            f"has no frontier_: it was fitted with calibration={classifier.calibration!r}"
            + ("" if classifier.calibration is None else " on too few samples to hold any out")
            + ". Fit it with calibration=0.2, 'auto' or a number of folds, or call calibrate(X, y) "
            "with other samples before it is scored."
        )
    return classifier.frontier_


def _mean_cost(
    classifier: Any, X: Any, exits: np.ndarray, sample_weight: Any, plain_cost: float | None
) -> float:
    """Mean cost at the operating point, given the exits that samples have there."""
    weight = checked_weight(sample_weight, exits)
    paid = classifier.costs_[exits]
    if classifier.cascade_.exit_rule.router is not None:
        # Which exits a sample skips depends on its scores.
        _, paid = classifier._label_table(X).outcomes(classifier.thresholds_, classifier.costs_)
    mean = np.average(paid, weights=weight)
    return float(mean) * _unit(classifier, plain_cost)


def _unit(classifier: Any, plain_cost: float | None) -> float:
    """Factor from costs of the classifier to units of `plain_cost`."""
    if plain_cost is None:
        return 1.0
    if not isinstance(plain_cost, Real) or not 0 < plain_cost < np.inf:
        raise ValueError(
            f"The 'plain_cost' parameter must be a positive finite number. Got {plain_cost!r} "
            "instead."
        )
    return float(classifier.cost_table_.plain / float(plain_cost))

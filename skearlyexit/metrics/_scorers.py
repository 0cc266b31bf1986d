"""Accuracy and cost as scorers, for model selection with scikit-learn."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.metrics import accuracy_score
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import column_or_1d

from skearlyexit._utils._unwrap import last_step
from skearlyexit.metrics._checks import checked_weight
from skearlyexit.metrics._curve import mean_of_steps
from skearlyexit.metrics._measures import cost_accuracy


class ExitScorer(BaseEstimator, metaclass=ABCMeta):
    """Base of the scorers: a callable with parameters, which scikit-learn can clone and route to.

    A scorer implements `score`. Weights come with metadata routing, once
    ``set_score_request(sample_weight=True)`` has been called.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.metrics import ExitScorer
    >>> class EarlyShare(ExitScorer):  # share of the rows that exit before the last exit
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

    # What is scored is an argument, and no metadata.
    __metadata_request__score: ClassVar[dict[str, Any]] = {"estimator": UNUSED}

    def __call__(self, estimator: Any, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Score a fitted model; the same as `score`."""
        return self.score(estimator, X, y, sample_weight)

    @abstractmethod
    def score(self, estimator: Any, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Score a fitted model on rows that it was not fitted or calibrated on.

        Parameters
        ----------
        estimator : EarlyExitClassifier or Pipeline
            Fitted; of a pipeline, the last step is the classifier.
        X : array-like of shape (n_samples, ...)
        y : array-like of shape (n_samples,), default=None
            True labels; only a scorer that looks at costs alone does without.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        score : float
            Greater is better.

        Raises
        ------
        TypeError, ValueError
            If the estimator is of another kind, or cannot do what is asked.
        """

    def _accept_sample_weight(self) -> bool:
        """Tell scikit-learn, where several metrics are computed at once, to pass weights on."""
        return True


class AccuracyAtBudget(ExitScorer):
    """Accuracy where the mean cost per row may be at most so much.

    Models that spend differently are compared at the same price. The thresholds for the budget
    come from the model's own calibration rows, and not from the rows that are scored.

    Parameters
    ----------
    budget : float
        As in `EarlyExitClassifier.predict`: 1 is the plain network.
    plain_cost : float, default=None
        Multiply-accumulates per sample, or other units of the model's costs, that make a cost
        of 1. None: those of each model's own plain network, so that a budget of 0.5 is more for a
        larger network. To compare networks of different size give all the same.

    See Also
    --------
    CostAccuracyArea : Over a range of budgets.
    AccuracyMinusCost : At the operating point of each model.

    Notes
    -----
    A model whose first exit alone costs more than the budget is an error, which a search makes a
    score of nan, with a warning.

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

    def __init__(self, budget: float, *, plain_cost: float | None = None) -> None:
        self.budget = budget
        self.plain_cost = plain_cost

    def score(self, estimator: Any, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Accuracy under the budget; see `ExitScorer.score`."""
        classifier, X = last_step(estimator, X)
        _check_frontier(classifier, self)
        if not isinstance(self.budget, Real) or not self.budget > 0:
            raise ValueError(
                "The 'budget' parameter of AccuracyAtBudget must be a positive number. Got "
                f"{self.budget!r} instead."
            )
        budget = float(self.budget) / _unit(classifier, self.plain_cost)
        labels = classifier.predict(X, budget=budget)
        weight = checked_weight(sample_weight, labels)
        return float(accuracy_score(y, labels, sample_weight=weight))


class AccuracyMinusCost(ExitScorer):
    """Accuracy at the model's own operating point, minus a price for what it costs.

    Parameters
    ----------
    weight : float
        Accuracy that a mean cost of 1, that of the plain network, has to be worth: with 0.05,
        halving the cost makes up for 2.5 points.
    plain_cost : float, default=None
        Multiply-accumulates per sample, or other units of the model's costs, that make a cost
        of 1. None: those of each model's own plain network. To compare networks of different size
        give all the same.

    See Also
    --------
    AccuracyAtBudget : At the same price for all models.
    MeanCost : The cost by itself.

    Examples
    --------
    >>> from skearlyexit.metrics import AccuracyMinusCost
    >>> AccuracyMinusCost(0.1)
    AccuracyMinusCost(weight=0.1)
    """

    def __init__(self, weight: float, *, plain_cost: float | None = None) -> None:
        self.weight = weight
        self.plain_cost = plain_cost

    def score(self, estimator: Any, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Accuracy minus weighted mean cost; see `ExitScorer.score`."""
        if not isinstance(self.weight, Real) or not 0 <= self.weight < np.inf:
            raise ValueError(
                "The 'weight' parameter of AccuracyMinusCost must be a finite number that is not "
                f"negative. Got {self.weight!r} instead."
            )
        classifier, X = last_step(estimator, X)
        labels, exits = classifier.predict(X, return_exits=True)
        weight = checked_weight(sample_weight, labels)
        accuracy = accuracy_score(y, labels, sample_weight=weight)
        cost = _mean_cost(classifier, exits, weight, self.plain_cost)
        return float(accuracy - float(self.weight) * cost)


class MeanCost(ExitScorer):
    """Mean cost per row at the model's own operating point, **negated**: greater is better.

    It is meant for searches with several metrics, beside an accuracy:
    ``scoring={"accuracy": "accuracy", "cost": MeanCost()}``.

    Parameters
    ----------
    plain_cost : float, default=None
        Multiply-accumulates per sample, or other units of the model's costs, that make a cost
        of 1. None: those of each model's own plain network. To compare networks of different size
        give all the same.

    See Also
    --------
    skearlyexit.inspection.SearchDisplay : The candidates of such a search, as a picture.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.metrics import MeanCost
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = EarlyExitClassifier(MLPBackbone(3, width=32, hidden=32), threshold=0.0,
    ...     calibration=None, max_epochs=2, random_state=0).fit(X, y)
    >>> bool(round(MeanCost()(clf, X), 9) == -round(clf.costs_[0], 9))  # all leave at once
    True
    """

    def __init__(self, *, plain_cost: float | None = None) -> None:
        self.plain_cost = plain_cost

    def score(self, estimator: Any, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Negated mean cost; see `ExitScorer.score`. Labels are not used."""
        classifier, X = last_step(estimator, X)
        _, exits = classifier.predict(X, return_exits=True)
        return -_mean_cost(classifier, exits, sample_weight, self.plain_cost)


class CostAccuracyArea(ExitScorer):
    """Mean of `AccuracyAtBudget` over all budgets in a range.

    For a model that will be asked with several budgets. The thresholds for each come from the
    model's own frontier, and none is chosen on the rows that are scored: the best of some hundred
    points on a few rows would look better than any of them is.

    Parameters
    ----------
    low : float
        Smallest budget.
    high : float
        Largest budget.
    below : float, default=0.0
        Accuracy for budgets below the first exit's cost, which the model cannot keep.
    plain_cost : float, default=None
        Multiply-accumulates per sample, or other units of the model's costs, that make a cost
        of 1. None: those of each model's own plain network. To compare networks of different size
        give all the same.

    See Also
    --------
    cost_accuracy_auc : From costs and accuracies.

    Notes
    -----
    Budgets are kept on the calibration rows, as in `EarlyExitClassifier.predict`; on the scored
    rows the mean cost differs by chance. A model that can keep no budget up to `high` is an error,
    which a search makes a score of nan, with a warning.

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
        self, low: float, high: float, *, below: float = 0.0, plain_cost: float | None = None
    ) -> None:
        self.low = low
        self.high = high
        self.below = below
        self.plain_cost = plain_cost

    def score(self, estimator: Any, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean accuracy over the budgets; see `ExitScorer.score`."""
        classifier, X = last_step(estimator, X)
        frontier = _check_frontier(classifier, self)
        table = classifier._label_table(X)
        y = column_or_1d(y)
        correct = classifier.classes_[table.labels] == y[:, None]
        weight = checked_weight(sample_weight, correct)
        _, accuracies = cost_accuracy(
            correct, table.scores, classifier.costs_, frontier.thresholds, weight
        )
        costs = frontier.costs * _unit(classifier, self.plain_cost)
        return mean_of_steps(costs, accuracies, low=self.low, high=self.high, below=self.below)


def _check_frontier(classifier: Any, scorer: ExitScorer) -> Any:
    """Operating points for all budgets, or an error that says how to get them."""
    if classifier.frontier_ is None:
        raise ValueError(
            f"{type(scorer).__name__} needs a model that was calibrated for budgets, and this one "
            f"has no frontier_: it was fitted with calibration={classifier.calibration!r}"
            + ("" if classifier.calibration is None else " on too few rows to hold any out")
            + ". Fit it with calibration=0.2, 'auto' or a number of folds, or call calibrate(X, y) "
            "with other rows before it is scored."
        )
    return classifier.frontier_


def _mean_cost(
    classifier: Any, exits: np.ndarray, sample_weight: Any, plain_cost: float | None
) -> float:
    weight = checked_weight(sample_weight, exits)
    mean = np.average(classifier.costs_[exits], weights=weight)
    return float(mean) * _unit(classifier, plain_cost)


def _unit(classifier: Any, plain_cost: float | None) -> float:
    """What a cost of 1 of the model is in the unit that is asked for."""
    if plain_cost is None:
        return 1.0
    if not isinstance(plain_cost, Real) or not 0 < plain_cost < np.inf:
        raise ValueError(
            f"The 'plain_cost' parameter must be a positive finite number. Got {plain_cost!r} "
            "instead."
        )
    return float(classifier.cost_table_.plain / float(plain_cost))

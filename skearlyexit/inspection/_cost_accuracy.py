"""Accuracy against cost: of every budget, and of what it is to be compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_consistent_length

from skearlyexit._data._labels import encode_labels
from skearlyexit._exit_table import exits_of
from skearlyexit.inspection._checks import checked_exits, checked_rows
from skearlyexit.inspection._display import Display
from skearlyexit.inspection._marks import draw, draw_legend, label_axes, set_log
from skearlyexit.inspection._points import frontier_line, point_of
from skearlyexit.metrics import oracle
from skearlyexit.metrics._measures import random_exits


@dataclass(eq=False, repr=False)
class CostAccuracyDisplay(Display):
    """Accuracy against mean cost per row.

    The line is the frontier: the operating points for all budgets, on other rows than those that
    they were chosen on, so that it may fall a little. Beside it stand each exit by itself, the
    operating point in force, the last exit, what an oracle could do, and what rows that leave at
    random in the same shares would do.

    Parameters
    ----------
    costs, accuracies : ndarray of shape (n_exits,)
        Of each exit by itself, on all rows.
    frontier_costs, frontier_accuracies : ndarray of shape (n_points,), default=None
        By increasing cost. None draws no line.
    point : tuple of two floats, default=None
        Cost and accuracy of the operating point in force.
    random : tuple of two floats, default=None
        Those of random exits in the same shares.
    oracle : tuple of two floats, default=None
        Those of the oracle.
    name : str, default=None
        Entry of the legend.
    unit : str, default="plain network"
        What a cost of 1 is.

    Attributes
    ----------
    line_ : matplotlib Line2D or None
        The frontier.
    exits_ : matplotlib Line2D
        Hollow marks of the exits but the last.
    last_exit_ : matplotlib Line2D
    point_, random_, oracle_ : matplotlib Line2D or None
    legend_ : matplotlib Legend
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    ExitDistributionDisplay : Where the rows of each class leave.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skearlyexit.inspection import CostAccuracyDisplay
    >>> display = CostAccuracyDisplay.from_predictions(
    ...     ["cat", "dog"], np.array([["cat", "cat"], ["cat", "dog"]]),
    ...     scores=np.array([[0.9, 0.9], [0.6, 0.9]]), costs=[0.3, 1.0], thresholds=[0.8])
    >>> display.point
    (0.65, 1.0)
    >>> plt.close(display.figure_)
    """

    costs: np.ndarray
    accuracies: np.ndarray
    _: KW_ONLY
    frontier_costs: np.ndarray | None = None
    frontier_accuracies: np.ndarray | None = None
    point: tuple[float, float] | None = None
    random: tuple[float, float] | None = None
    oracle: tuple[float, float] | None = None
    name: str | None = None
    unit: str = "plain network"

    def plot(
        self, ax: Any = None, *, name: str | None = None, log: bool = False, **kwargs: Any
    ) -> Any:
        """Draw line and marks.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            One that holds other displays of this kind takes this one too, in its next color; None
            draws on a new figure.
        name : str, default=None
            Entry of the legend instead of `name`.
        log : bool, default=False
            Whether the axis of costs is logarithmic.
        **kwargs : dict
            Passed to ``ax.plot`` for the line, or for the marks of the exits if there is none.

        Returns
        -------
        self : CostAccuracyDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        ax = self._axes(ax)
        name = self.name if name is None else name
        style = {"label": "model" if name is None else name, **kwargs}
        self.line_ = None
        if self.frontier_costs is not None and self.frontier_accuracies is not None:
            # A line of one point is not seen.
            style = {"marker": "." if len(self.frontier_costs) == 1 else "", **style}
            accuracies = 100 * self.frontier_accuracies
            (self.line_,) = ax.plot(self.frontier_costs, accuracies, **style)
            style = {"color": self.line_.get_color()}
        values = np.column_stack([self.costs, self.accuracies])
        self.exits_ = draw(ax, "exit alone", values[:-1], **style)
        # The first artist takes the next color of the axes; the others follow it.
        color = self.exits_.get_color()
        self.last_exit_ = draw(ax, "last exit alone", values[-1:], color=color)
        self.random_, self.oracle_, self.point_ = (
            None if at is None else draw(ax, kind, np.array([at]), color=color)
            for kind, at in (
                ("random exits", self.random),
                ("oracle", self.oracle),
                ("operating point", self.point),
            )
        )
        label_axes(ax, self.unit)
        if log:
            set_log(ax)
        self.legend_ = draw_legend(ax)
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        threshold: Any = None,
        budget: Any = None,
        plain_cost: float | None = None,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> CostAccuracyDisplay:
        """Draw what a model does on the given rows.

        Parameters
        ----------
        estimator : EarlyExitClassifier or Pipeline
            Fitted; of a pipeline, the last step is the classifier.
        X : array-like of shape (n_samples, ...)
            Rows that it was not fitted or calibrated on.
        y : array-like of shape (n_samples,)
            True labels.
        sample_weight : array-like of shape (n_samples,), default=None
        threshold : float or sequence of float, default=None
        budget : float or Budget, default=None
            As in `EarlyExitClassifier.predict`; with neither, the operating point in force.
        plain_cost : float, default=None
            Multiply-accumulates per sample, or other units of the model's costs, that make a
            cost of 1. None: those of the model's own plain network. Models of different
            size are compared by giving all the same.
        name : str, default=None
            Entry of the legend. None: name of the classifier's class.
        ax : matplotlib Axes, default=None
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : CostAccuracyDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If the estimator is of another kind, or an argument does not fit.
        """
        classifier, X = cls._unwrapped(estimator, X)
        _, exits = classifier.predict(X, threshold=threshold, budget=budget, return_exits=True)
        table = classifier._label_table(X)
        scale = 1.0 if plain_cost is None else classifier.cost_table_.plain / plain_cost
        frontier = classifier.frontier_
        unit = "plain network"
        if plain_cost is not None:
            unit = f"{_short(plain_cost)} {classifier.cost_table_.unit}"
        return cls.from_predictions(
            encode_labels(y, table.labels, classifier.classes_),
            table.labels,
            scores=table.scores,
            costs=scale * classifier.costs_,
            exits=exits,
            frontier=None if frontier is None else frontier.thresholds,
            sample_weight=sample_weight,
            name=type(classifier).__name__ if name is None else name,
            unit=unit,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        scores: Any,
        costs: Any,
        thresholds: Sequence[float] | np.ndarray | None = None,
        exits: Any = None,
        frontier: np.ndarray | None = None,
        sample_weight: Any = None,
        name: str | None = None,
        unit: str = "plain network",
        ax: Any = None,
        **kwargs: Any,
    ) -> CostAccuracyDisplay:
        """Draw from the answers of every exit to every row.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels.
        y_pred : array-like of shape (n_samples, n_exits)
            Labels that the exits give.
        scores : array-like of shape (n_samples, n_exits)
            Scores of the policy; higher is surer.
        costs : array-like of shape (n_exits,)
            Cumulative cost of leaving at each exit.
        thresholds : array-like of shape (n_exits - 1,), default=None
            The operating point; without it and `exits`, none is drawn.
        exits : array-like of shape (n_samples,), default=None
            The operating point by what it does, instead of `thresholds`: the exit at which each
            row leaves, from 0.
        frontier : array-like of shape (n_points, n_exits - 1), default=None
            Thresholds chosen on other rows, by increasing cost; None draws no line.
        sample_weight : array-like of shape (n_samples,), default=None
        name : str, default=None
        unit : str, default="plain network"
            What a cost of 1 is.
        ax : matplotlib Axes, default=None
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : CostAccuracyDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the arguments do not fit each other.
        """
        cls._require_matplotlib("from_predictions")
        if thresholds is not None and exits is not None:
            raise ValueError("At most one of 'thresholds' and 'exits' may be given. Got both.")
        y_pred, scores = np.asarray(y_pred), np.asarray(scores)
        costs = np.asarray(costs, dtype=np.float64)
        y_true, weight = checked_rows(y_true, y_pred, scores, sample_weight=sample_weight)
        _check_shapes(y_pred, scores, costs, thresholds=thresholds, frontier=frontier)
        correct = y_pred == y_true[:, None]
        frontier_costs = frontier_accuracies = None
        if frontier is not None:
            frontier_costs, frontier_accuracies = frontier_line(
                correct, scores, costs, np.asarray(frontier), weight
            )
        if thresholds is not None:
            exits = exits_of(scores, np.asarray(thresholds, dtype=np.float64))
        point = at_random = None
        if exits is not None:
            exits = checked_exits(exits, len(costs))
            check_consistent_length(y_true, exits)
            point = point_of(correct, exits, costs, weight)
            at_random = random_exits(correct, exits, costs, weight)
        return cls(
            costs,
            np.average(correct, axis=0, weights=weight),
            frontier_costs=frontier_costs,
            frontier_accuracies=frontier_accuracies,
            point=point,
            random=at_random,
            oracle=oracle(correct, costs, weight),
            name=name,
            unit=unit,
        ).plot(ax=ax, **kwargs)


def _check_shapes(
    y_pred: np.ndarray, scores: np.ndarray, costs: np.ndarray, **thresholds: Any
) -> None:
    """Raise a ValueError if arrays of samples, costs and thresholds differ in their exits."""
    if y_pred.ndim != 2 or y_pred.shape != scores.shape or costs.shape != y_pred.shape[1:]:
        raise ValueError(
            "'y_pred' and 'scores' must be of shape (n_samples, n_exits) and 'costs' of shape "
            f"(n_exits,). Got {y_pred.shape}, {scores.shape} and {costs.shape}."
        )
    for name, points in thresholds.items():
        if points is not None and np.shape(points)[-1:] != (len(costs) - 1,):
            raise ValueError(
                f"{name!r} must hold {len(costs) - 1} thresholds for {len(costs)} exits, one "
                f"for each but the last. Got an array of shape {np.shape(points)}."
            )


def _short(count: float) -> str:
    """A count in three digits: 12.3k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return f"{count:.3g}"

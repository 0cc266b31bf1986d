"""Accuracy against cost, for all budgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import numpy as np
from sklearn.utils.validation import check_consistent_length

from skearlyexit._data._labels import encode_labels
from skearlyexit._exit_table import Routing, outcomes_of
from skearlyexit.inspection._checks import (
    check_shapes,
    checked_exits,
    checked_names,
    checked_rows,
)
from skearlyexit.inspection._display import Display
from skearlyexit.inspection._marks import (
    draw,
    draw_legend,
    draw_names,
    label_axes,
    set_log,
    short_count,
)
from skearlyexit.inspection._outliers import OUTSIDE, show_typical
from skearlyexit.inspection._points import frontier_line, point_of
from skearlyexit.metrics import oracle
from skearlyexit.metrics._measures import random_exits


@dataclass(eq=False, repr=False)
class CostAccuracyDisplay(Display):
    """Accuracy against mean cost per sample.

    The line is the frontier: the best thresholds for all budgets. Since they were chosen on other
    samples, accuracy may decrease along it. Marks show each exit alone, the current operating
    point, random exits at the same rates, and an oracle that lets every sample exit at the first
    exit that is right.

    Parameters
    ----------
    costs, accuracies : ndarray of shape (n_exits,)
        Cost and accuracy of each exit on all samples.
    frontier_costs, frontier_accuracies : ndarray of shape (n_points,), default=None
        Mean cost and accuracy of the points of the frontier, by increasing cost. None draws no
        line.
    point : tuple of (float, float), default=None
        Mean cost and accuracy of the current operating point.
    random : tuple of (float, float), default=None
        Mean cost and accuracy of random exits at the same rates.
    oracle : tuple of (float, float), default=None
        Mean cost and accuracy of the oracle.
    name : str, default=None
        Name in the legend.
    unit : str, default="plain network"
        Unit of cost, for the label of the axis.
    exit_names : sequence of str, default=None
        Names of the exits; None numbers them.

    Attributes
    ----------
    line_ : matplotlib Line2D or None
        The frontier.
    exits_ : matplotlib Line2D
        Marks of all exits but the last.
    last_exit_ : matplotlib Line2D
        Mark of the last exit.
    names_ : list of matplotlib Annotation
        Names of exits, of those beside which there is room.
    point_, random_, oracle_ : matplotlib Line2D or None
        Marks of the operating point, of random exits and of the oracle.
    legend_ : matplotlib Legend
        Legend of all displays on the axes.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    ExitDistributionDisplay : Where the samples of each class exit.

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
    exit_names: Sequence[str] | None = None

    def plot(
        self, ax: Any = None, *, name: str | None = None, log: bool = False, **kwargs: Any
    ) -> Any:
        """Draw the line and the marks, and name exits beside which there is room.

        Outliers are marked at the edges of the axes, except at that of a logarithmic axis.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on, in their next color, also beside other displays of this class. None
            creates a new figure.
        name : str, default=None
            Name in the legend; None takes the attribute `name`.
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
        drawn = [line.get_xydata() for line in ax.lines if line.get_gid() != OUTSIDE]
        show_typical(ax, np.concatenate(drawn))
        self.legend_ = draw_legend(ax)
        self.names_ = draw_names(ax, values, checked_names(self.exit_names, len(values)), color)
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
        """Draw the costs and accuracies of a model on given samples.

        Parameters
        ----------
        estimator : EarlyExitClassifier or Pipeline
            Fitted; the last step of a pipeline must be the classifier.
        X : array-like of shape (n_samples, ...)
            Samples that it was neither fitted nor calibrated on.
        y : array-like of shape (n_samples,)
            True labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        threshold : float or sequence of float, default=None
            As in `EarlyExitClassifier.predict`.
        budget : float or Budget, default=None
            As in `EarlyExitClassifier.predict`. With neither, the current operating point is drawn.
        plain_cost : float, default=None
            Unit of cost, in multiply-accumulate operations (MACs) per sample or another unit of the
            model's costs. None takes the cost of the model's own plain network. To compare models
            of different sizes, give the same number for all of them.
        name : str, default=None
            Name in the legend; None takes the name of the classifier's class.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure.
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
            If `estimator` is not an early-exit classifier, or an argument is invalid.
        """
        classifier, X = cls._unwrapped(estimator, X)
        point, rows = classifier._point(threshold, budget), classifier._validate_rows(X)
        table = classifier._tabulated(rows)
        routing = table.routing
        at: dict[str, Any] = {"thresholds": point.thresholds}
        if point.strict_budget is not None:
            at = {"exits": classifier._outcomes(rows, table, point)[0]}
        scale = 1.0 if plain_cost is None else classifier.cost_table_.plain / plain_cost
        if routing is not None:
            routing = replace(routing, savings=scale * routing.savings)
        frontier = classifier.frontier_
        unit = classifier.cost_table_.plain_name
        if plain_cost is not None:
            unit = f"{short_count(plain_cost)} {classifier.cost_table_.unit}"
        return cls.from_predictions(
            encode_labels(y, table.labels, classifier.classes_),
            table.labels,
            scores=table.scores,
            costs=scale * classifier.costs_,
            **at,
            frontier=None if frontier is None else frontier.thresholds,
            routing=routing,
            sample_weight=sample_weight,
            name=type(classifier).__name__ if name is None else name,
            unit=unit,
            exit_names=classifier.exit_names_,
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
        routing: Routing | None = None,
        sample_weight: Any = None,
        name: str | None = None,
        unit: str = "plain network",
        exit_names: Sequence[str] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> CostAccuracyDisplay:
        """Draw costs and accuracies from the outputs of the exits.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels.
        y_pred : array-like of shape (n_samples, n_exits)
            Labels predicted by the exits.
        scores : array-like of shape (n_samples, n_exits)
            Scores of the policy; higher is more confident.
        costs : array-like of shape (n_exits,)
            Cumulative cost of each exit.
        thresholds : array-like of shape (n_exits - 1,), default=None
            Thresholds of the operating point. With neither `thresholds` nor `exits`, no operating
            point is drawn.
        exits : array-like of shape (n_samples,), default=None
            Exit of each sample at the operating point, from 0, in place of `thresholds`.
        frontier : array-like of shape (n_points, n_exits - 1), default=None
            Thresholds chosen on other samples, by increasing cost; None draws no line.
        routing : Routing, default=None
            Exits that samples skip, and what it saves in the unit of `costs`, as `routing` of an
            exit table; None if all are asked, as by samples with given `exits`.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        name : str, default=None
            Name in the legend.
        unit : str, default="plain network"
            Unit of cost, for the label of the axis.
        exit_names : sequence of str, default=None
            Names of the exits; None numbers them.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure.
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
            If the arguments are invalid or inconsistent.
        """
        cls._require_matplotlib("from_predictions")
        if thresholds is not None and exits is not None:
            raise ValueError("At most one of 'thresholds' and 'exits' may be given. Got both.")
        y_pred, scores = np.asarray(y_pred), np.asarray(scores)
        costs = np.asarray(costs, dtype=np.float64)
        y_true, weight = checked_rows(y_true, y_pred, scores, sample_weight=sample_weight)
        check_shapes(y_pred, scores, costs, thresholds=thresholds, frontier=frontier)
        correct = y_pred == y_true[:, None]
        frontier_costs = frontier_accuracies = None
        if frontier is not None:
            frontier_costs, frontier_accuracies = frontier_line(
                correct, scores, costs, np.asarray(frontier), weight, routing
            )
        point = at_random = paid = None
        if thresholds is not None:
            thresholds = np.asarray(thresholds, dtype=np.float64)
            exits, paid = outcomes_of(scores, thresholds, costs, routing)
        if exits is not None:
            exits = checked_exits(exits, len(costs))
            check_consistent_length(y_true, exits)
            point = point_of(correct, exits, costs[exits] if paid is None else paid, weight)
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
            exit_names=checked_names(exit_names, len(costs)),
        ).plot(ax=ax, **kwargs)

"""Costs and accuracies of the candidates of a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from skearlyexit.inspection._display import (
    FIGSIZE,
    Display,
    spread_colors,
    width_with_legend,
)
from skearlyexit.inspection._marks import label_axes
from skearlyexit.inspection._names import WIDTH, longest, shortened
from skearlyexit.inspection._outliers import show_typical

#: Marks of the values of a parameter, which can be distinguished without colors too.
MARKERS = "osD^vPX*<>ph"
#: Maximum number of groups in a legend within the axes, in each column of one beside them, and in
#: all columns.
MAX_INSIDE, ENTRIES_A_COLUMN, MAX_ENTRIES = 6, 20, 59


@dataclass(eq=False, repr=False)
class SearchDisplay(Display):
    """Mean cost and accuracy of every candidate of a search, with their spread over the folds.

    A line in steps joins the efficient candidates: no other candidate is more accurate at the same
    cost or less, or cheaper at the same accuracy or more.

    Parameters
    ----------
    costs, accuracies : ndarray of shape (n_candidates,)
        Means over the folds.
    cost_spreads, accuracy_spreads : ndarray of shape (n_candidates,)
        Standard deviations over the folds.
    candidates : ndarray of shape (n_candidates,)
        Index of each candidate in the search.
    groups : list of str, default=None
        Group of each candidate; every group has its own color.
    group_name : str, default=None
        Name of the parameter that the groups are values of.
    unit : str, default="plain network"
        Unit of cost, for the label of the axis.

    Attributes
    ----------
    efficient_ : ndarray of shape (n_efficient,)
        Indices of the efficient candidates in the search, by increasing cost.
    line_ : matplotlib Line2D
        Line of the efficient candidates.
    points_ : list of matplotlib ErrorbarContainer
        One for each group.
    legend_ : matplotlib Legend
        Legend with the groups.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    skearlyexit.metrics.MeanCost : Scorer for such a search.
    CostAccuracyDisplay : One model at all budgets.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from skearlyexit.inspection import SearchDisplay
    >>> results = {
    ...     "params": [{"exits": 2}, {"exits": 3}, {"exits": 4}],
    ...     "mean_test_accuracy": [0.90, 0.94, 0.93], "std_test_accuracy": [0.01, 0.01, 0.02],
    ...     "mean_test_cost": [-0.5, -0.6, -0.7], "std_test_cost": [0.02, 0.03, 0.02]}
    >>> display = SearchDisplay.from_cv_results(results)
    >>> display.efficient_
    array([0, 1])
    >>> plt.close(display.figure_)
    """

    costs: np.ndarray
    accuracies: np.ndarray
    _: KW_ONLY
    cost_spreads: np.ndarray
    accuracy_spreads: np.ndarray
    candidates: np.ndarray
    groups: list[str] | None = None
    group_name: str | None = None
    unit: str = "plain network"

    def plot(self, ax: Any = None, **kwargs: Any) -> Any:
        """Draw points with error bars, and the line of the efficient candidates.

        Outliers are marked at the edges of the axes. At most 59 groups are in the legend.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure.
        **kwargs : dict
            Passed to ``ax.errorbar``.

        Returns
        -------
        self : SearchDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        groups = np.array(["candidates"] * len(self.costs) if self.groups is None else self.groups)
        names = list(dict.fromkeys(groups))  # in the order of the search
        labels = shortened(names)
        if self.group_name is not None:
            labels = [f"{self.group_name} = {label}" for label in labels]
        beside = len(labels) > MAX_INSIDE or longest(labels) > WIDTH
        shown = labels[:MAX_ENTRIES]
        n_columns = -(-(len(shown) + 1) // ENTRIES_A_COLUMN)
        figsize = FIGSIZE
        if beside:
            one = width_with_legend(shown, 0.0)
            figsize = FIGSIZE[0] + n_columns * one, FIGSIZE[1]
        ax = self._axes(ax, figsize)
        best = _efficient(self.costs, self.accuracies)
        self.efficient_ = self.candidates[best]
        (self.line_,) = ax.plot(
            self.costs[best],
            100 * self.accuracies[best],
            color="0.55",
            drawstyle="steps-post",
            linewidth=1.2,
            zorder=1,
            label="efficient",
        )
        colors = spread_colors("viridis", len(names), first=0.05, last=0.85)
        self.points_: list[Any] = []
        for i, name in enumerate(names):
            members = groups == name
            style = {
                "fmt": MARKERS[i % len(MARKERS)],
                "color": colors[i],
                "markersize": 6,
                "elinewidth": 0.8,
                "label": labels[i] if i < MAX_ENTRIES else "_nolegend_",
                **kwargs,
            }
            self.points_.append(
                ax.errorbar(
                    self.costs[members],
                    100 * self.accuracies[members],
                    xerr=self.cost_spreads[members],
                    yerr=100 * self.accuracy_spreads[members],
                    **style,
                )
            )
        label_axes(ax, self.unit)
        ax.spines[["top", "right"]].set_visible(False)
        show_typical(ax, np.column_stack([self.costs, 100 * self.accuracies]))
        if not beside:
            self.legend_ = ax.legend(fontsize="small")
            return self
        left_out = len(labels) - len(shown)
        title = f"{left_out} more are not listed" if left_out else None
        self._legend_beside(fontsize="small", ncols=n_columns, title=title)
        return self

    @classmethod
    def from_cv_results(
        cls,
        search: Any,
        *,
        accuracy: str = "accuracy",
        cost: str = "cost",
        group: str | None = None,
        unit: str = "plain network",
        ax: Any = None,
        **kwargs: Any,
    ) -> SearchDisplay:
        """Draw the candidates of a search with two metrics.

        Parameters
        ----------
        search : GridSearchCV, RandomizedSearchCV or another search, or dict
            Fitted with several metrics, such as
            ``scoring={"accuracy": "accuracy", "cost": MeanCost()}``; or its ``cv_results_``.
        accuracy : str, default="accuracy"
            Name of the metric on the vertical axis.
        cost : str, default="cost"
            Name of the metric on the horizontal axis, a cost that was negated by `MeanCost`.
        group : str, default=None
            Parameter of the search whose values each have their own color.
        unit : str, default="plain network"
            Unit of cost, for the label of the axis, where `MeanCost` was given a ``plain_cost``.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : SearchDisplay
            Candidates that failed are left out.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If a metric or the parameter is not in the search, all candidates failed, or a cost is
            not negated.
        """
        cls._require_matplotlib("from_cv_results")
        results = getattr(search, "cv_results_", search)
        if not isinstance(results, Mapping):
            raise TypeError(
                "'search' must be a fitted search, or its cv_results_. Got "
                f"{type(search).__name__} instead"
                + (", which is not fitted." if hasattr(search, "fit") else ".")
            )
        found = {}
        for metric in (accuracy, cost):
            for kind in ("mean", "std"):
                found[kind, metric] = _column(results, kind, metric)
        means, costs = found["mean", accuracy], -found["mean", cost]
        done = np.isfinite(means) & np.isfinite(costs)
        if not done.any():
            raise ValueError(
                f"All {len(done)} candidates failed: their scores are nan. Search again with "
                "error_score='raise' to see why."
            )
        if (costs[done] <= 0).any():
            raise ValueError(
                f"The metric {cost!r} must be a negated cost, below 0, as MeanCost gives it. Got "
                f"{-costs[done].min():.4g}."
            )
        groups = None
        if group is not None:
            groups = _groups(results["params"], group, done)
        return cls(
            costs[done],
            means[done],
            cost_spreads=found["std", cost][done],
            accuracy_spreads=found["std", accuracy][done],
            candidates=np.flatnonzero(done),
            groups=groups,
            group_name=group,
            unit=unit,
        ).plot(ax=ax, **kwargs)


def _column(results: Mapping[str, Any], kind: str, metric: str) -> np.ndarray:
    """Mean or standard deviation of a metric, shape (n_candidates,)."""
    key = f"{kind}_test_{metric}"
    if key not in results:
        metrics = sorted(name[10:] for name in results if name.startswith("mean_test_"))
        raise ValueError(
            f"The search has no metric {metric!r}. Got results for {metrics}; search with "
            "scoring={'accuracy': 'accuracy', 'cost': MeanCost()}, or name the metrics."
        )
    return np.asarray(results[key], dtype=np.float64)


def _groups(candidates: Any, name: str, done: np.ndarray) -> list[str]:
    """Value of a parameter for each candidate that did not fail."""
    known = sorted({key for params in candidates for key in params})
    if name not in known:
        raise ValueError(f"'group' must be a searched parameter, one of {known}. Got {name!r}.")
    # Not every part of a grid needs to have the parameter.
    values = [str(params.get(name, "not searched")) for params in candidates]
    return [value for value, kept in zip(values, done, strict=True) if kept]


def _efficient(costs: np.ndarray, accuracies: np.ndarray) -> np.ndarray:
    """Indices of the points that no other dominates, by increasing cost."""
    order = np.lexsort((-accuracies, costs))
    best_before = np.concatenate([[-np.inf], np.maximum.accumulate(accuracies[order])[:-1]])
    return np.asarray(order[accuracies[order] > best_before])

"""Error against cost, for all budgets, in regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from sklearn.base import is_regressor

from skearlyexit._data._sources import labels_of
from skearlyexit._data._weights import checked_weight, scaled
from skearlyexit._utils._unwrap import last_step
from skearlyexit.inspection._checks import checked_names
from skearlyexit.inspection._display import Display
from skearlyexit.inspection._marks import style_of

#: Points of a line; more cannot be distinguished.
MAX_POINTS = 200


@dataclass(eq=False, repr=False)
class CostErrorDisplay(Display):
    """Error against mean cost per sample, of a regressor.

    The line is the frontier: the best thresholds for all budgets. Since they were chosen on other
    samples, the error may increase along it. Marks show each exit alone and the current operating
    point. The error is that of `RegressionReport`.

    Parameters
    ----------
    costs, errors : ndarray of shape (n_exits,)
        Cost and error of each exit on all samples.
    frontier_costs, frontier_errors : ndarray of shape (n_points,), default=None
        Mean cost and error of the points of the frontier, by increasing cost. None draws no line.
    point : tuple of (float, float), default=None
        Mean cost and error of the current operating point.
    name : str, default=None
        Name in the legend.
    exit_names : sequence of str, default=None
        Names of the exits; None numbers them.
    unit : str, default="plain network"
        What costs 1.

    Attributes
    ----------
    line_ : matplotlib Line2D or None
        The frontier.
    exits_ : matplotlib Line2D
        Marks of all exits.
    point_ : matplotlib Line2D or None
        Mark of the operating point.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    CostAccuracyDisplay : The same for classifiers.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_diabetes
    >>> from skearlyexit import EarlyExitRegressor, MLPBackbone
    >>> from skearlyexit.inspection import CostErrorDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> reg = EarlyExitRegressor(
    ...     MLPBackbone(2, width=16, hidden=16), calibration=0.3, max_epochs=10, random_state=0)
    >>> display = CostErrorDisplay.from_estimator(reg.fit(X[:300], y[:300]), X[300:], y[300:])
    >>> display.errors.shape == (reg.n_exits_,)
    True
    >>> plt.close(display.figure_)
    """

    costs: np.ndarray
    errors: np.ndarray
    _: KW_ONLY
    frontier_costs: np.ndarray | None = None
    frontier_errors: np.ndarray | None = None
    point: tuple[float, float] | None = None
    name: str | None = None
    exit_names: Sequence[str] | None = None
    unit: str = "plain network"

    def plot(self, ax: Any = None, *, name: str | None = None, **kwargs: Any) -> Any:
        """Draw the line and the marks, with the names of the exits.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on, also beside other displays of this class. None creates a new figure.
        name : str, default=None
            Name in the legend; None takes the attribute `name`.
        **kwargs : dict
            Passed to ``ax.plot`` for the line, or for the marks of the exits if there is none.

        Returns
        -------
        self : CostErrorDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        ax = self._axes(ax)
        name = self.name if name is None else name
        style = {"label": "model" if name is None else name, **kwargs}
        self.line_ = self.point_ = None
        if self.frontier_costs is not None and self.frontier_errors is not None:
            (self.line_,) = ax.plot(self.frontier_costs, self.frontier_errors, **style)
            style = {"color": self.line_.get_color()}
        (self.exits_,) = ax.plot(
            self.costs, self.errors, **{"linestyle": "none", **style_of("exit alone"), **style}
        )
        color = self.exits_.get_color()
        names = checked_names(self.exit_names, len(self.costs))
        for text, at in zip(names, zip(self.costs, self.errors, strict=True), strict=True):
            ax.annotate(text, at, (5, 5), textcoords="offset points", fontsize="x-small")
        if self.point is not None:
            mark = {"linestyle": "none", **style_of("operating point"), "color": color}
            (self.point_,) = ax.plot(*([value] for value in self.point), **mark)
        ax.set(xlabel=f"Mean cost per sample ({self.unit} = 1)", ylabel="Error")
        ax.legend(fontsize="small")
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
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> CostErrorDisplay:
        """Draw the costs and errors of a regressor on given samples.

        Parameters
        ----------
        estimator : EarlyExitRegressor or Pipeline
            Fitted; the last step of a pipeline must be the regressor.
        X : array-like of shape (n_samples, ...)
            Samples that it was neither fitted nor calibrated on.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            True values.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        threshold : float or sequence of float, default=None
            As in `EarlyExitRegressor.predict`.
        budget : float or Budget, default=None
            As in `EarlyExitRegressor.predict`. With neither, the current operating point is drawn.
        name : str, default=None
            Name in the legend; None takes the name of the regressor's class.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : CostErrorDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If `estimator` is not an early-exit regressor, or an argument is invalid.
        """
        cls._require_matplotlib("from_estimator")
        model, rows = last_step(estimator, X)
        if not is_regressor(model):
            raise TypeError(
                f"CostErrorDisplay is for regressors. Got {type(model).__name__}; use "
                "CostAccuracyDisplay."
            )
        point = model._point(threshold, budget)
        task, costs, valid = model._task, model.costs_, model._validate_rows(rows)
        table = model._tabulated(valid)
        losses = task.losses(table.predictions, task.encoded(labels_of(rows, y), table.scores))
        weight = scaled(checked_weight(sample_weight, losses))

        def means(exits: np.ndarray, paid: np.ndarray) -> tuple[float, float]:
            values = losses[np.arange(len(exits)), exits]
            loss = float(np.average(values, weights=weight))
            return float(np.average(paid, weights=weight)), task.error_scale.error(loss)

        at_each = (np.full(len(losses), i) for i in range(model.n_exits_))
        alone = [means(exits, costs[exits])[1] for exits in at_each]
        frontier_costs = frontier_errors = None
        if model.frontier_ is not None:
            thresholds = model.frontier_.thresholds
            shown = np.unique(np.linspace(0, len(thresholds) - 1, MAX_POINTS).round().astype(int))
            found = np.array([means(*table.outcomes(row, costs)) for row in thresholds[shown]])
            frontier_costs, frontier_errors = found[np.argsort(found[:, 0], kind="stable")].T
        return cls(
            costs,
            np.array(alone),
            frontier_costs=frontier_costs,
            frontier_errors=frontier_errors,
            point=means(*model._outcomes(valid, table, point)),
            name=type(model).__name__ if name is None else name,
            exit_names=model.exit_names_,
            unit=model.cost_table_.plain_name,
        ).plot(ax=ax, **kwargs)

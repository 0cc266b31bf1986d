"""Accuracy against cost of several runs, with their spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_array

from skearlyexit._utils._unwrap import last_step
from skearlyexit.inspection._display import Display
from skearlyexit.inspection._marks import label_axes
from skearlyexit.inspection._points import budget_line

#: Budgets that are drawn; more are not seen.
N_BUDGETS = 60
BANDS = ("std", "range")


@dataclass(eq=False, repr=False)
class RunsDisplay(Display):
    """Accuracy against mean cost of the same model fitted several times.

    Runs that differ by their seed only, or by the rows they were fitted on, differ in accuracy by
    more than many methods do. The line is the mean of the runs at each budget, the band their
    spread.

    Parameters
    ----------
    costs, accuracies : ndarray of shape (n_runs, n_budgets)
        Mean cost and accuracy of each run at each budget.
    name : str, default=None
        Entry of the legend.

    Attributes
    ----------
    line_ : matplotlib Line2D
    band_ : matplotlib FillBetweenPolyCollection
    legend_ : matplotlib Legend
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    CostAccuracyDisplay : One run, beside what it is to be compared with.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skearlyexit.inspection import RunsDisplay
    >>> costs, accuracies = [[0.3, 0.9], [0.4, 1.0]], [[0.7, 0.9], [0.8, 0.9]]
    >>> display = RunsDisplay(np.array(costs), np.array(accuracies)).plot()
    >>> display.line_.get_ydata()
    array([75., 90.])
    >>> plt.close(display.figure_)
    """

    costs: np.ndarray
    accuracies: np.ndarray
    _: KW_ONLY
    name: str | None = None

    def plot(self, ax: Any = None, *, band: str = "std", **kwargs: Any) -> Any:
        """Draw line and band.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            One that holds other displays takes this one too, in its next color; None draws on a
            new figure.
        band : {"std", "range"}, default="std"
            One standard deviation of the runs on either side, or from the worst to the best.
        **kwargs : dict
            Passed to ``ax.plot`` for the line.

        Returns
        -------
        self : RunsDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there is no such band.
        """
        if band not in BANDS:
            raise ValueError(f"'band' must be one of {BANDS}. Got {band!r} instead.")
        ax = self._axes(ax)
        costs, percent = self.costs.mean(axis=0), 100 * self.accuracies
        middle = percent.mean(axis=0)
        n_runs = len(percent)
        if band == "std":
            # Of the runs as a sample; one alone has no spread.
            spread = percent.std(axis=0, ddof=1) if n_runs > 1 else np.zeros_like(middle)
            low, high = middle - spread, middle + spread
        else:
            low, high = percent.min(axis=0), percent.max(axis=0)
        label = f"{self.name or 'model'}, {n_runs} run{'s' if n_runs > 1 else ''}"
        (self.line_,) = ax.plot(costs, middle, **{"label": label, **kwargs})
        self.band_ = ax.fill_between(
            costs, low, high, color=self.line_.get_color(), alpha=0.2, linewidth=0
        )
        label_axes(ax)
        self.legend_ = ax.legend(fontsize="small")
        return self

    @classmethod
    def from_estimators(
        cls,
        estimators: Sequence[Any],
        X: Any,
        y: Any,
        *,
        budgets: Any = None,
        sample_weight: Any = None,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> RunsDisplay:
        """Draw what several fitted models do on the same rows.

        Parameters
        ----------
        estimators : sequence of EarlyExitClassifier or Pipeline
            Fitted, with networks of the same size: costs are in units of each one's own.
        X : array-like of shape (n_samples, ...)
            Rows that none of them was fitted or calibrated on.
        y : array-like of shape (n_samples,)
            True labels.
        budgets : array-like of shape (n_budgets,), default=None
            Budgets, each as in `EarlyExitClassifier.predict`. None takes some at equal distances,
            from the smallest that all the models can keep to the largest that still changes
            something for one of them.
        sample_weight : array-like of shape (n_samples,), default=None
        name : str, default=None
            Entry of the legend.
        ax : matplotlib Axes, default=None
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : RunsDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If an estimator is of another kind or has no frontier, or an argument does not fit.
        """
        cls._require_matplotlib("from_estimators")
        if not isinstance(estimators, Sequence) or not len(estimators):
            raise TypeError(
                "'estimators' must be a list of fitted estimators, one at least. Got "
                f"{type(estimators).__name__}."
            )
        models = [last_step(estimator, X) for estimator in estimators]
        for i, (classifier, _) in enumerate(models):
            if classifier.frontier_ is None:
                raise ValueError(
                    f"Estimator {i} has no frontier_, from which thresholds for budgets are taken: "
                    "it was fitted without calibration rows. Call calibrate(X, y) with rows that "
                    "it was not fitted on."
                )
        if budgets is None:
            frontiers = [classifier.frontier_.costs for classifier, _ in models]
            budgets = np.linspace(
                max(costs[0] for costs in frontiers),
                max(costs[-1] for costs in frontiers),
                N_BUDGETS,
            )
        budgets = check_array(budgets, ensure_2d=False, dtype=np.float64, input_name="budgets")
        values = [budget_line(*model, y, budgets, sample_weight) for model in models]
        costs, accuracies = (np.array(column) for column in zip(*values, strict=True))
        return cls(costs, accuracies, name=name).plot(ax=ax, **kwargs)

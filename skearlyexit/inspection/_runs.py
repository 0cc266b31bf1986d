"""Accuracy against cost of several runs, with their spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
from sklearn.utils.validation import check_array

from skearlyexit._utils._unwrap import last_classifier
from skearlyexit.inspection._display import Display
from skearlyexit.inspection._marks import label_axes
from skearlyexit.inspection._names import WIDTH, shortened
from skearlyexit.inspection._points import budget_line, same_thresholds

#: Budgets of a line; more cannot be distinguished.
N_BUDGETS = 60
BANDS = ("std", "range")


@dataclass(eq=False, repr=False)
class RunsDisplay(Display):
    """Accuracy against mean cost of the same model fitted several times.

    The accuracies of runs that differ only in their random state or in their training samples often
    differ more than those of two methods. The line is the mean of the runs at each budget, the band
    their spread.

    Parameters
    ----------
    costs, accuracies : ndarray of shape (n_runs, n_budgets)
        Mean cost and accuracy of each run at each budget.
    name : str, default=None
        Name in the legend.
    advice : list of str, default=[]
        Sentences on given budgets that have the same thresholds in every run.

    Attributes
    ----------
    line_ : matplotlib Line2D
        Mean of the runs.
    band_ : matplotlib FillBetweenPolyCollection
        Spread of the runs.
    legend_ : matplotlib Legend
        Legend with the number of runs.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    CostAccuracyDisplay : One run, with its exits, random exits and an oracle.

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
    advice: list[str] = field(default_factory=list)

    def plot(self, ax: Any = None, *, band: str = "std", **kwargs: Any) -> Any:
        """Draw the line and the band.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on, in their next color, also beside other displays. None creates a new
            figure.
        band : {"std", "range"}, default="std"
            One standard deviation of the runs on either side, or from the worst run to the best.
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
            If `band` is not one of these.
        """
        if band not in BANDS:
            raise ValueError(f"'band' must be one of {BANDS}. Got {band!r} instead.")
        ax = self._axes(ax)
        costs, percent = self.costs.mean(axis=0), 100 * self.accuracies
        middle = percent.mean(axis=0)
        n_runs = len(percent)
        if band == "std":
            # One run has no standard deviation.
            spread = percent.std(axis=0, ddof=1) if n_runs > 1 else np.zeros_like(middle)
            low, high = middle - spread, middle + spread
        else:
            low, high = percent.min(axis=0), percent.max(axis=0)
        # A standard deviation may reach beyond what is possible.
        low, high = np.clip(low, 0, 100), np.clip(high, 0, 100)
        (name,) = shortened([self.name or "model"], 2 * WIDTH)
        label = f"{name}, {n_runs} run{'s' if n_runs > 1 else ''}"
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
        """Draw several fitted models on the same samples.

        Parameters
        ----------
        estimators : sequence of EarlyExitClassifier or Pipeline
            Fitted. Their plain networks should have the same cost, the unit of the costs.
        X : array-like of shape (n_samples, ...)
            Samples that none of them was fitted or calibrated on.
        y : array-like of shape (n_samples,)
            True labels.
        budgets : array-like of shape (n_budgets,), default=None
            Budgets, each as in `EarlyExitClassifier.predict`. None takes 60 at equal distances,
            from the lowest that all models can keep to the highest that makes a difference for one
            of them.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        name : str, default=None
            Name in the legend.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure.
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
            If an estimator is not an early-exit classifier or has no frontier, or an argument is
            invalid.
        """
        cls._require_matplotlib("from_estimators")
        if not isinstance(estimators, Sequence) or not len(estimators):
            raise TypeError(
                "'estimators' must be a list of fitted estimators, one at least. Got "
                f"{type(estimators).__name__}."
            )
        models = [last_classifier(estimator, X, cls.__name__) for estimator in estimators]
        for i, (classifier, _) in enumerate(models):
            if classifier.frontier_ is None:
                raise ValueError(
                    f"Estimator {i} has no frontier_, from which thresholds for budgets are taken: "
                    "it was fitted without calibration samples. Call calibrate(X, y) with samples "
                    "that it was not fitted on."
                )
        frontiers = [classifier.frontier_ for classifier, _ in models]
        advice: list[str] = []
        if budgets is None:
            budgets = np.linspace(
                max(frontier.costs[0] for frontier in frontiers),
                max(frontier.costs[-1] for frontier in frontiers),
                N_BUDGETS,
            )
        else:
            budgets = check_array(budgets, ensure_2d=False, dtype=np.float64, input_name="budgets")
            advice = same_thresholds(budgets, frontiers)
        values = [budget_line(*model, y, budgets, sample_weight) for model in models]
        costs, accuracies = (np.array(column) for column in zip(*values, strict=True))
        return cls(costs, accuracies, name=name, advice=advice).plot(ax=ax, **kwargs)

"""Where the samples of each class exit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from skearlyexit._data._labels import encode_labels
from skearlyexit.inspection._checks import (
    checked_exits,
    checked_names,
    checked_rows,
    names_with_costs,
)
from skearlyexit.inspection._display import Display, spread_colors
from skearlyexit.inspection._names import CHARACTER, longest, shortened

#: Inches: width of a figure, of all but the axes and the names of classes, height of a bar, height
#: of title and axis together, and the maximum height of a figure.
WIDTH, FRAME_WIDTH, BAR_HEIGHT, FRAME_HEIGHT, MAX_HEIGHT = 6.4, 0.5, 0.24, 1.2, 40.0
#: Inches of an entry of the legend: its patch and gaps, and its height.
ENTRY_WIDTH, ENTRY_HEIGHT = 0.42, 0.2


@dataclass(eq=False, repr=False)
class ExitDistributionDisplay(Display):
    """Share of the samples of each class that exit at each exit.

    Parameters
    ----------
    shares : ndarray of shape (n_classes, n_exits)
        Shares of each class, which sum to 1.
    overall : ndarray of shape (n_exits,)
        Shares of all samples.
    classes : ndarray of shape (n_classes,)
        Labels of the classes.
    exit_names : sequence of str
        Names of the exits.

    Attributes
    ----------
    bars_ : list of matplotlib BarContainer
        One for each exit: a bar for all samples, then one for each class.
    legend_ : matplotlib Legend
        Legend with the names of the exits.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    CostAccuracyDisplay : Accuracy against cost.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from skearlyexit.inspection import ExitDistributionDisplay
    >>> display = ExitDistributionDisplay.from_predictions(
    ...     ["cat", "cat", "dog", "dog"], [0, 0, 0, 2], n_exits=3)
    >>> display.shares
    array([[1. , 0. , 0. ],
           [0.5, 0. , 0.5]])
    >>> plt.close(display.figure_)
    """

    shares: np.ndarray
    overall: np.ndarray
    _: KW_ONLY
    classes: np.ndarray
    exit_names: Sequence[str]

    def plot(self, ax: Any = None, *, cmap: Any = "viridis", **kwargs: Any) -> Any:
        """Draw stacked bars.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure, as high as the number of classes requires.
        cmap : str or matplotlib Colormap, default="viridis"
            Colors of the exits, from the first to the last.
        **kwargs : dict
            Passed to ``ax.barh``.

        Returns
        -------
        self : ExitDistributionDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        percent = 100 * np.vstack([self.overall, self.shares])
        n_bars, n_exits = percent.shape
        exit_names, classes = shortened(self.exit_names), shortened(self.classes)
        entry = ENTRY_WIDTH + CHARACTER * longest(exit_names)
        if ax is None:
            width = WIDTH - FRAME_WIDTH - CHARACTER * longest(classes)
        else:
            width = ax.get_window_extent().width / ax.figure.dpi
        n_columns = min(max(int(width / entry), 1), n_exits)
        n_lines = -(-n_exits // n_columns)
        height = FRAME_HEIGHT + ENTRY_HEIGHT * n_lines + BAR_HEIGHT * n_bars
        ax = self._axes(ax, (WIDTH, min(height, MAX_HEIGHT)))
        # The bar of all samples is apart from those of the classes.
        at = np.arange(n_bars) + np.where(np.arange(n_bars) > 0, 0.5, 0.0)
        colors = spread_colors(cmap, n_exits)
        left = np.zeros(n_bars)
        self.bars_: list[Any] = []
        for exit_, name in enumerate(exit_names):
            style = {"height": 0.8, "color": colors[exit_], "label": name, **kwargs}
            self.bars_.append(ax.barh(at, percent[:, exit_], left=left, **style))
            left += percent[:, exit_]
        ax.set(xlim=(0, 100), ylim=(at[-1] + 0.6, -0.6), xlabel="Samples exiting at each exit (%)")
        ax.set_yticks(at, ["all", *classes])
        ax.tick_params(axis="y", length=0)
        ax.spines[["top", "right", "left"]].set_visible(False)
        self._legend_above(n_columns)
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
        ax: Any = None,
        **kwargs: Any,
    ) -> ExitDistributionDisplay:
        """Draw where given samples exit from a model.

        Parameters
        ----------
        estimator : EarlyExitClassifier or Pipeline
            Fitted; the last step of a pipeline must be the classifier.
        X : array-like of shape (n_samples, ...)
            Samples.
        y : array-like of shape (n_samples,)
            True labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        threshold : float or sequence of float, default=None
            As in `EarlyExitClassifier.predict`.
        budget : float or Budget, default=None
            As in `EarlyExitClassifier.predict`. With neither, the current operating point is drawn.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : ExitDistributionDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If `estimator` is not an early-exit classifier, or an argument is invalid.
        """
        classifier, X = cls._unwrapped(estimator, X)
        _, exits = classifier.predict(X, threshold=threshold, budget=budget, return_exits=True)
        encode_labels(y, exits, classifier.classes_)  # raises for unknown labels
        return cls.from_predictions(
            y,
            exits,
            n_exits=len(classifier.costs_),
            exit_names=names_with_costs(classifier),
            sample_weight=sample_weight,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        exits: Any,
        *,
        n_exits: int,
        exit_names: Sequence[str] | None = None,
        sample_weight: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> ExitDistributionDisplay:
        """Draw where samples exit, from their labels and exits.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels.
        exits : array-like of shape (n_samples,)
            Exit of each sample, from 0.
        n_exits : int
            Number of exits, including those at which no sample exits.
        exit_names : sequence of str, default=None
            Names of the exits; None numbers them.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights; classes whose samples all have weight 0 are left out.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : ExitDistributionDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the arguments are invalid or inconsistent.
        """
        cls._require_matplotlib("from_predictions")
        y_true, weight = checked_rows(y_true, exits, sample_weight=sample_weight)
        exits = checked_exits(exits, n_exits)
        used = weight > 0
        classes, index = np.unique(y_true[used], return_inverse=True)
        sums = np.zeros((len(classes), n_exits))
        np.add.at(sums, (index, exits[used]), weight[used])
        return cls(
            sums / sums.sum(axis=1, keepdims=True),
            sums.sum(axis=0) / sums.sum(),
            classes=classes,
            exit_names=checked_names(exit_names, n_exits),
        ).plot(ax=ax, **kwargs)

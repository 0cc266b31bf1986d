"""Calibration of the exits: accuracy against confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from skearlyexit._data._labels import encode_labels
from skearlyexit.inspection._checks import checked_names, names_with_costs
from skearlyexit.inspection._display import Display, spread_colors, width_with_legend
from skearlyexit.inspection._names import shortened
from skearlyexit.metrics import ReliabilityCurve, reliability_curve

#: Area in points of the mark of a bin that holds all samples, and of the smallest mark.
LARGEST, SMALLEST = 260.0, 14.0


@dataclass(eq=False, repr=False)
class ReliabilityDisplay(Display):
    """Reliability diagram: accuracy against confidence, with a line for each exit.

    On the diagonal an exit is calibrated; below it, it is overconfident. The area of a mark is the
    share of the samples in its bin, and small marks may be off the diagonal at random.

    Parameters
    ----------
    curve : ReliabilityCurve
        Confidence and accuracy in each bin, for each exit.
    exit_names : sequence of str
        Names of the exits.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        One for each exit.
    marks_ : list of matplotlib PathCollection
        One for each exit.
    diagonal_ : matplotlib Line2D
        Line of perfect calibration.
    legend_ : matplotlib Legend
        Legend with the expected calibration error of each exit.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    skearlyexit.metrics.reliability_curve : Compute the curve.
    sklearn.calibration.CalibrationDisplay : Reliability diagram of one binary classifier.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skearlyexit.inspection import ReliabilityDisplay
    >>> probabilities = np.array([[[0.9, 0.1], [1.0, 0.0]], [[0.3, 0.7], [0.1, 0.9]]])
    >>> display = ReliabilityDisplay.from_predictions([0, 1], probabilities, n_bins=5)
    >>> display.curve.error.round(6)
    array([0.2 , 0.05])
    >>> plt.close(display.figure_)
    """

    curve: ReliabilityCurve
    _: KW_ONLY
    exit_names: Sequence[str]

    def plot(self, ax: Any = None, *, cmap: Any = "viridis", **kwargs: Any) -> Any:
        """Draw the lines and the marks.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure.
        cmap : str or matplotlib Colormap, default="viridis"
            Colors of the exits, from the first to the last.
        **kwargs : dict
            Passed to ``ax.plot`` for the lines.

        Returns
        -------
        self : ReliabilityDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        labels = [
            f"{name}: ECE {error:.3f}"
            for name, error in zip(shortened(self.exit_names), self.curve.error, strict=True)
        ]
        ax = self._axes(ax, (width_with_legend(labels), 4.8))
        (self.diagonal_,) = ax.plot([0, 1], [0, 1], color="0.6", linestyle=":", zorder=0)
        colors = spread_colors(cmap, len(self.exit_names), first=0.85)
        self.lines_: list[Any] = []
        self.marks_: list[Any] = []
        for exit_, label in enumerate(labels):
            held = self.curve.share[exit_] > 0
            at = self.curve.confidence[exit_, held], self.curve.accuracy[exit_, held]
            style = {"color": colors[exit_], "label": label, **kwargs}
            (line,) = ax.plot(*at, **style)
            size = np.maximum(LARGEST * self.curve.share[exit_, held], SMALLEST)
            self.lines_.append(line)
            self.marks_.append(
                ax.scatter(*at, size, color=line.get_color(), edgecolor="white", linewidth=0.7)
            )
            self.marks_[-1].set_zorder(3)
        ax.set(
            xlabel="Confidence of the answer",
            ylabel="Share of right answers",
            xlim=(-0.02, 1.03),
            ylim=(-0.03, 1.04),
        )
        ax.spines[["top", "right"]].set_visible(False)
        self._legend_beside()
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        n_bins: int = 15,
        strategy: str = "uniform",
        sample_weight: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> ReliabilityDisplay:
        """Draw the calibration of each exit of a model, on all samples.

        Parameters
        ----------
        estimator : EarlyExitClassifier or Pipeline
            Fitted; the last step of a pipeline must be the classifier.
        X : array-like of shape (n_samples, ...)
            Samples that it was neither fitted nor calibrated on.
        y : array-like of shape (n_samples,)
            True labels.
        n_bins : int, default=15
            Number of bins.
        strategy : {"uniform", "quantile"}, default="uniform"
            Bins of equal width, or with equal numbers of samples.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : ReliabilityDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If `estimator` is not an early-exit classifier, or an argument is invalid.
        """
        classifier, X = cls._unwrapped(estimator, X)
        probabilities = classifier.exit_table(X).probabilities
        return cls.from_predictions(
            encode_labels(y, probabilities, classifier.classes_),
            probabilities,
            n_bins=n_bins,
            strategy=strategy,
            exit_names=names_with_costs(classifier),
            sample_weight=sample_weight,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        y_index: Any,
        probabilities: Any,
        *,
        n_bins: int = 15,
        strategy: str = "uniform",
        exit_names: Sequence[str] | None = None,
        sample_weight: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> ReliabilityDisplay:
        """Draw calibration from the predicted probabilities of the exits.

        Parameters
        ----------
        y_index : array-like of shape (n_samples,), int
            True classes, as indices of the last axis of `probabilities`.
        probabilities : array-like of shape (n_samples, n_exits, n_classes)
            Predicted probabilities.
        n_bins : int, default=15
            Number of bins.
        strategy : {"uniform", "quantile"}, default="uniform"
            Bins of equal width, or with equal numbers of samples.
        exit_names : sequence of str, default=None
            Names of the exits; None numbers them.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : ReliabilityDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the arguments are invalid or inconsistent.
        """
        cls._require_matplotlib("from_predictions")
        curve = reliability_curve(
            probabilities, y_index, n_bins, strategy=strategy, weight=sample_weight
        )
        names = checked_names(exit_names, len(curve.share))
        return cls(curve, exit_names=names).plot(ax=ax, **kwargs)

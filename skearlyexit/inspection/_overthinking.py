"""First exits that are right, and whether the last one is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from skearlyexit._data._labels import encode_labels
from skearlyexit.inspection._checks import checked_names, checked_rows
from skearlyexit.inspection._display import Display
from skearlyexit.inspection._names import CHARACTER, longest, shortened
from skearlyexit.metrics import Overthinking, overthinking

#: Blue, vermilion and gray, which can be distinguished with any color vision.
COLORS = {"kept": "#0072B2", "lost": "#D55E00", "never": "0.65"}
#: Inches: width of a figure, least width for a bar, height.
WIDTH, BAR_WIDTH, HEIGHT = 6.4, 0.9, 4.2


@dataclass(eq=False, repr=False)
class OverthinkingDisplay(Display):
    """Shares of samples by the first exit that is right, and whether the last exit is right.

    Blue bars before the last exit show wasteful overthinking: the last exit repeats a right
    prediction. Red parts show destructive overthinking: the last exit is wrong where an earlier one
    was right.

    Parameters
    ----------
    overthinking : Overthinking
        Measures of overthinking.
    exit_names : sequence of str
        Names of the exits.

    Attributes
    ----------
    bars_ : dict of matplotlib BarContainer
        ``"kept"`` and ``"lost"`` with a bar for each exit, and ``"never"`` with one bar.
    texts_ : list of matplotlib Annotation
        Shares above the bars, in percent.
    legend_ : matplotlib Legend
        Legend with the total shares.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    skearlyexit.metrics.overthinking : Compute the measures.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from skearlyexit.inspection import OverthinkingDisplay
    >>> display = OverthinkingDisplay.from_predictions(
    ...     ["cat", "dog"], [["cat", "dog"], ["cat", "dog"]], costs=[0.3, 1.0])
    >>> display.overthinking.destructive_share
    0.5
    >>> plt.close(display.figure_)
    """

    overthinking: Overthinking
    _: KW_ONLY
    exit_names: Sequence[str]

    def plot(self, ax: Any = None, **kwargs: Any) -> Any:
        """Draw stacked bars.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure, as wide as the number of exits requires.
        **kwargs : dict
            Passed to ``ax.bar``.

        Returns
        -------
        self : OverthinkingDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        found, n_exits = self.overthinking, len(self.exit_names)
        names = shortened(self.exit_names)
        width = max(WIDTH, BAR_WIDTH * (n_exits + 1))
        if ax is not None:
            width = ax.get_window_extent().width / ax.figure.dpi
        long = CHARACTER * longest(names) > width / (n_exits + 2)
        ax = self._axes(ax, (width, HEIGHT + (CHARACTER * longest(names) / 2 if long else 0)))
        at, kept, lost = np.arange(n_exits), 100 * found.kept, 100 * found.lost
        self.bars_: dict[str, Any] = {}
        for kind, where, height, bottom, label in (
            ("kept", at, kept, 0.0, f"right at the end: {kept.sum():.1f} %"),
            ("lost", at, lost, kept, f"wrong at the end: {lost.sum():.1f} %"),
            # Apart from the exits, because it is none.
            (
                "never",
                [n_exits + 0.5],
                [100 * found.never],
                0.0,
                f"right nowhere: {100 * found.never:.1f} %",
            ),
        ):
            style = {"width": 0.75, "color": COLORS[kind], "label": label, **kwargs}
            self.bars_[kind] = ax.bar(where, height, bottom=bottom, **style)
        slanted = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if long else {}
        ax.set_xticks([*at, n_exits + 0.5], [*names, "never"], **slanted)
        ax.set(xlabel="First exit that is right", ylabel="Rows (%)")
        ax.spines[["top", "right"]].set_visible(False)
        self.texts_ = [
            ax.annotate(
                text, (x, y), (0, 2 + up), textcoords="offset points", ha="center", color=color
            )
            for x, y, share in zip(
                [*at, n_exits + 0.5], [*(kept + lost), 100 * found.never], [*lost, 0], strict=True
            )
            for text, up, color in (
                (f"{y:.1f}", 11 if share > 0 else 0, "0.25"),
                # The bar of a few samples is too small to see.
                (f"{share:.1f} lost" if share > 0 else "", 0, COLORS["lost"]),
            )
            if text
        ]
        ax.set_ylim(0, 1.14 * max(float((kept + lost).max()), 100 * found.never))
        ax.set_title(self._headline(), loc="left", fontsize="medium", pad=24)
        self._legend_above(3, x=-0.01, fontsize="small")
        return self

    def _headline(self) -> str:
        """Title with the shares of wasteful and destructive overthinking."""
        found = self.overthinking
        lines = [f"Wasteful: {found.wasteful_share:.1%} of the rows right before the end"]
        if not np.isnan(found.wasteful_cost):
            lines[0] += f", mean waste {found.wasteful_cost:.2f}"
        if not np.isnan(found.destructive_share_of_errors):
            share = f"{found.destructive_share_of_errors:.1%}"
            lines.append(f"Destructive: {share} of the last exit's errors right before")
        return "\n".join(lines)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> OverthinkingDisplay:
        """Draw the overthinking of a model on given samples.

        Parameters
        ----------
        estimator : EarlyExitClassifier or Pipeline
            Fitted; the last step of a pipeline must be the classifier.
        X : array-like of shape (n_samples, ...)
            Samples that it was not fitted on.
        y : array-like of shape (n_samples,)
            True labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : OverthinkingDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If `estimator` is not an early-exit classifier, or an argument is invalid.
        """
        classifier, X = cls._unwrapped(estimator, X)
        labels = classifier._label_table(X).labels
        return cls.from_predictions(
            encode_labels(y, labels, classifier.classes_),
            labels,
            costs=classifier.costs_,
            exit_names=classifier.exit_names_,
            sample_weight=sample_weight,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        costs: Any,
        exit_names: Sequence[str] | None = None,
        sample_weight: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> OverthinkingDisplay:
        """Draw overthinking from the labels predicted by the exits.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels.
        y_pred : array-like of shape (n_samples, n_exits)
            Labels predicted by the exits.
        costs : array-like of shape (n_exits,)
            Cumulative cost of each exit.
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
        display : OverthinkingDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the arguments are invalid or inconsistent.
        """
        cls._require_matplotlib("from_predictions")
        y_pred = np.asarray(y_pred)
        y_true, weight = checked_rows(y_true, y_pred, sample_weight=sample_weight)
        if y_pred.ndim != 2:
            raise ValueError(
                "'y_pred' must be of shape (n_samples, n_exits), with the labels of every exit. "
                f"Got an array of shape {y_pred.shape}."
            )
        names = checked_names(exit_names, y_pred.shape[1])
        found = overthinking(y_pred == y_true[:, None], costs, weight)
        return cls(found, exit_names=names).plot(ax=ax, **kwargs)

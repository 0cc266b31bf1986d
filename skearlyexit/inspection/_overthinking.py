"""Where rows are right first, and what becomes of them at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from skearlyexit._data._labels import encode_labels
from skearlyexit.inspection._checks import checked_names, checked_rows
from skearlyexit.inspection._display import Display
from skearlyexit.metrics import Overthinking, overthinking

#: Blue, vermilion and grey, which are told apart with any color vision.
COLOURS = {"kept": "#0072B2", "lost": "#D55E00", "never": "0.65"}
#: Inches: width of a figure, least width for a bar, height.
WIDTH, BAR_WIDTH, HEIGHT = 6.4, 0.9, 4.2


@dataclass(eq=False, repr=False)
class OverthinkingDisplay(Display):
    """Rows by the first exit that is right, and whether the last one is.

    The blue bars before the last exit are waste: the end repeats what was known. The red parts are
    destroyed: the end is wrong where an earlier exit was right.

    Parameters
    ----------
    overthinking : Overthinking
    exit_names : sequence of str

    Attributes
    ----------
    bars_ : dict of matplotlib BarContainer
        ``"kept"`` and ``"lost"`` with a bar for each exit, and ``"never"`` with one.
    texts_ : list of matplotlib Annotation
        Shares over the bars, in percent.
    legend_ : matplotlib Legend
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    skearlyexit.metrics.overthinking : The numbers.

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
            None draws on a new figure, as wide as the exits need.
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
        ax = self._axes(ax, (max(WIDTH, BAR_WIDTH * (n_exits + 1)), HEIGHT))
        at, kept, lost = np.arange(n_exits), 100 * found.kept, 100 * found.lost
        self.bars_: dict[str, Any] = {}
        for kind, where, height, bottom, label in (
            ("kept", at, kept, 0.0, f"right at the end: {kept.sum():.1f} %"),
            ("lost", at, lost, kept, f"wrong at the end: {lost.sum():.1f} %"),
            # Apart from the exits, as it is none.
            ("never", [n_exits + 0.5], [100 * found.never], 0.0, None),
        ):
            label = f"right nowhere: {100 * found.never:.1f} %" if label is None else label
            style = {"width": 0.75, "color": COLOURS[kind], "label": label, **kwargs}
            self.bars_[kind] = ax.bar(where, height, bottom=bottom, **style)
        ax.set_xticks([*at, n_exits + 0.5], [*map(str, self.exit_names), "never"])
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
                # A few rows are not seen as a bar.
                (f"{share:.1f} lost" if share > 0 else "", 0, COLOURS["lost"]),
            )
            if text
        ]
        ax.set_ylim(0, 1.14 * max(float((kept + lost).max()), 100 * found.never))
        ax.set_title(self._headline(), loc="left", fontsize="medium", pad=24)
        self._legend_above(3, x=-0.01, fontsize="small")
        return self

    def _headline(self) -> str:
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
        """Draw what running a model to its end wastes and destroys.

        Parameters
        ----------
        estimator : EarlyExitClassifier or Pipeline
            Fitted; of a pipeline, the last step is the classifier.
        X : array-like of shape (n_samples, ...)
            Rows that it was not fitted on.
        y : array-like of shape (n_samples,)
            True labels.
        sample_weight : array-like of shape (n_samples,), default=None
        ax : matplotlib Axes, default=None
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
            If the estimator is of another kind, or an argument does not fit.
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
        """Draw from the answers of every exit to every row.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels.
        y_pred : array-like of shape (n_samples, n_exits)
            Labels that the exits give.
        costs : array-like of shape (n_exits,)
            Cumulative cost of leaving at each exit.
        exit_names : sequence of str, default=None
            None numbers them.
        sample_weight : array-like of shape (n_samples,), default=None
        ax : matplotlib Axes, default=None
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
            If the arguments do not fit each other.
        """
        cls._require_matplotlib("from_predictions")
        y_pred = np.asarray(y_pred)
        y_true, weight = checked_rows(y_true, y_pred, sample_weight=sample_weight)
        if y_pred.ndim != 2:
            raise ValueError(
                "'y_pred' must be of shape (n_samples, n_exits), with the answers of every exit. "
                f"Got an array of shape {y_pred.shape}."
            )
        names = checked_names(exit_names, y_pred.shape[1])
        found = overthinking(y_pred == y_true[:, None], costs, weight)
        return cls(found, exit_names=names).plot(ax=ax, **kwargs)

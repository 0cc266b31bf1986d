"""Base of the displays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support

from skearlyexit._utils._unwrap import last_classifier
from skearlyexit.inspection._names import CHARACTER, longest

#: Inches of a figure, where a display needs no other size.
FIGSIZE = (6.4, 4.4)
#: Inches of a legend in addition to its texts.
LEGEND_FRAME = 0.7


class Display:
    """Base of the displays: the check for matplotlib, the estimator, axes and legends.

    A display is a dataclass of arrays. ``plot`` draws them on `_axes`; ``from_estimator`` and
    ``from_predictions`` compute them and draw them at once.

    Attributes
    ----------
    legend_ : matplotlib Legend
        Not of displays that need none.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    legend_: Any
    ax_: Any
    figure_: Any

    @classmethod
    def _require_matplotlib(cls, method: str) -> None:
        """Raise an ImportError that names a method, if matplotlib is not installed."""
        check_matplotlib_support(f"{cls.__name__}.{method}")

    @classmethod
    def _unwrapped(cls, estimator: Any, X: Any) -> tuple[Any, Any]:
        """Early-exit classifier that ``from_estimator`` was given, and samples for it.

        Parameters
        ----------
        estimator : EarlyExitClassifier or Pipeline
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        classifier : EarlyExitClassifier
        X : array-like of shape (n_samples, ...)
            Transformed by the other steps of the pipeline.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If there is no early-exit classifier.
        """
        cls._require_matplotlib("from_estimator")
        return last_classifier(estimator, X, cls.__name__)

    def _axes(self, ax: Any, figsize: Any = FIGSIZE) -> Any:
        """Axes that ``plot`` draws on, set as `ax_`.

        Parameters
        ----------
        ax : matplotlib Axes or None
            None makes a new figure.
        figsize : tuple of two floats, default=(6.4, 4.4)
            Inches of a new figure.

        Returns
        -------
        ax : matplotlib Axes

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        self._require_matplotlib("plot")
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(figsize=figsize, layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        return ax

    def _legend_above(self, n_columns: int, x: float = 0.0, **style: Any) -> None:
        """Set `legend_` above the axes, at `x` of their width."""
        self.legend_ = self.ax_.legend(
            loc="lower left",
            bbox_to_anchor=(x, 1),
            ncols=n_columns,
            frameon=False,
            handlelength=1,
            columnspacing=1.2,
            **style,
        )

    def _legend_beside(self, **style: Any) -> None:
        """Set `legend_` on the right of the axes, where it covers nothing."""
        self.legend_ = self.ax_.legend(
            loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, **style
        )


def spread_colors(cmap: Any, n_colors: int, first: float = 0.95, last: float = 0.1) -> np.ndarray:
    """Colors at equal distances in a color map, shape (n_colors, 4).

    Parameters
    ----------
    cmap : str or matplotlib Colormap
    n_colors : int
    first, last : float, default=0.95, 0.1
        Places of the first and the last color, from 0 to 1.

    Returns
    -------
    colors : ndarray of shape (n_colors, 4)
    """
    import matplotlib.pyplot as plt

    colors: np.ndarray = plt.get_cmap(cmap)(np.linspace(first, last, n_colors))
    return colors


def width_with_legend(labels: Sequence[str], width: float = 4.6) -> float:
    """Inches of a figure with a legend beside axes, of which the latter have this width."""
    return width + LEGEND_FRAME + CHARACTER * longest(labels)

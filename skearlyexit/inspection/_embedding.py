"""Embeddings at an exit, and where their samples exit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.utils.validation import check_consistent_length

from skearlyexit.inspection._checks import checked_exits, checked_names, names_with_costs
from skearlyexit.inspection._display import Display, spread_colors, width_with_legend
from skearlyexit.inspection._names import WIDTH, shortened
from skearlyexit.inspection._outliers import show_typical


@dataclass(eq=False, repr=False)
class EmbeddingDisplay(Display):
    """Embeddings at an exit in two dimensions, colored by the exit of each sample.

    Samples that exit early should lie where the classes are separated, and those that exit late
    between the classes.

    Parameters
    ----------
    positions : ndarray of shape (n_samples, 2)
        Projected embeddings.
    exits : ndarray of shape (n_samples,)
        Exit of each sample, from 0.
    exit_names : sequence of str
        Names of the exits.
    axis_names : tuple of (str, str), default=("component 1", "component 2")
        Labels of the axes.
    title : str, default=None
        Title of the axes.

    Attributes
    ----------
    points_ : list of matplotlib PathCollection
        One for each exit, including exits at which no sample exits.
    legend_ : matplotlib Legend
        Legend with the share of the samples that exit at each exit.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    ExtremeSamplesDisplay : The easiest and the hardest samples of each exit.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from skearlyexit.inspection import EmbeddingDisplay
    >>> display = EmbeddingDisplay.from_predictions(
    ...     [[0.0, 0.0, 1.0], [3.0, 0.0, 1.0], [0.0, 1.0, 1.0]], [0, 1, 0], n_exits=2)
    >>> display.positions.shape
    (3, 2)
    >>> plt.close(display.figure_)
    """

    positions: np.ndarray
    exits: np.ndarray
    _: KW_ONLY
    exit_names: Sequence[str]
    axis_names: tuple[str, str] = ("component 1", "component 2")
    title: str | None = None

    def plot(self, ax: Any = None, *, cmap: Any = "viridis", **kwargs: Any) -> Any:
        """Draw a point for each sample, those that exit late above the others.

        Outliers are marked at the edges of the axes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure.
        cmap : str or matplotlib Colormap, default="viridis"
            Colors of the exits, from the first to the last.
        **kwargs : dict
            Passed to ``ax.scatter``.

        Returns
        -------
        self : EmbeddingDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        labels = [
            f"{name}: {np.mean(self.exits == exit_):.0%}"
            for exit_, name in enumerate(shortened(self.exit_names))
        ]
        ax = self._axes(ax, (width_with_legend(labels), 4.8))
        colors = spread_colors(cmap, len(self.exit_names), first=0.9)
        self.points_: list[Any] = []
        for exit_, label in enumerate(labels):
            here = self.exits == exit_
            style = {"s": 18, "color": colors[exit_], "edgecolor": "white", "linewidth": 0.4}
            style = {**style, "label": label, "zorder": 2 + exit_, **kwargs}
            self.points_.append(ax.scatter(*self.positions[here].T, **style))
        (title,) = shortened([self.title or ""], 2 * WIDTH)
        ax.set(xlabel=self.axis_names[0], ylabel=self.axis_names[1], title=title)
        show_typical(ax, self.positions, labeled=False)
        # The scale of a projection has no meaning.
        ax.set(xticks=[], yticks=[])
        self._legend_beside(title="Exits at")
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        exit: int | str = 0,
        projection: Any = None,
        threshold: Any = None,
        budget: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> EmbeddingDisplay:
        """Draw the embeddings of samples at an exit of a model.

        Parameters
        ----------
        estimator : EarlyExitClassifier or Pipeline
            Fitted; the last step of a pipeline must be the classifier.
        X : array-like of shape (n_samples, ...)
            Samples.
        exit : int or str, default=0
            Exit whose embeddings are drawn, as in `EarlyExitClassifier.embed`, also of samples that
            exit before it.
        projection : scikit-learn transformer, default=None
            Cloned and fitted on the embeddings; the first two columns are drawn. None takes
            ``PCA(2)``.
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
        display : EmbeddingDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If `estimator` is not an early-exit network, or an argument is invalid.
        """
        classifier, X = cls._unwrapped(estimator, X)
        if not hasattr(classifier, "embed"):
            raise TypeError(
                f"EmbeddingDisplay shows embeddings of a network, and {type(classifier).__name__} "
                "has none. Give an EarlyExitClassifier, or another display."
            )
        _, exits = classifier.predict(X, threshold=threshold, budget=budget, return_exits=True)
        names = classifier.exit_names_
        embeddings = classifier.embed(X, exit)  # raises for an unknown exit
        seen_at = exit if isinstance(exit, str) else names[exit]
        return cls.from_predictions(
            embeddings,
            exits,
            n_exits=len(names),
            exit_names=names_with_costs(classifier),
            projection=projection,
            title=f"Embeddings at exit {seen_at}",
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        embeddings: Any,
        exits: Any,
        *,
        n_exits: int,
        exit_names: Sequence[str] | None = None,
        projection: Any = None,
        title: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> EmbeddingDisplay:
        """Draw given embeddings.

        Parameters
        ----------
        embeddings : array-like of shape (n_samples, n_embedding)
            Embeddings of the samples.
        exits : array-like of shape (n_samples,)
            Exit of each sample, from 0.
        n_exits : int
            Number of exits, including those at which no sample exits.
        exit_names : sequence of str, default=None
            Names of the exits; None numbers them.
        projection : scikit-learn transformer, default=None
            Cloned and fitted on the embeddings; the first two columns are drawn. None takes
            ``PCA(2)``.
        title : str, default=None
            Title of the axes.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : EmbeddingDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If the arguments are invalid or inconsistent, or the projection has fewer than two
            columns.
        """
        cls._require_matplotlib("from_predictions")
        embeddings = np.asarray(embeddings)
        check_consistent_length(embeddings, exits)
        exits = checked_exits(exits, n_exits)
        names = checked_names(exit_names, n_exits)
        positions, axis_names = _projected(embeddings, projection)
        return cls(positions, exits, exit_names=names, axis_names=axis_names, title=title).plot(
            ax=ax, **kwargs
        )


def _projected(embeddings: np.ndarray, projection: Any) -> tuple[np.ndarray, tuple[str, str]]:
    """Positions of shape (n_samples, 2), and names of their axes."""
    if embeddings.ndim != 2 or min(embeddings.shape) < 2:
        raise ValueError(
            "'embeddings' must be of shape (n_samples, n_embedding), both at least 2. Got "
            f"{embeddings.shape}."
        )
    if projection is None:
        # For many samples PCA is randomized, and a picture should not depend on random numbers.
        projection = PCA(2, random_state=0)
    if not hasattr(projection, "fit_transform"):
        raise TypeError(
            "'projection' must be a scikit-learn transformer with fit_transform, such as PCA(2) "
            f"or TSNE(2). Got {projection!r} instead."
        )
    projection = clone(projection)
    positions = np.asarray(projection.fit_transform(embeddings))
    if positions.ndim != 2 or positions.shape[1] < 2:
        raise ValueError(
            f"'projection' must give two columns at least. Got {positions.shape} from "
            f"{projection!r}."
        )
    names = ("component 1", "component 2")
    shares = getattr(projection, "explained_variance_ratio_", None)
    if shares is not None:
        first, second = shares[:2]
        names = f"{names[0]} ({first:.0%} of the variance)", f"{names[1]} ({second:.0%})"
    return positions[:, :2], names

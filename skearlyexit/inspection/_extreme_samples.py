"""The easiest and the hardest samples of each exit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils.validation import column_or_1d

from skearlyexit._data._labels import encode_labels
from skearlyexit.inspection._checks import checked_exits, checked_names, names_with_costs
from skearlyexit.inspection._display import Display
from skearlyexit.inspection._extremes import captions_of, checked_values, drawn_values, extremes
from skearlyexit.inspection._row_pictures import draw_images, draw_table


@dataclass(eq=False, repr=False)
class ExtremeSamplesDisplay(Display):
    """Samples with the highest and the lowest scores, among those that exit at each exit.

    The *easiest* samples of an exit have the highest scores there, the *hardest* the lowest.
    Samples with equal scores are taken in their order, and none is shown twice.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features) or (n_samples, height, width[, 3])
        Standardized features, or images.
    easiest, hardest : list of ndarray
        Indices of the samples of each exit, with the most and the least confident first.
    captions : sequence of str
        Caption of each sample.
    wrong : ndarray of shape (n_samples,), bool
        Whether the prediction of each sample is wrong; such captions have another color.
    exit_names : sequence of str
        Names of the exits.
    feature_names : sequence of str, default=None
        Names of the features; None numbers them.

    Attributes
    ----------
    images_ : list of matplotlib AxesImage
        One for each sample shown, or a single one for a table.
    texts_ : list of matplotlib Text
        The captions.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    EmbeddingDisplay : Embeddings of all samples at an exit.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skearlyexit.inspection import ExtremeSamplesDisplay
    >>> display = ExtremeSamplesDisplay.from_predictions(
    ...     np.arange(12.0).reshape(6, 2), [0, 0, 0, 0, 1, 1],
    ...     [0.8, 0.9, 0.7, 0.95, 0.6, 0.5], n_exits=2, n_samples=1)
    >>> [rows.tolist() for rows in display.easiest], [rows.tolist() for rows in display.hardest]
    ([[3], [4]], [[2], [5]])
    >>> plt.close(display.figure_)
    """

    rows: np.ndarray
    easiest: list[np.ndarray]
    hardest: list[np.ndarray]
    _: KW_ONLY
    captions: Sequence[str]
    wrong: np.ndarray
    exit_names: Sequence[str]
    feature_names: Sequence[str] | None = None

    def plot(self, ax: Any = None, **kwargs: Any) -> Any:
        """Draw images in a mosaic, or features in a heat map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure, as large as the samples require.
        **kwargs : dict
            Passed to ``ax.imshow``.

        Returns
        -------
        self : ExtremeSamplesDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        draw = draw_table if self.rows.ndim == 2 else draw_images
        self.images_, self.texts_ = draw(self, ax, kwargs)
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        n_samples: int = 4,
        image_shape: Sequence[int] | None = None,
        feature_names: Sequence[str] | None = None,
        threshold: Any = None,
        budget: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> ExtremeSamplesDisplay:
        """Draw the easiest and the hardest of given samples.

        Parameters
        ----------
        estimator : EarlyExitClassifier or Pipeline
            Fitted; the last step of a pipeline must be the classifier. Samples are drawn as they
            are before the first step.
        X : array-like of shape (n_samples, n_features), (n_samples, height, width), \
                (n_samples, channels, height, width) or (n_samples, height, width, channels)
            Samples, as numbers. Samples with two or three axes are images with one channel or
            three.
        y : array-like of shape (n_samples,), default=None
            True labels. If given, wrong predictions are marked.
        n_samples : int, default=4
            Number of easiest, and of hardest, samples of each exit. Where fewer exit, they are
            divided between the two.
        image_shape : sequence of int, default=None
            Shape, as above, of images that are given as flat pixels. None draws flat samples as a
            heat map of standardized features.
        feature_names : sequence of str, default=None
            Names of the features; None takes the columns of a data frame, or numbers the features.
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
        display : ExtremeSamplesDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If `estimator` is not an early-exit classifier, or an argument is invalid.
        """
        classifier, seen = cls._unwrapped(estimator, X)
        point, rows = classifier._point(threshold, budget), classifier._validate_rows(seen)
        table = classifier._tabulated(rows)
        exits, _ = classifier._outcomes(rows, table, point)
        at_exits = np.arange(len(exits)), exits
        if y is not None:
            encode_labels(y, exits, classifier.classes_)  # raises for unknown labels
        if feature_names is None and hasattr(X, "columns"):
            feature_names = list(X.columns)
        return cls.from_predictions(
            X,
            exits,
            table.scores[at_exits],
            n_exits=len(classifier.costs_),
            exit_names=names_with_costs(classifier),
            y_true=y,
            y_pred=classifier.classes_[table.labels[at_exits]],
            n_samples=n_samples,
            image_shape=image_shape,
            feature_names=feature_names,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        X: Any,
        exits: Any,
        scores: Any,
        *,
        n_exits: int,
        exit_names: Sequence[str] | None = None,
        y_true: Any = None,
        y_pred: Any = None,
        n_samples: int = 4,
        image_shape: Sequence[int] | None = None,
        feature_names: Sequence[str] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> ExtremeSamplesDisplay:
        """Draw the easiest and the hardest samples, from their exits and scores.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width), \
                (n_samples, channels, height, width) or (n_samples, height, width, channels)
            Samples, as numbers. Samples with two or three axes are images with one channel or
            three.
        exits : array-like of shape (n_samples,)
            Exit of each sample, from 0.
        scores : array-like of shape (n_samples,)
            Score of each sample at its exit; higher is more confident.
        n_exits : int
            Number of exits, including those at which no sample exits.
        exit_names : sequence of str, default=None
            Names of the exits; None numbers them.
        y_true : array-like of shape (n_samples,), default=None
            True labels. If given, wrong predictions are marked, and `y_pred` is required.
        y_pred : array-like of shape (n_samples,), default=None
            Predicted labels, which are written in the captions.
        n_samples : int, default=4
            Number of easiest, and of hardest, samples of each exit. Where fewer exit, they are
            divided between the two.
        image_shape : sequence of int, default=None
            Shape, as above, of images that are given as flat pixels. None draws flat samples as a
            heat map of standardized features.
        feature_names : sequence of str, default=None
            Names of the features; None numbers them.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : ExtremeSamplesDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the arguments are invalid or inconsistent.
        """
        cls._require_matplotlib("from_predictions")
        if not isinstance(n_samples, Integral) or n_samples < 1:
            raise ValueError(
                f"'n_samples' must be an integer of at least 1. Got {n_samples!r} instead."
            )
        exits = checked_exits(exits, n_exits)
        names = checked_names(exit_names, n_exits)
        values = checked_values(X)
        scores = column_or_1d(scores).astype(np.float64)
        given = {"y_true": y_true, "y_pred": y_pred}
        labels = {name: column_or_1d(y) for name, y in given.items() if y is not None}
        for name, array in {"X": values, "scores": scores, **labels}.items():
            if len(array) != len(exits):
                raise ValueError(
                    f"{name!r} must have as many samples as 'exits'. Got {len(array)} and "
                    f"{len(exits)}."
                )
        if y_true is not None and y_pred is None:
            raise ValueError("'y_true' marks wrong predictions: give 'y_pred' too. Got None.")
        pairs = [extremes(scores, np.flatnonzero(exits == i), n_samples) for i in range(n_exits)]
        wrong = np.zeros(len(exits), dtype=bool)
        if y_true is not None:
            wrong = labels["y_true"] != labels["y_pred"]
        return cls(
            drawn_values(values, image_shape, feature_names),
            [easiest for easiest, _ in pairs],
            [hardest for _, hardest in pairs],
            captions=captions_of(scores, wrong, **labels),
            wrong=wrong,
            exit_names=names,
            feature_names=feature_names,
        ).plot(ax=ax, **kwargs)

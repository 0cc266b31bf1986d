"""Tables in Markdown, ranks of methods, and figures with a panel for each set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import friedmanchisquare, rankdata, studentized_range, wilcoxon


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def spread(values: np.ndarray, digits: int = 2) -> str:
    """Mean and standard deviation."""
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"


@dataclass(frozen=True)
class Ranks:
    """Ranks of methods over blocks, and whether they differ.

    Attributes
    ----------
    average : ndarray of shape (n_methods,)
        Average rank over the blocks, 1 the best; equal scores share theirs.
    p_value : float
        Of Friedman's test that all methods are alike.
    critical : float
        Nemenyi's critical difference at 5 %: methods whose average ranks are nearer do not differ.
    """

    average: np.ndarray
    p_value: float
    critical: float

    @classmethod
    def of(cls, scores: np.ndarray) -> Ranks:
        """Ranks of scores of shape (n_blocks, n_methods), at least three methods, higher better."""
        n_blocks, n_methods = scores.shape
        rounded = scores.round(10)
        average = rankdata(-rounded, axis=1).mean(axis=0)
        quantile = studentized_range.ppf(0.95, n_methods, 1e6) / np.sqrt(2)
        critical = quantile * np.sqrt(n_methods * (n_methods + 1) / (6 * n_blocks))
        return cls(average, float(friedmanchisquare(*rounded.T).pvalue), float(critical))


def against(scores: np.ndarray, base: np.ndarray) -> tuple[float, int, int, float]:
    """Mean difference from the base, blocks above and below it, and Wilcoxon's p-value."""
    gain = (scores - base).round(10)
    p_value = float(wilcoxon(gain).pvalue) if np.any(gain) else 1.0
    return float(gain.mean()), int(np.sum(gain > 0)), int(np.sum(gain < 0)), p_value


def ranked(
    methods: Sequence[str], scores: np.ndarray, reference: str
) -> tuple[dict[str, list[str]], str]:
    """Cells of each method, the best average rank first, and a sentence about the tests.

    Parameters
    ----------
    methods : sequence of str
    scores : ndarray of shape (n_blocks, n_methods)
        -inf where a method is not possible.
    reference : str
        Method with which the others are compared.

    Returns
    -------
    cells : dict of str to list of str
        For the columns `rank_header`.
    sentence : str
        Empty with fewer than three methods.
    """
    base = scores[:, list(methods).index(reference)]
    ranks = Ranks.of(scores) if len(methods) > 2 else None
    average = np.zeros(len(methods)) if ranks is None else ranks.average
    cells = {}
    for j in np.argsort(average, kind="stable"):
        possible = np.isfinite(scores[:, j])
        mean, above, below, p_value = against(scores[possible, j], base[possible])
        cells[methods[j]] = [
            f"{average[j]:.2f}",
            f"{mean:+.3f}",
            f"{above} : {below}",
            "" if methods[j] == reference else f"{p_value:.3f}",
        ]
    if ranks is None:
        return cells, ""
    return cells, (
        f"Friedman p = {ranks.p_value:.2g}, critical difference of average ranks (Nemenyi, 5 %) "
        f"{ranks.critical:.2f}.\n\n"
    )


def rank_header(reference: str) -> list[str]:
    """Titles of the columns of `ranked`."""
    return ["average rank", f"to {reference}, points", "above : below", "Wilcoxon p"]


def save_figure(
    path: Path,
    draw: Callable[[Any, Any], dict[str, Any]],
    items: Sequence[Any],
    *,
    n_columns: int,
    size: tuple[float, float],
    n_legend_columns: int,
) -> None:
    """Save a figure with a panel for each item and one legend below them.

    Parameters
    ----------
    path : Path
        Of the PNG file.
    draw : callable
        ``draw(ax, item)`` returns handles for the legend by label.
    items : sequence
    n_columns : int
        At most so many panels are side by side.
    size : tuple of float
        Width and height of a panel, in inches.
    n_legend_columns : int
    """
    from matplotlib.figure import Figure

    n_columns = min(n_columns, len(items))
    n_rows = -(-len(items) // n_columns)
    figure = Figure(figsize=(size[0] * n_columns, size[1] * n_rows + 1), layout="constrained")
    axes = np.ravel(figure.subplots(n_rows, n_columns, squeeze=False))
    handles: dict[str, Any] = {}
    for ax, item in zip(axes, items, strict=False):
        handles |= draw(ax, item)
        ax.grid(alpha=0.3)
    for ax in axes[len(items) :]:
        ax.set_axis_off()
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=n_legend_columns,
        frameon=False,
    )
    figure.savefig(path, dpi=130)

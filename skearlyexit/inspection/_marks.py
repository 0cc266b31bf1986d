"""Marks of the plane of cost and accuracy, its legend, and its axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skearlyexit.inspection._names import shortened
from skearlyexit.inspection._outliers import OUTSIDE

#: Marker of each kind of mark, its size in points, and whether it is filled.
MARKS = {
    "operating point": ("*", 14.0, True),
    "exit alone": ("o", 7.0, False),
    "last exit alone": ("o", 7.0, True),
    "random exits": ("x", 8.0, True),
    "oracle": ("D", 6.5, False),
}
NEUTRAL = "0.4"
#: Places of a name beside its mark in points, in the order in which they are tried.
OFFSETS = ((5, -5), (-5, 5), (5, 5), (-5, -5))


def draw(ax: Any, kind: str, values: np.ndarray, **style: Any) -> Any:
    """Draw marks of one kind at costs and accuracies, shape (n_marks, 2)."""
    style = {"label": "_nolegend_", "linestyle": "none", **style_of(kind), **style}
    (artist,) = ax.plot(values[:, 0], 100 * values[:, 1], **style)
    artist.set_gid(kind)
    return artist


def style_of(kind: str) -> dict[str, Any]:
    """Style of a kind of mark."""
    marker, size, filled = MARKS[kind]
    fill = {} if filled else {"markerfacecolor": "none"}
    return {"marker": marker, "markersize": size, "markeredgewidth": 1.5, **fill}


def draw_names(ax: Any, values: np.ndarray, names: Sequence[str], color: Any) -> list[Any]:
    """Write names beside marks at costs and accuracies, shape (n_marks, 2), where there is room.

    A name is left out if it would cover a mark, a line, the legend or another name.
    """
    ax.figure.canvas.figure.draw_without_rendering()  # settles where everything is
    taken = [text.get_window_extent() for text in ax.texts]
    if ax.get_legend() is not None:
        taken.append(ax.get_legend().get_window_extent())
    lines = [line for line in ax.lines if line.get_gid() != OUTSIDE]
    points = ax.transData.transform(np.concatenate([line.get_xydata() for line in lines]))
    paths = [
        line.get_path().transformed(ax.transData)
        for line in lines
        if line.get_linestyle() != "None"
    ]
    texts = []
    for name, (cost, accuracy) in zip(shortened(names), values, strict=True):
        for beside, above in OFFSETS:
            text = ax.annotate(
                name,
                (cost, 100 * accuracy),
                (beside, above),
                textcoords="offset points",
                ha="left" if beside > 0 else "right",
                va="bottom" if above > 0 else "top",
                fontsize="x-small",
                color=color,
            )
            box = text.get_window_extent()
            free = not box.count_contains(points) and not box.count_overlaps(taken)
            free &= not any(path.intersects_bbox(box, filled=False) for path in paths)
            if free and ax.bbox.count_contains(box.corners()) == len(box.corners()):
                taken.append(box)
                texts.append(text)
                break
            text.remove()
    return texts


def draw_legend(ax: Any) -> Any:
    """Draw a legend with an entry for each model, and a gray one for each kind of mark."""
    from matplotlib.lines import Line2D

    handles, labels = ax.get_legend_handles_labels()
    drawn = {line.get_gid() for line in ax.lines if len(line.get_xdata())}
    for kind in MARKS:
        if kind in drawn:
            handles.append(Line2D([], [], color=NEUTRAL, linestyle="none", **style_of(kind)))
            labels.append(kind)
    return ax.legend(handles, labels, fontsize="small")


def label_axes(ax: Any, unit: str = "plain network") -> None:
    """Label the axes of cost and accuracy."""
    ax.set(xlabel=f"Mean cost per sample ({unit} = 1)", ylabel="Accuracy (%)")


def set_log(ax: Any) -> None:
    """Make the axis of costs logarithmic, with plain numbers at the ticks."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    ax.set_xscale("log")
    low, high = ax.get_xlim()
    steps = (1.0, 2.0, 3.0, 5.0, 7.0) if high / low < 20 else (1.0, 2.0, 5.0)
    ax.xaxis.set_major_locator(LogLocator(subs=steps if high / low < 1000 else (1.0,)))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_locator(NullLocator())


def short_count(count: float) -> str:
    """Count in three digits, such as 12.3k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return f"{count:.3g}"

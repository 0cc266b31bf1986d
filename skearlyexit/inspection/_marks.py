"""Marks of the plane of cost and accuracy, its legend, and its axes."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Marker of each kind of mark, its size in points, and whether it is filled.
MARKS = {
    "operating point": ("*", 14.0, True),
    "exit alone": ("o", 7.0, False),
    "last exit alone": ("o", 7.0, True),
    "random exits": ("x", 8.0, True),
    "oracle": ("D", 6.5, False),
}
NEUTRAL = "0.4"


def draw(ax: Any, kind: str, values: np.ndarray, **style: Any) -> Any:
    """Draw marks of one kind at costs and accuracies, shape (n_marks, 2)."""
    style = {"label": "_nolegend_", "linestyle": "none", **_mark(kind), **style}
    (artist,) = ax.plot(values[:, 0], 100 * values[:, 1], **style)
    artist.set_gid(kind)
    return artist


def _mark(kind: str) -> dict[str, Any]:
    """Style of a kind of mark."""
    marker, size, filled = MARKS[kind]
    fill = {} if filled else {"markerfacecolor": "none"}
    return {"marker": marker, "markersize": size, "markeredgewidth": 1.5, **fill}


def draw_legend(ax: Any) -> Any:
    """Draw a legend with an entry for each model, and a gray one for each kind of mark."""
    from matplotlib.lines import Line2D

    handles, labels = ax.get_legend_handles_labels()
    drawn = {line.get_gid() for line in ax.lines if len(line.get_xdata())}
    for kind in MARKS:
        if kind in drawn:
            handles.append(Line2D([], [], color=NEUTRAL, linestyle="none", **_mark(kind)))
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

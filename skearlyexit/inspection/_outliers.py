"""Limits of axes that a few outlying points do not determine."""

from __future__ import annotations

from typing import Any

import numpy as np

#: A gap is large if it is this many times the range of the values on its inner side. It is larger
#: with few values, whose range says little.
GAP, GAP_OF_ONE = 3.0, 30.0
#: Margin of an axis, as a share of the range of the values.
MARGIN = 0.05
#: Maximum number of points outside of an axis that are labeled.
MAX_LABELS = 6
#: Name of the artists that mark points outside of an axis.
OUTSIDE = "outside"


def typical_range(values: np.ndarray) -> tuple[float, float]:
    """Range of the values without outliers.

    It starts with all values but the lowest and the highest twentieth, one value at least, and is
    extended as long as the gap to the next value is not large.

    Parameters
    ----------
    values : ndarray of shape (n_values,)
        Finite values, one at least.

    Returns
    -------
    low, high : float
        Lowest and highest value that is not an outlier. If the values with which it starts are
        equal, there are no outliers.
    """
    ordered = np.sort(values)
    first = max(1, len(ordered) // 20)
    last = len(ordered) - 1 - first
    if last <= first or ordered[first] == ordered[last]:
        return float(ordered[0]), float(ordered[-1])
    factor = GAP + GAP_OF_ONE / len(ordered)
    gaps = np.diff(ordered)
    before = None
    while before != (first, last):
        before = first, last
        fits = gaps[last:] <= factor * (ordered[last:-1] - ordered[first])
        last += len(fits) if fits.all() else int(fits.argmin())
        fits = gaps[:first][::-1] <= factor * (ordered[last] - ordered[1 : first + 1][::-1])
        first -= len(fits) if fits.all() else int(fits.argmin())
    return float(ordered[first]), float(ordered[last])


def show_typical(ax: Any, points: np.ndarray, *, labeled: bool = True) -> None:
    """Limit axes to points that are not outliers, and mark the outliers at their edges.

    Axes without outliers keep their limits, and so do logarithmic ones.

    Parameters
    ----------
    ax : matplotlib Axes
        On which the points are drawn.
    points : ndarray of shape (n_points, 2)
    labeled : bool, default=True
        Whether the values of a few outliers are written beside their marks.
    """
    for artist in [*ax.lines, *ax.texts]:
        if artist.get_gid() == OUTSIDE:
            artist.remove()
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return
    sides = []
    for axis, (scale, set_limits) in enumerate(
        ((ax.get_xscale(), ax.set_xlim), (ax.get_yscale(), ax.set_ylim))
    ):
        if scale != "linear":
            continue
        low, high = typical_range(points[:, axis])
        below, above = points[:, axis] < low, points[:, axis] > high
        if below.any() or above.any():
            margin = MARGIN * (high - low)
            set_limits(low - margin, high + margin)
        sides += [(axis, 0, below), (axis, 1, above)]
    labeled = labeled and sum(map(np.count_nonzero, (side for *_, side in sides))) <= MAX_LABELS
    for axis, end, outside in sides:
        for point in points[outside]:
            _mark(ax, point, axis, end, labeled=labeled)


def _mark(ax: Any, point: np.ndarray, axis: int, end: int, *, labeled: bool) -> None:
    """Draw a triangle at the edge of an axis beyond which a point lies."""
    transform = ax.get_xaxis_transform() if axis else ax.get_yaxis_transform()
    low, high = ax.get_xlim() if axis else ax.get_ylim()
    along = float(np.clip(point[1 - axis], low, high))
    at = (along, end) if axis else (end, along)
    style = {"marker": ("<>", "v^")[axis][end], "color": "0.3", "clip_on": False, "gid": OUTSIDE}
    ax.plot(*([value] for value in at), transform=transform, zorder=5, **style)
    if labeled:
        inwards = -9 if end else 9
        text = ax.annotate(
            f"{point[axis]:.3g}",
            at,
            (0, inwards) if axis else (inwards, 0),
            xycoords=transform,
            textcoords="offset points",
            ha="center" if axis else ("left", "right")[end],
            va=("bottom", "top")[end] if axis else "center",
            fontsize="x-small",
            color="0.3",
        )
        text.set_gid(OUTSIDE)

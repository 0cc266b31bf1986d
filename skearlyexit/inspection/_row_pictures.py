"""Pictures of samples: images in a mosaic, features in a heat map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from skearlyexit.inspection._extreme_samples import ExtremeSamplesDisplay

#: Colors of the captions of wrong predictions, and of others.
WRONG, RIGHT = "#D55E00", "0.25"
#: Inches: side of an image, height of its caption, width of the names of exits, height of a line of
#: a heat map, width of a feature, and maximum side of a figure.
SIDE, CAPTION, NAMES, LINE, COLUMN, MOST = 0.95, 0.28, 1.0, 0.24, 0.32, 40.0
#: Maximum number of features that are all named.
MAX_LABELS = 40
#: Standard deviations at the ends of the colors.
LIMIT = 3.0


def draw_images(
    display: ExtremeSamplesDisplay, ax: Any, style: dict[str, Any]
) -> tuple[list[Any], list[Any]]:
    """Draw a line for each exit, the easiest samples on the left and the hardest on the right."""
    # Exits at which no sample exits are left out.
    used = [i for i, rows in enumerate(display.easiest) if len(rows)]
    parts = [[part[i] for i in used] for part in (display.easiest, display.hardest)]
    names, n_lines = [str(display.exit_names[i]) for i in used], len(used)
    widest = [max(max(map(len, part)), 1) for part in parts]
    height, width = display.rows.shape[1:3]
    # Images have a height of 1; there is a gap before the second block.
    wide = width / height
    step, line, gap = wide + 0.12, 1 + CAPTION / SIDE, 0.5
    starts = 0.0, widest[0] * step + gap
    total = starts[1] + widest[1] * step
    size = SIDE * total + NAMES, SIDE * line * n_lines + 0.5
    ax = display._axes(ax, np.minimum(size, MOST))
    shown = display.rows[np.concatenate([*display.easiest, *display.hardest])]
    style = {"cmap": "gray_r", "vmin": shown.min(), "vmax": shown.max(), **style}
    images, texts = [], []
    for start, part in zip(starts, parts, strict=True):
        for at, rows in enumerate(part):
            for i, row in enumerate(rows):
                left, top = start + i * step, at * line
                extent = (left, left + wide, top + 1, top)
                images.append(ax.imshow(display.rows[row], extent=extent, **style))
                texts.append(_caption(ax, display, row, left + wide / 2, top + 1.04))
    for start, kind in zip(starts, ("easiest", "hardest"), strict=True):
        ax.text(start, -0.12, kind, fontweight="bold", ha="left", va="bottom")
    ax.set(xlim=(-0.05, total), ylim=(line * n_lines, -0.5), xticks=[], aspect="equal")
    ax.set_yticks(line * np.arange(n_lines) + 0.5, names)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return images, texts


def draw_table(
    display: ExtremeSamplesDisplay, ax: Any, style: dict[str, Any]
) -> tuple[list[Any], list[Any]]:
    """Draw a line for each sample, and a block for the easiest and the hardest of each exit."""
    n_features = display.rows.shape[1]
    blocks = [
        (f"{name}, {kind}", rows)
        for name, *pair in zip(display.exit_names, display.easiest, display.hardest, strict=True)
        for kind, rows in zip(("easiest", "hardest"), pair, strict=True)
        if len(rows)
    ]
    # There is a line without color between two blocks.
    lines: list[int] = []
    ticks: list[tuple[float, str]] = []
    for name, rows in blocks:
        ticks.append((len(lines) + (len(rows) - 1) / 2, name))
        lines += [*rows, -1]
    lines.pop()
    values = np.full((len(lines), n_features), np.nan)
    drawn = np.array(lines) >= 0
    values[drawn] = display.rows[np.array(lines)[drawn]]
    names = display.feature_names
    if names is None:
        names = [f"feature {i}" for i in range(n_features)]
    longest = max(len(str(name)) for name in names) if n_features <= MAX_LABELS else 2
    size = 4.0 + COLUMN * min(n_features, MAX_LABELS), LINE * len(lines) + 0.09 * longest + 0.5
    ax = display._axes(ax, np.minimum(size, MOST))
    style = {"cmap": "PuOr", "vmin": -LIMIT, "vmax": LIMIT, "aspect": "auto", **style}
    image = ax.imshow(values, interpolation="nearest", **style)
    texts = [
        _caption(ax, display, row, n_features - 0.3, at, ha="left", va="center")
        for at, row in enumerate(lines)
        if row >= 0
    ]
    ax.set_yticks([at for at, _ in ticks], [name for _, name in ticks])
    if n_features <= MAX_LABELS:
        ax.set_xticks(np.arange(n_features), [str(name) for name in names], rotation=90)
    else:
        ax.set_xlabel("feature")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    # Beyond the captions, which are outside of the axes.
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02, extend="both", aspect=30)
    bar.set_label("standard deviations from the mean")
    return [image], texts


def _caption(
    ax: Any, display: ExtremeSamplesDisplay, row: int, x: float, y: float, **style: Any
) -> Any:
    style = {"ha": "center", "va": "top", "fontsize": 7, **style}
    color = WRONG if display.wrong[row] else RIGHT
    return ax.text(x, y, display.captions[row], color=color, **style)

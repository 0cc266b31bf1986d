"""Pictures of samples: images in a mosaic, features in a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from skearlyexit.inspection._names import CHARACTER, WIDTH, longest, shortened
from skearlyexit.inspection._outliers import typical_range

if TYPE_CHECKING:
    from skearlyexit.inspection._extreme_samples import ExtremeSamplesDisplay

#: Colors of the captions of wrong predictions, and of others.
WRONG, RIGHT = "#D55E00", "0.25"
#: Inches: side of an image, height of its caption without and for a line of it, and width
#: beside the names of exits.
SIDE, CAPTION, CAPTION_LINE, NAMES = 0.95, 0.14, 0.14, 0.6
#: Inches: height of a line of a heat map, width of a feature, of the colors and of a character of a
#: caption, and maximum side of a figure.
LINE, COLUMN, COLORS, LETTER, MOST = 0.24, 0.32, 1.2, 0.058, 40.0
#: What is between the predicted and the true label in a caption.
TRUTH = ", is "
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
    names, n_lines = shortened([display.exit_names[i] for i in used]), len(used)
    widest = [max(max(map(len, part)), 1) for part in parts]
    height, width = display.rows.shape[1:3]
    # Images have a height of 1; there is a gap before the second block.
    wide = width / height
    step, gap = wide + 0.12, 0.5
    captions = dict(zip(display.captions, _wrapped(display.captions, step), strict=True))
    n_lines_of_text = max(text.count("\n") for text in captions.values()) + 1
    line = 1 + (CAPTION + CAPTION_LINE * n_lines_of_text) / SIDE
    starts = 0.0, widest[0] * step + gap
    total = starts[1] + widest[1] * step
    size = SIDE * total + NAMES + CHARACTER * longest(names), SIDE * line * n_lines + 0.5
    ax = display._axes(ax, np.minimum(size, MOST))
    shown = display.rows[np.concatenate([*display.easiest, *display.hardest])]
    low, high = typical_range(shown.ravel())
    style = {"cmap": "gray_r", "vmin": low, "vmax": high, **style}
    images, texts = [], []
    for start, part in zip(starts, parts, strict=True):
        for at, rows in enumerate(part):
            for i, row in enumerate(rows):
                left, top = start + i * step, at * line
                extent = (left, left + wide, top + 1, top)
                images.append(ax.imshow(display.rows[row], extent=extent, **style))
                text = captions[display.captions[row]]
                texts.append(_caption(ax, display, row, text, left + wide / 2, top + 1.04))
    for start, kind in zip(starts, ("easiest", "hardest"), strict=True):
        ax.text(start, -0.12, kind, fontweight="bold", ha="left", va="bottom")
    ax.set(xlim=(-0.05, total), ylim=(line * n_lines, -0.5), xticks=[], aspect="equal")
    ax.set_anchor("E")  # leaves room for names
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
        for name, *pair in zip(
            shortened(display.exit_names), display.easiest, display.hardest, strict=True
        )
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
    names = shortened(names) if n_features <= MAX_LABELS else [""]
    texts_of = [TRUTH.join(parts) for parts in _parts(display.captions, WIDTH)]
    captions = dict(zip(display.captions, texts_of, strict=True))
    width = CHARACTER * longest([name for _, name in ticks]) + COLUMN * min(n_features, MAX_LABELS)
    width += COLORS + LETTER * longest([captions[display.captions[i]] for i in lines if i >= 0])
    height = LINE * len(lines) + CHARACTER * longest(names) + 0.7
    ax = display._axes(ax, np.minimum((width, height), MOST))
    style = {"cmap": "PuOr", "vmin": -LIMIT, "vmax": LIMIT, "aspect": "auto", **style}
    image = ax.imshow(values, interpolation="nearest", **style)
    texts = [
        _caption(
            ax,
            display,
            row,
            captions[display.captions[row]],
            n_features - 0.3,
            at,
            ha="left",
            va="center",
        )
        for at, row in enumerate(lines)
        if row >= 0
    ]
    ax.set_yticks([at for at, _ in ticks], [name for _, name in ticks])
    if n_features <= MAX_LABELS:
        ax.set_xticks(np.arange(n_features), names, rotation=90)
    else:
        ax.set_xlabel("feature")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    # Beyond the captions, which are outside of the axes.
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02, extend="both", aspect=30)
    bar.set_label("standard deviations from the mean")
    return [image], texts


def _caption(
    ax: Any,
    display: ExtremeSamplesDisplay,
    row: int,
    text: str,
    x: float,
    y: float,
    **style: Any,
) -> Any:
    style = {"ha": "center", "va": "top", "fontsize": 7, **style}
    color = WRONG if display.wrong[row] else RIGHT
    return ax.text(x, y, text, color=color, **style)


def _parts(captions: Sequence[str], width: int) -> list[list[str]]:
    """Predicted label with score, and true label where it is another one, both of this width."""
    parts = [caption.split(TRUTH, 1) for caption in captions]
    first = shortened([part[0] for part in parts], width)
    last = shortened([part[-1] for part in parts], width)
    return [
        [one] if len(part) == 1 else [one, other]
        for part, one, other in zip(parts, first, last, strict=True)
    ]


def _wrapped(captions: Sequence[str], width: float) -> list[str]:
    """Captions for images at this distance, of which long ones have a line for the true label."""
    n_letters = int(width * SIDE / LETTER)
    return [
        caption if len(caption) <= n_letters else "\nis ".join(parts)
        for caption, parts in zip(captions, _parts(captions, n_letters - 3), strict=True)
    ]

"""Accuracy against cost for every family of ways of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from _harness.data import SETS
from _harness.families import FAMILIES, PLAIN
from _harness.families_report import Found

COLORS = (*mpl.color_sequences["tab10"], "navy", "gold", "black")


def draw(found: Found, path: Path) -> None:
    """One panel for each set: the best of each family as a thick line, its others as thin ones.

    Parameters
    ----------
    found : Found
    path : Path
        Of the PNG file.
    """
    from matplotlib.figure import Figure

    n_columns = min(2, len(found.sets))
    n_rows = -(-len(found.sets) // n_columns)
    figure = Figure(figsize=(5.6 * n_columns, 4.2 * n_rows + 1.0), layout="constrained")
    axes = np.ravel(figure.subplots(n_rows, n_columns, squeeze=False))
    handles = {}
    for ax, name in zip(axes, found.sets, strict=False):
        budgets = np.linspace(found.low(name), 1.0, 60)
        lowest, highest = [], []
        for color, (family, entries) in zip(COLORS, FAMILIES.items(), strict=False):
            lines = {
                entry: mean_curve(found, name, entry, budgets)
                for entry in entries
                if entry in found.cascades
            }
            best = max(lines, key=lambda entry: lines[entry].mean(), default="")
            for entry, line in lines.items():
                thick = entry == best
                (drawn,) = ax.plot(
                    budgets,
                    line,
                    color=color,
                    linewidth=2.0 if thick else 0.7,
                    alpha=1.0 if thick else 0.6,
                    zorder=3 if thick else 2,
                )
                if thick:
                    handles[family] = drawn
                    lowest.append(line[0])
                    highest.append(line[-1])
            for entry in set(entries) & set(found.strategies) - set(lines):
                handles[family] = point(ax, found, name, entry, color=color, marker="D")
        handles[PLAIN] = point(ax, found, name, PLAIN, color="black", marker="*")
        plain = point_of(found, name, PLAIN)[0]
        ax.axhline(plain, color="black", linewidth=0.7, linestyle=":")
        # A family that learns little would press all others together.
        bottom, top = float(np.median(lowest)), max(plain, *highest)
        ax.set_ylim(bottom - 0.25 * (top - bottom), top + 0.1 * (top - bottom))
        ax.set(
            title=SETS[name].title,
            xlabel="budget, share of the plain network's cost",
            ylabel="accuracy on test rows, %",
        )
        ax.grid(alpha=0.3)
    for ax in axes[len(found.sets) :]:
        ax.set_axis_off()
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=5, frameon=False
    )
    figure.savefig(path, dpi=130)


def mean_curve(found: Found, name: str, entry: str, budgets: np.ndarray) -> np.ndarray:
    """Mean accuracy over seeds at each budget, in %."""
    curves = found.curves(name, entry)
    return 100 * np.array([np.mean([curve.at(b)[0] for curve in curves]) for b in budgets])


def point_of(found: Found, name: str, entry: str) -> tuple[float, float]:
    """Mean and spread of the last exit's accuracy, in %."""
    ends = [found.end(name, entry, seed) for seed in range(found.seeds)]
    return float(np.mean(ends)), float(np.std(ends))


def point(ax: mpl.axes.Axes, found: Found, name: str, entry: str, **style: Any) -> object:
    """A network without exits, at cost 1."""
    mean, error = point_of(found, name, entry)
    return ax.errorbar(
        [1.0], [mean], [error], linestyle="none", markersize=9, elinewidth=0.8, zorder=4, **style
    )

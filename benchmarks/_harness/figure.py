"""Accuracy against the time of predicting a row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

from _harness.models import MODELS
from _harness.results import Results

COLORS = dict(zip(MODELS, mpl.color_sequences["tab10"], strict=False))
MARKERS = dict(zip(MODELS, "soDs^vPX", strict=True))


def draw(all_results: Sequence[Results], path: Path) -> None:
    """One panel for each set: every model, early exits as a line through their operating points.

    Parameters
    ----------
    all_results : sequence of Results
    path : Path
        Of the PNG file.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    n_columns = min(len(all_results), 3 if len(all_results) > 4 else 2)
    n_rows = -(-len(all_results) // n_columns)
    figure = Figure(figsize=(5 * n_columns, 3.6 * n_rows + 0.8), layout="constrained")
    axes = np.ravel(figure.subplots(n_rows, n_columns, squeeze=False))
    handles = {}
    for ax, results in zip(axes, all_results, strict=False):
        for name, model in MODELS.items():
            points = _points(results, name)
            if not points:
                continue
            micros, accuracy, error = np.array(points).T
            handles[model.title] = ax.errorbar(
                micros,
                accuracy,
                error,
                color=COLORS[name],
                marker=MARKERS[name],
                linestyle="-" if model.early_exits else "none",
                markersize=5 if model.early_exits else 7,
                linewidth=1.2,
                elinewidth=0.8,
                zorder=3 if name == "linear" else 2,
            )
        ax.set(
            title=results.title, xscale="log", xlabel="predict, µs per row", ylabel="accuracy, %"
        )
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.grid(alpha=0.3)
    for ax in axes[len(all_results) :]:
        ax.set_axis_off()
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False
    )
    figure.savefig(path, dpi=130)


def _points(results: Results, name: str) -> list[tuple[float, float, float]]:
    """Microseconds per row, accuracy and its deviation at each point of a model, by cost."""
    points = []
    entries = [entry for entry, (model, _) in results.entries.items() if model == name]
    for entry in sorted((entry for entry in entries if entry in results), key=results.macs):
        times = results.row_seconds(entry)
        if times:
            accuracy = [*results.accuracy(entry).values()]
            micros = 1e6 * float(np.median(np.concatenate([*times.values()])))
            points.append((micros, float(np.mean(accuracy)), float(np.std(accuracy))))
    return points

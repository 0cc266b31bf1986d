"""How a report looks: as a page of text, in a notebook, as data frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from textwrap import fill
from typing import Any

import numpy as np

from skearlyexit._utils._frames import import_pandas

#: An `ExitReport`, whose file imports this one.
Report = Any

#: More classes than this are not all shown, but those that lose most.
MAX_CLASSES, N_WORST = 20, 10
#: Characters of a line of text.
WIDTH = 100
PARTS = ("exits", "classes", "overall")


@dataclass(frozen=True)
class _Grid:
    """A table of strings: the first column is text, the others are numbers."""

    title: str
    header: list[str]
    rows: list[list[str]]


def as_text(report: Report) -> str:
    """Page of text with aligned columns."""
    blocks = ["\n".join(fill(line, width=WIDTH) for line in _lines(report))]
    for grid in _grids(report):
        table = [grid.header, *grid.rows]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in table
        ]
        blocks.append("\n".join([grid.title, *lines]))
    return "\n\n".join(blocks)


def as_html(report: Report) -> str:
    """Tables for a notebook, in the colors of its theme."""
    cell = "padding:0.15em 0.7em;text-align:"
    parts = [f"<p>{'<br>'.join(map(escape, _lines(report)))}</p>"]
    for grid in _grids(report):
        rows = []
        for tag, table in (("th", [grid.header]), ("td", grid.rows)):
            for row in table:
                cells = "".join(
                    f'<{tag} style="{cell}{"right" if i else "left"}">{escape(text)}</{tag}>'
                    for i, text in enumerate(row)
                )
                rows.append(f"<tr>{cells}</tr>")
        parts.append(
            '<table style="border-collapse:collapse;margin:0 0 1em">'
            f'<caption style="text-align:left;font-weight:bold">{escape(grid.title)}</caption>'
            f"{''.join(rows)}</table>"
        )
    return f"<div>{''.join(parts)}</div>"


def as_frame(report: Report, part: str) -> Any:
    """One part of a report as a data frame; see `ExitReport.to_frame`."""
    if part not in PARTS:
        raise ValueError(f"The 'part' parameter must be one of {PARTS}. Got {part!r} instead.")
    pd = import_pandas("ExitReport.to_frame")
    if part == "overall":
        names = ["accuracy", "last_accuracy", "drop", "mean_cost"]
        intervals = np.array([getattr(report, f"{name}_interval") for name in names])
        values = [getattr(report, name) for name in names]
        columns = {"value": values, "low": intervals[:, 0], "high": intervals[:, 1]}
        return pd.DataFrame(columns, index=pd.Index(names, name="measure"))
    if part == "exits":
        columns = {"cost": report.costs, "threshold": np.append(report.thresholds, np.nan)}
        for name in ("accuracy_alone", "reach", "leave", "accuracy_leaving"):
            columns |= _with_limits(report, name, name)
        return pd.DataFrame(columns, index=pd.Index(report.exit_names, name="exit"))
    columns = {
        "rows": report.class_rows,
        "accuracy": report.class_accuracy,
        "last_accuracy": report.class_last_accuracy,
        **_with_limits(report, "class_drop", "drop"),
        "mean_cost": report.class_mean_cost,
    }
    return pd.DataFrame(columns, index=pd.Index(report.classes, name="class"))


def _with_limits(report: Report, attribute: str, name: str) -> dict[str, Any]:
    interval = getattr(report, f"{attribute}_interval")
    return {
        name: getattr(report, attribute),
        f"{name}_low": interval[:, 0],
        f"{name}_high": interval[:, 1],
    }


def _lines(report: Report) -> list[str]:
    """What stands above the tables."""
    lines = [
        f"{report.n_rows} rows, {len(report.costs)} exits, {len(report.classes)} classes; "
        f"intervals at a confidence of {100 * report.confidence_level:g} %"
    ]
    if report.request:
        certified = {None: "", True: ", certified", False: ", not certified"}[report.certified]
        lines.append(f"asked for: {report.request}{certified}")
    if report.reason:
        lines.append(report.reason)
    return lines


def _grids(report: Report) -> list[_Grid]:
    overall = [
        ["accuracy", *_both(report.accuracy, report.accuracy_interval)],
        ["accuracy of the last exit", *_both(report.last_accuracy, report.last_accuracy_interval)],
        ["lost by leaving early", *_both(report.drop, report.drop_interval, _points)],
        ["mean cost per row", *_both(report.mean_cost, report.mean_cost_interval, _cost)],
        ["cost of the last exit", _cost(report.costs[-1]), ""],
    ]
    exits = [
        [
            name,
            _cost(report.costs[i]),
            f"{report.thresholds[i]:.4g}" if i < len(report.thresholds) else "-",
            *_both(report.accuracy_alone[i], report.accuracy_alone_interval[i]),
            *_both(report.reach[i], report.reach_interval[i]),
            *_both(report.leave[i], report.leave_interval[i]),
            *_both(report.accuracy_leaving[i], report.accuracy_leaving_interval[i]),
        ]
        for i, name in enumerate(report.exit_names)
    ]
    return [
        _Grid(
            "Overall (accuracy in %, cost of the plain network = 1)",
            ["", "value", "interval"],
            overall,
        ),
        _Grid(
            "Exits (shares and accuracy in %)",
            [
                "exit",
                "cost",
                "threshold",
                *_pairs("accuracy alone", "reach", "leave", "of these right"),
            ],
            exits,
        ),
        _classes(report),
    ]


def _classes(report: Report) -> _Grid:
    n_classes = len(report.classes)
    shown = np.arange(n_classes)
    title = "Classes (accuracy in %)"
    if n_classes > MAX_CLASSES:
        # nan, of classes without rows, sorts to the end.
        shown = np.argsort(-report.class_drop, kind="stable")[:N_WORST]
        title = f"Classes (accuracy in %): the {N_WORST} of {n_classes} that lose most"
    rows = [
        [
            str(report.classes[k]),
            str(report.class_rows[k]),
            _percent(report.class_accuracy[k]),
            _percent(report.class_last_accuracy[k]),
            *_both(report.class_drop[k], report.class_drop_interval[k], _points),
            _cost(report.class_mean_cost[k]),
        ]
        for k in shown
    ]
    header = ["class", "rows", "accuracy", "last exit", *_pairs("lost"), "mean cost"]
    return _Grid(title, header, rows)


def _pairs(*names: str) -> list[str]:
    """Header of columns of values and intervals: the name stands over the wider one."""
    return [cell for name in names for cell in ("", name)]


def _number(value: float, decimals: int) -> str:
    # Adding 0 makes a plain zero of a negative one.
    return "-" if np.isnan(value) else f"{round(float(value), decimals) + 0.0:.{decimals}f}"


def _percent(share: float) -> str:
    return _number(100 * share, 1)


def _points(difference: float) -> str:
    return _number(100 * difference, 2)


def _cost(value: float) -> str:
    return _number(value, 3)


def _both(
    value: float, interval: np.ndarray, form: Callable[[float], str] = _percent
) -> tuple[str, str]:
    if np.isnan(value):
        return "-", ""
    return form(value), f"[{form(interval[0])}, {form(interval[1])}]"

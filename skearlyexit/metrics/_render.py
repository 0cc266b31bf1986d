"""Output of a report: as text, as HTML and as data frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from skearlyexit._utils._frames import import_pandas
from skearlyexit.calibration._budget import SECONDS
from skearlyexit.metrics._figures import ClassFigures, ExitFigures

if TYPE_CHECKING:
    from skearlyexit.metrics._report import ExitReport

#: Maximum number of classes that are all shown, and number of classes shown otherwise.
MAX_CLASSES, N_WORST = 20, 10
#: Maximum number of characters of a line of text above the tables.
WIDTH = 100
PARTS = ("exits", "classes", "overall")


@dataclass(frozen=True)
class Unit:
    """Unit in which costs are shown besides the shares of the plain network."""

    name: str
    of_plain: float

    @classmethod
    def of(cls, report: Any) -> Unit | None:
        """Unit of a report, or None if it is not known."""
        name, plain = report.cost_unit, report.plain_cost
        if not name:
            return None
        if name == "s":
            # The largest unit that the plain network exceeds.
            name = next((unit for unit, size in SECONDS.items() if plain >= size), "us")
            plain /= SECONDS[name]
        return cls(name, plain)

    def __call__(self, cost: float) -> str:
        """Format a cost that is given as a share of the plain network."""
        value = cost * self.of_plain
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


@dataclass(frozen=True)
class Grid:
    """A table of strings: the first column is text, the others are numbers."""

    title: str
    header: list[str]
    rows: list[list[str]]


def as_text(report: ExitReport) -> str:
    """Format a report as text with aligned columns."""
    return text_of(_lines(report), report.advice, _grids(report))


def as_html(report: ExitReport) -> str:
    """Format a report as tables for a notebook, in the colors of its theme."""
    return html_of(_lines(report), report.advice, _grids(report))


def text_of(lines: list[str], advice: list[str], grids: list[Grid]) -> str:
    """Text of lines, advice and tables with aligned columns."""
    blocks = ["\n".join(fill(line, width=WIDTH) for line in lines)]
    if advice:
        sentences = [fill(f"- {each}", WIDTH, subsequent_indent="  ") for each in advice]
        blocks.append("\n".join(["Advice", *sentences]))
    for grid in grids:
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


def html_of(lines: list[str], advice: list[str], grids: list[Grid]) -> str:
    """HTML of lines, advice and tables."""
    cell = "padding:0.15em 0.7em;text-align:"
    parts = [f"<p>{'<br>'.join(map(escape, lines))}</p>"]
    if advice:
        sentences = "".join(f"<li>{escape(each)}</li>" for each in advice)
        parts.append(f"<p><b>Advice</b></p><ul>{sentences}</ul>")
    for grid in grids:
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


def as_frame(report: ExitReport, part: str) -> Any:
    """Convert a part of a report to a data frame; see `ExitReport.to_frame`."""
    if part not in PARTS:
        raise ValueError(f"The 'part' parameter must be one of {PARTS}. Got {part!r} instead.")
    pd = import_pandas("ExitReport.to_frame")
    if part == "overall":
        names = ["accuracy", "last_accuracy", "drop", "mean_cost"]
        if not np.isnan(report.overall.plain_accuracy):
            names += ["plain_accuracy", "plain_drop"]
        return frame_of_overall(report.overall, names, pd)
    if part == "exits":
        exits = report.exits
        columns = {"cost": exits.costs, "threshold": np.append(exits.thresholds, np.nan)}
        skip = [] if exits.skip_rate is None else ["skip_rate"]
        rates = ["reach_rate", *skip, "exit_rate"]
        for name in ("accuracy_alone", *rates, "accuracy_exiting"):
            columns |= with_limits(exits, name)
        return pd.DataFrame(columns, index=pd.Index(exits.names, name="exit"))
    classes = report.classes
    columns = {
        "n_samples": classes.n_samples,
        "accuracy": classes.accuracy,
        "last_accuracy": classes.last_accuracy,
        **with_limits(classes, "drop"),
        "mean_cost": classes.mean_cost,
    }
    return pd.DataFrame(columns, index=pd.Index(classes.labels, name="class"))


def frame_of_overall(overall: Any, names: list[str], pd: Any) -> Any:
    """Data frame of figures of the whole model, which are named, with the limits of each."""
    limits = np.array([getattr(overall, f"{name}_interval") for name in names])
    values = [getattr(overall, name) for name in names]
    columns = {"value": values, "low": limits[:, 0], "high": limits[:, 1]}
    return pd.DataFrame(columns, index=pd.Index(names, name="measure"))


def with_limits(figures: Any, name: str) -> dict[str, Any]:
    """Columns of a figure and of the limits of its interval."""
    interval = getattr(figures, f"{name}_interval")
    return {
        name: getattr(figures, name),
        f"{name}_low": interval[:, 0],
        f"{name}_high": interval[:, 1],
    }


def _lines(report: ExitReport) -> list[str]:
    """Lines above the tables."""
    exits, classes = len(report.exits.names), len(report.classes.labels)
    return lines_of(report, f"{report.overall.n_samples} samples, {exits} exits, {classes} classes")


def lines_of(report: Any, counts: str) -> list[str]:
    """Lines above the tables, from the numbers of samples and exits on."""
    lines = [f"{counts}; intervals at a confidence of {100 * report.confidence_level:g} %"]
    if report.request:
        certified = {None: "", True: ", certified", False: ", not certified"}[report.certified]
        lines.append(f"asked for: {report.request}{certified}")
    if report.reason:
        lines.append(report.reason)
    if unit := Unit.of(report):
        line = f"The {report.plain_name} costs {unit(1.0)} {unit.name} per sample."
        if report.cost_unit not in SECONDS:
            line += " For times, fit with cost='seconds', or call skearlyexit.metrics.speedup."
        lines.append(line)
    return lines


def _grids(report: ExitReport) -> list[Grid]:
    """Tables of the whole model, of its exits and of the classes."""
    unit = Unit.of(report)
    return [
        _overall(report, unit),
        _exits(report.exits, unit),
        _classes(report.classes),
    ]


def _overall(report: ExitReport, unit: Unit | None) -> Grid:
    """Table of the figures of the whole model."""
    overall, last_cost = report.overall, report.exits.costs[-1]
    rows = [
        ["accuracy", *both(overall, "accuracy")],
        ["accuracy of the last exit", *both(overall, "last_accuracy")],
        ["lost by exiting early", *both(overall, "drop", form=points_of)],
        ["mean cost per sample", *both(overall, "mean_cost", form=cost_of)],
        ["cost of the last exit", cost_of(last_cost), ""],
    ]
    if unit:
        in_unit = [f"mean cost per sample, {unit.name}", *both(overall, "mean_cost", form=unit)]
        rows.insert(-1, in_unit)
    if not np.isnan(overall.plain_accuracy):
        rows += [
            ["accuracy of the plain model", *both(overall, "plain_accuracy")],
            ["lost against the plain model", *both(overall, "plain_drop", form=points_of)],
        ]
    title = f"Overall (accuracy in %, cost of the {report.plain_name} = 1)"
    return Grid(title, ["", "value", "interval"], rows)


def _exits(exits: ExitFigures, unit: Unit | None) -> Grid:
    """Table of the figures of each exit. Intervals of shares would make its lines too long."""
    skip = {} if exits.skip_rate is None else {"skip": exits.skip_rate}
    shares = {"reach": exits.reach_rate, **skip, "exit": exits.exit_rate}
    rows = [
        [
            name,
            cost_of(exits.costs[i]),
            *([unit(exits.costs[i])] if unit else []),
            f"{exits.thresholds[i]:.4g}" if i < len(exits.thresholds) else "-",
            *both(exits, "accuracy_alone", i),
            *(percent_of(rates[i]) for rates in shares.values()),
            *both(exits, "accuracy_exiting", i),
        ]
        for i, name in enumerate(exits.names)
    ]
    header = [
        *("exit", "cost", *([unit.name] if unit else []), "threshold"),
        *(*pairs_of("accuracy alone"), *shares, *pairs_of("of these right")),
    ]
    return Grid("Exits (shares and accuracy in %)", header, rows)


def _classes(classes: ClassFigures) -> Grid:
    """Table of the figures of each class, or of those that lose most accuracy."""
    n_classes = len(classes.labels)
    shown = np.arange(n_classes)
    title = "Classes (accuracy in %)"
    if n_classes > MAX_CLASSES:
        # nan, of classes without samples, is sorted to the end.
        shown = np.argsort(-classes.drop, kind="stable")[:N_WORST]
        title = f"Classes (accuracy in %): the {N_WORST} of {n_classes} that lose most"
    rows = [
        [
            str(classes.labels[k]),
            str(classes.n_samples[k]),
            percent_of(classes.accuracy[k]),
            percent_of(classes.last_accuracy[k]),
            *both(classes, "drop", k, form=points_of),
            cost_of(classes.mean_cost[k]),
        ]
        for k in shown.tolist()
    ]
    header = ["class", "samples", "accuracy", "last exit", *pairs_of("lost"), "mean cost"]
    return Grid(title, header, rows)


def pairs_of(*names: str) -> list[str]:
    """Header of columns of values and intervals, with the name above the wider one."""
    return [cell for name in names for cell in ("", name)]


def number_of(value: float, decimals: int) -> str:
    # Adding 0 makes a plain zero of a negative one.
    return "-" if np.isnan(value) else f"{round(float(value), decimals) + 0.0:.{decimals}f}"


def percent_of(share: float) -> str:
    return number_of(100 * share, 1)


def points_of(difference: float) -> str:
    return number_of(100 * difference, 2)


def cost_of(value: float) -> str:
    return number_of(value, 3)


def both(
    figures: Any, name: str, i: int | None = None, *, form: Callable[[float], str] = percent_of
) -> tuple[str, str]:
    """A figure and its interval, or their entries `i`; "-" for nan."""
    value, interval = getattr(figures, name), getattr(figures, f"{name}_interval")
    if i is not None:
        value, interval = value[i], interval[i]
    if np.isnan(value):
        return "-", ""
    return form(value), f"[{form(interval[0])}, {form(interval[1])}]"

"""The costs of a cascade, part by part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from skearlyexit._utils._frames import aligned, import_pandas, preformatted
from skearlyexit.costs._compose import exit_costs
from skearlyexit.costs._parts import CostMeasurement


@dataclass(frozen=True)
class CostTable:
    """What each part of a cascade costs per row.

    Printed, it is a table; ``to_frame()`` gives a data frame.

    Attributes
    ----------
    unit : str
        Unit of costs, such as "MACs" or "s".
    names : list of str
        Names of the exits.
    stages, heads : list of CostMeasurement
        One for each exit, each alone.
    links : ndarray of shape (n_exits,)
        What is paid within each stage for handing rows from one machine to another.
    decisions : list of CostMeasurement
        What is made of each head's output, the answer and whether to leave; the last exit has
        nothing to decide.

    Examples
    --------
    >>> stages, heads = ([CostMeasurement.exactly(n) for n in two] for two in ([40, 50], [10, 10]))
    >>> none = [CostMeasurement.exactly(0)] * 2
    >>> table = CostTable("MACs", ["a", "b"], stages, heads, np.zeros(2), none)
    >>> print(table)
    exit  stage  head  until here  of plain
    a        40    10          50  50.0%
    b        50    10         110  110.0%
    in MACs per row; the plain network costs 100
    """

    unit: str
    names: list[str]
    stages: list[CostMeasurement]
    heads: list[CostMeasurement]
    links: np.ndarray
    decisions: list[CostMeasurement]

    @property
    def stage_costs(self) -> np.ndarray:
        """Cost of each stage alone, links included, shape (n_exits,)."""
        return np.array([stage.value for stage in self.stages]) + self.links

    @property
    def head_costs(self) -> np.ndarray:
        """Cost of each head alone, shape (n_exits,)."""
        return np.array([head.value for head in self.heads])

    @property
    def decision_costs(self) -> np.ndarray:
        """Cost of each decision, shape (n_exits,)."""
        return np.array([decision.value for decision in self.decisions])

    @property
    def plain(self) -> float:
        """Cost of all stages and the last head: the unit of `cumulative`."""
        return float(self.stage_costs.sum() + self.head_costs[-1])

    @property
    def cumulative(self) -> np.ndarray:
        """Cost of leaving at each exit as a share of the plain network's; see `exit_costs`."""
        return exit_costs(self.stage_costs, self.head_costs, self.decision_costs)

    @property
    def untimed(self) -> np.ndarray:
        """As `cumulative`, but heads and decisions whose cost was timed count as free.

        Another timing would give other values; what a model answers must not depend on it.
        """
        heads, decisions = (
            [0.0 if reading.how == "measured" else reading.value for reading in readings]
            for readings in (self.heads, self.decisions)
        )
        return exit_costs(self.stage_costs, heads, decisions)

    def _columns(self) -> dict[str, list[Any]]:
        until = self.cumulative
        columns: dict[str, list[Any]] = {"exit": list(self.names)}
        for title, readings in (("stage", self.stages), ("head", self.heads)):
            columns[title] = [reading.value for reading in readings]
            if any(reading.how == "measured" for reading in readings):
                columns[f"{title} 25%"] = [reading.low for reading in readings]
                columns[f"{title} 75%"] = [reading.high for reading in readings]
        if np.any(self.links):
            columns["link"] = list(self.links)
        if np.any(self.decision_costs):
            columns["decision"] = list(self.decision_costs)
        columns["until here"] = list(until * self.plain)
        columns["of plain"] = list(until)
        return columns

    def to_frame(self) -> Any:
        """Table as a pandas data frame, one row for each exit."""
        return import_pandas("CostTable.to_frame").DataFrame(self._columns())

    def __str__(self) -> str:
        shown = {
            title: [
                value
                if isinstance(value, str)
                else f"{value:.1%}"
                if title == "of plain"
                else readable(value)
                for value in values
            ]
            for title, values in self._columns().items()
        }
        note = f"in {self.unit or 'the unit given'} per row; the plain network costs "
        note += readable(self.plain)
        if self.stages[0].how == "counted" and any(
            part.how == "measured" for part in (*self.heads, *self.decisions)
        ):
            note += "; what could not be counted was timed, at the rate of the network"
        return "\n".join([*aligned(shown), note])

    def _repr_html_(self) -> str:
        return preformatted(str(self))


def readable(value: float) -> str:
    """Whole numbers as such, others with three digits."""
    if value == round(value) and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"

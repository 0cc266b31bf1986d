"""Table of the costs of all parts of a cascade."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from skearlyexit._utils._frames import aligned, import_pandas, preformatted
from skearlyexit.costs._compose import RoutedCosts, exit_costs
from skearlyexit.costs._parts import CostMeasurement


@dataclass(frozen=True)
class CostTable:
    """Costs per sample of all parts of an early-exit model.

    It prints as a table with one line per exit.

    Attributes
    ----------
    unit : str
        Unit of the costs, such as "MACs" or "s".
    names : list of str
        Names of the exits.
    stages, heads : list of CostMeasurement
        Cost of the stage and of the head of each exit.
    links : ndarray of shape (n_exits,)
        Cost of the transfers between machines within each stage.
    decisions : list of CostMeasurement
        Cost of the decision at each exit: the computation from the outputs of the heads to a
        prediction and its score.
    plain_name : str, default="plain network"
        What `plain` is the cost of.
    columns : ndarray of shape (2, n_exits) or None, default=None
        Cost of getting the columns of X that an estimator in a row is the first to need: those that
        the last estimator needs, too, and others. None if columns have no cost.

    Examples
    --------
    >>> stages, heads = ([CostMeasurement.exactly(n) for n in two] for two in ([40, 50], [10, 10]))
    >>> none = [CostMeasurement.exactly(0)] * 2
    >>> table = CostTable("MACs", ["a", "b"], stages, heads, np.zeros(2), none)
    >>> print(table)
    exit  stage  head  until here  of plain
    a        40    10          50  50.0%
    b        50    10         110  110.0%
    in MACs per sample; the plain network costs 100
    """

    unit: str
    names: list[str]
    stages: list[CostMeasurement]
    heads: list[CostMeasurement]
    links: np.ndarray
    decisions: list[CostMeasurement]
    plain_name: str = "plain network"
    columns: np.ndarray | None = None

    @property
    def stage_costs(self) -> np.ndarray:
        """Cost of each stage alone, links and columns of the last included, shape (n_exits,)."""
        return np.array([stage.value for stage in self.stages]) + self.links + self._columns_of(0)

    @property
    def head_costs(self) -> np.ndarray:
        """Cost of each head alone, columns of its own included, shape (n_exits,)."""
        return np.array([head.value for head in self.heads]) + self._columns_of(1)

    def _columns_of(self, which: int) -> np.ndarray | float:
        return 0.0 if self.columns is None else self.columns[which]

    @property
    def decision_costs(self) -> np.ndarray:
        """Cost of each decision, shape (n_exits,)."""
        return np.array([decision.value for decision in self.decisions])

    @property
    def plain(self) -> float:
        """Cost of the plain network or of the last estimator alone, the unit of `cumulative`."""
        return float(self.stage_costs.sum() + self.head_costs[-1])

    @property
    def cumulative(self) -> np.ndarray:
        """Cumulative cost of each exit, in units of `plain`, shape (n_exits,)."""
        return exit_costs(self.stage_costs, self.head_costs, self.decision_costs)

    @property
    def savings(self) -> np.ndarray:
        """Cost of head and decision of each exit, in units of `plain`, shape (n_exits,).

        A sample that skips the exit saves it.
        """
        return RoutedCosts.of(self.stage_costs, self.head_costs, self.decision_costs).savings

    @property
    def untimed(self) -> RoutedCosts:
        """As `cumulative` and `savings`, but with cost 0 for heads and decisions that were timed.

        Policies and combinations that depend on costs are fitted with these values, since times
        differ from fit to fit.
        """
        heads, decisions = (
            np.array([0.0 if each.how == "measured" else each.value for each in readings])
            for readings in (self.heads, self.decisions)
        )
        return RoutedCosts.of(self.stage_costs, heads + self._columns_of(1), decisions)

    def _columns(self) -> dict[str, list[Any]]:
        until = self.cumulative
        columns: dict[str, list[Any]] = {"exit": list(self.names)}
        for title, readings in (("stage", self.stages), ("head", self.heads)):
            if readings is self.stages and not any(stage.value for stage in readings):
                continue  # an estimator in a row is a head without a stage
            columns[title] = [reading.value for reading in readings]
            if any(reading.how == "measured" for reading in readings):
                columns[f"{title} 25%"] = [reading.low for reading in readings]
                columns[f"{title} 75%"] = [reading.high for reading in readings]
        if np.any(self.links):
            columns["link"] = list(self.links)
        if self.columns is not None and np.any(self.columns):
            columns["columns"] = list(self.columns.sum(axis=0))
        if np.any(self.decision_costs):
            columns["decision"] = list(self.decision_costs)
        columns["until here"] = list(until * self.plain)
        columns["of plain"] = list(until)
        return columns

    def to_frame(self) -> Any:
        """Return the table as a pandas DataFrame.

        Returns
        -------
        frame : pandas.DataFrame
            One row for each exit.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
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
        note = f"in {self.unit or 'the unit given'} per sample; the {self.plain_name} costs "
        note += readable(self.plain)
        if self.stages[0].how == "counted" and any(
            part.how == "measured" for part in (*self.heads, *self.decisions)
        ):
            note += "; what could not be counted was timed, at the rate of the network"
        return "\n".join([*aligned(shown), note])

    def _repr_html_(self) -> str:
        return preformatted(str(self))


def readable(value: float) -> str:
    """Format whole numbers without decimals, and others with three significant digits."""
    if value == round(value) and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"

"""What an early-exit model does on some rows: where they leave, what that saves and loses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skearlyexit._data._weights import scaled
from skearlyexit._exit_table import ExitTable, LabelTable
from skearlyexit.metrics._intervals import effective_rows, mean_interval, proportion_interval
from skearlyexit.metrics._render import as_frame, as_html, as_text


@dataclass(frozen=True, eq=False, repr=False)
class ExitReport:
    """Accuracy and cost of an early-exit model on rows that it was not fitted or calibrated on.

    It prints as a page of text, and shows as tables in a notebook. Every interval is for its own
    number: of twenty classes at 95 %, one is expected to lie outside its own.

    Attributes
    ----------
    exit_names : list of str
    costs : ndarray of shape (n_exits,)
        Cumulative cost of leaving at each exit, in units of the plain network.
    thresholds : ndarray of shape (n_exits - 1,)
    accuracy_alone, accuracy_alone_interval : ndarray of shape (n_exits,) and (n_exits, 2)
        Accuracy of each exit on all rows.
    reach, reach_interval : ndarray of shape (n_exits,) and (n_exits, 2)
        Share of the rows that get to each exit.
    leave, leave_interval : ndarray of shape (n_exits,) and (n_exits, 2)
        Share of the rows that leave at each exit.
    accuracy_leaving, accuracy_leaving_interval : ndarray of shape (n_exits,) and (n_exits, 2)
        Accuracy on the samples that exit there; nan where none does.
    n_rows : int
        Rows of positive weight.
    accuracy, last_accuracy : float
        Of the model, and of its last exit on all rows.
    drop : float
        Last accuracy minus accuracy: positive where leaving early loses.
    mean_cost : float
        Per row, in units of the plain network.
    accuracy_interval, last_accuracy_interval : ndarray of shape (2,)
    drop_interval, mean_cost_interval : ndarray of shape (2,)
    classes : ndarray of shape (n_classes,)
    class_rows : ndarray of shape (n_classes,)
        Rows of each class.
    class_accuracy, class_last_accuracy, class_drop, class_mean_cost : ndarray of shape (n_classes,)
        The same on the rows of each class; nan for one without rows.
    class_drop_interval : ndarray of shape (n_classes, 2)
    confidence_level : float
        Of every interval.
    request : str
        What the thresholds were asked for; empty if nothing was.
    certified : bool or None
        Whether a guarantee was asked for and given; None if none was asked for.
    reason : str
        A sentence on the operating point.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit import ExitTable
    >>> from skearlyexit.metrics import ExitReport
    >>> probabilities = np.array(
    ...     [[[0.9, 0.1], [0.8, 0.2]], [[0.6, 0.4], [0.3, 0.7]], [[0.2, 0.8], [0.7, 0.3]]])
    >>> table = ExitTable(probabilities, scores=probabilities.max(axis=2))
    >>> report = ExitReport.from_table(
    ...     table, np.array([0, 1, 1]), np.array([0.75]), np.array([0.5, 1.0]),
    ...     classes=np.array(["a", "b"]), exit_names=["first", "last"])
    >>> report.leave.round(3), report.accuracy, round(report.last_accuracy, 3)
    (array([0.667, 0.333]), 1.0, 0.667)
    >>> round(report.mean_cost, 3), report.class_rows
    (0.667, array([1, 2]))
    """

    exit_names: list[str]
    costs: np.ndarray
    thresholds: np.ndarray
    accuracy_alone: np.ndarray
    accuracy_alone_interval: np.ndarray
    reach: np.ndarray
    reach_interval: np.ndarray
    leave: np.ndarray
    leave_interval: np.ndarray
    accuracy_leaving: np.ndarray
    accuracy_leaving_interval: np.ndarray
    n_rows: int
    accuracy: float
    accuracy_interval: np.ndarray
    last_accuracy: float
    last_accuracy_interval: np.ndarray
    drop: float
    drop_interval: np.ndarray
    mean_cost: float
    mean_cost_interval: np.ndarray
    classes: np.ndarray
    class_rows: np.ndarray
    class_accuracy: np.ndarray
    class_last_accuracy: np.ndarray
    class_drop: np.ndarray
    class_drop_interval: np.ndarray
    class_mean_cost: np.ndarray
    confidence_level: float
    request: str = ""
    certified: bool | None = None
    reason: str = ""

    @classmethod
    def from_table(
        cls,
        table: ExitTable | LabelTable,
        y_index: np.ndarray,
        thresholds: np.ndarray,
        costs: np.ndarray,
        *,
        classes: np.ndarray,
        exit_names: Sequence[str],
        exits: np.ndarray | None = None,
        weight: np.ndarray | None = None,
        confidence_level: float = 0.95,
        request: str = "",
        certified: bool | None = None,
        reason: str = "",
    ) -> ExitReport:
        """Report on the rows of an exit table.

        Parameters
        ----------
        table : ExitTable or LabelTable
        y_index : ndarray of shape (n_samples,)
            True classes, as indices into `classes`.
        thresholds : ndarray of shape (n_exits - 1,)
        costs : ndarray of shape (n_exits,)
        classes : ndarray of shape (n_classes,)
        exit_names : sequence of str
        exits : ndarray of shape (n_samples,), default=None
            Where the rows left, if that was not for the thresholds alone.
        weight : ndarray of shape (n_samples,), default=None
            Weights not below 0; rows of weight 0 are left out. Weighted rows enter the intervals
            as their effective number. That serves weights of classes and of samples; where the
            rows that are wrong weigh several times as much as the others, it is too large, and the
            intervals are too narrow.
        confidence_level : float, default=0.95
        request, certified, reason : str, bool or None, str
            As in the attributes.

        Returns
        -------
        report : ExitReport

        Raises
        ------
        ValueError
            If there are no rows of positive weight, or `confidence_level` is not between 0 and 1.
        """
        thresholds = np.asarray(thresholds, dtype=np.float64)
        weight = np.ones(len(table)) if weight is None else np.asarray(weight, dtype=np.float64)
        used = weight > 0
        if not used.any():
            raise ValueError("A report needs at least one row of positive weight. Got none.")
        y_index, weight = np.asarray(y_index)[used], scaled(weight[used])
        correct = table.labels[used] == y_index[:, None]
        left = table.leave(thresholds) if exits is None else exits
        rows = _Rows(correct, left[used], costs, weight, confidence_level)
        possible = possible_exits(thresholds) | (np.bincount(rows.exits, minlength=len(costs)) > 0)
        return cls(
            exit_names=list(exit_names),
            costs=np.asarray(costs),
            thresholds=thresholds,
            **rows.by_exit(possible),
            n_rows=len(weight),
            **rows.overall(possible),
            classes=np.asarray(classes),
            **rows.by_class(y_index, len(classes), possible),
            confidence_level=confidence_level,
            request=request,
            certified=certified,
            reason=reason,
        )

    def to_frame(self, part: str = "exits") -> Any:
        """One part of the report as a table.

        Parameters
        ----------
        part : {"exits", "classes", "overall"}, default="exits"

        Returns
        -------
        frame : pandas.DataFrame
            Indexed by exit, class or measure. Shares and accuracies are between 0 and 1; columns
            that end in ``_low`` and ``_high`` are limits of intervals.

        Raises
        ------
        ImportError
            If pandas is not installed.
        ValueError
            If there is no such part.
        """
        return as_frame(self, part)

    def __str__(self) -> str:
        return as_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(self)


def possible_exits(thresholds: np.ndarray) -> np.ndarray:
    """Exits that a score in [0, 1] can make a row leave at, shape (n_exits,), bool.

    At the others it is certain, and not only observed, that no sample exits.
    """
    come_past = np.concatenate([[True], np.logical_and.accumulate(thresholds > 0)])
    return come_past & (np.append(thresholds, 0.0) <= 1)


@dataclass(frozen=True)
class _Rows:
    """What the numbers of a report are made from.

    Attributes
    ----------
    correct : ndarray of shape (n_rows, n_exits), bool
    exits : ndarray of shape (n_rows,)
        Exit at which each row leaves.
    costs : ndarray of shape (n_exits,)
    weight : ndarray of shape (n_rows,)
        Positive.
    level : float
        Confidence level.
    """

    correct: np.ndarray
    exits: np.ndarray
    costs: np.ndarray
    weight: np.ndarray
    level: float

    def take(self, rows: np.ndarray) -> _Rows:
        return _Rows(
            self.correct[rows], self.exits[rows], self.costs, self.weight[rows], self.level
        )

    @property
    def right(self) -> np.ndarray:
        """Whether the answer of each row is right, shape (n_rows,)."""
        return np.asarray(self.correct[np.arange(len(self.exits)), self.exits])

    def share(self, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weighted share of hits, shape (...), and its interval, shape (..., 2).

        Parameters
        ----------
        hits : ndarray of shape (n_rows, ...), bool
        """
        if not len(hits):
            return np.full(hits.shape[1:], np.nan), proportion_interval(
                np.zeros(hits.shape[1:]), 0, self.level
            )
        share = np.average(hits, axis=0, weights=self.weight)
        n_rows = effective_rows(self.weight)
        return np.asarray(share), proportion_interval(share * n_rows, n_rows, self.level)

    def by_exit(self, possible: np.ndarray) -> dict[str, Any]:
        numbers = np.arange(len(self.costs))
        alone, alone_interval = self.share(self.correct)
        reach, reach_interval = self.share(self.exits[:, None] >= numbers)
        leave, leave_interval = self.share(self.exits[:, None] == numbers)
        leave_interval[~possible] = 0.0
        # Every sample passes exits at which none can exit, and none passes all the others.
        reach_interval[numbers <= numbers[possible][0]] = 1.0
        reach_interval[numbers > numbers[possible][-1]] = 0.0
        if possible.sum() == 1:
            leave_interval[possible] = 1.0
        leaving, leaving_interval = [], []
        for exit_ in numbers:
            there = self.take(self.exits == exit_)
            value, interval = there.share(there.correct[:, exit_])
            leaving.append(value)
            leaving_interval.append(interval)
        return {
            "accuracy_alone": alone,
            "accuracy_alone_interval": alone_interval,
            "reach": reach,
            "reach_interval": reach_interval,
            "leave": leave,
            "leave_interval": leave_interval,
            "accuracy_leaving": np.array(leaving),
            "accuracy_leaving_interval": np.array(leaving_interval),
        }

    def overall(self, possible: np.ndarray) -> dict[str, Any]:
        accuracy, accuracy_interval = self.share(self.right)
        last, last_interval = self.share(self.correct[:, -1])
        cost = self.costs[self.exits]
        bounds = self.costs[possible][0], self.costs[possible][-1]
        return {
            "accuracy": float(accuracy),
            "accuracy_interval": accuracy_interval,
            "last_accuracy": float(last),
            "last_accuracy_interval": last_interval,
            "drop": float(np.average(self._loss(), weights=self.weight)),
            "drop_interval": self._drop_interval(possible),
            "mean_cost": float(np.average(cost, weights=self.weight)),
            "mean_cost_interval": mean_interval(cost, *bounds, self.level, weight=self.weight),
        }

    def by_class(self, y_index: np.ndarray, n_classes: int, possible: np.ndarray) -> dict[str, Any]:
        """Numbers of every class, each shape (n_classes,); nan for one without rows."""
        n_rows = np.bincount(y_index, minlength=n_classes)
        order = np.argsort(y_index, kind="stable")
        values = np.full((4, n_classes), np.nan)
        intervals = np.empty((n_classes, 2))
        for k, rows in enumerate(np.split(order, np.cumsum(n_rows)[:-1])):
            part = self.take(rows)
            intervals[k] = part._drop_interval(possible)
            if len(rows):
                measured = (part.right, part.correct[:, -1], part._loss(), self.costs[part.exits])
                values[:, k] = np.average(np.stack(measured), axis=1, weights=part.weight)
        return {
            "class_rows": n_rows,
            "class_accuracy": values[0],
            "class_last_accuracy": values[1],
            "class_drop": values[2],
            "class_drop_interval": intervals,
            "class_mean_cost": values[3],
        }

    def _loss(self) -> np.ndarray:
        """1 where a row is wrong and would have been right at the end, -1 the other way."""
        return self.correct[:, -1].astype(np.float64) - self.right

    def _drop_interval(self, possible: np.ndarray) -> np.ndarray:
        bound = float(possible[:-1].any())  # nothing is lost or won where all run to the end
        return mean_interval(self._loss(), -bound, bound, self.level, weight=self.weight)

"""Report on an early-exit model: where samples exit, what that saves and loses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skearlyexit._data._weights import scaled
from skearlyexit._exit_table import ExitTable, LabelTable
from skearlyexit.metrics._advice import on_classes, on_cost, on_exits
from skearlyexit.metrics._figures import (
    ClassFigures,
    ExitFigures,
    Outcomes,
    OverallFigures,
    possible_exits,
)
from skearlyexit.metrics._render import as_frame, as_html, as_text


@dataclass(frozen=True, eq=False, repr=False)
class ExitReport:
    """Accuracy and cost of an early-exit model on samples that it was not fitted or calibrated on.

    It is printed as a page of text, and shown as tables in a notebook. Each interval holds for its
    own figure: of the intervals of twenty classes at 95 %, one is expected to miss its figure. They
    assume that the samples are independent, and are too narrow for samples in groups.

    Attributes
    ----------
    exits : ExitFigures
        Figures of each exit, arrays of shape (n_exits,):

        - ``names``, a list of str; ``costs``, the cumulative cost of exiting there in units of the
          plain network; and ``thresholds``, of shape (n_exits - 1,);
        - ``accuracy_alone``: accuracy of the exit on all samples;
        - ``reach_rate``: share of the samples that reach the exit;
        - ``skip_rate``: share of the samples that pass the exit without being asked; None without a
          router;
        - ``exit_rate``: share of the samples that exit there;
        - ``accuracy_exiting``: accuracy on the samples that exit there, nan where none does.
    overall : OverallFigures
        Figures of the whole model, floats:

        - ``n_samples``: number of samples of positive weight, an int;
        - ``accuracy`` of the model, and ``last_accuracy`` of its last exit, on all samples;
        - ``drop``: last accuracy minus accuracy, positive where early exits lose accuracy;
        - ``mean_cost`` per sample, in units of the plain network;
        - ``plain_accuracy`` of the model given as `plain`, such as a plain network that was trained
          by itself, and ``plain_drop``, this accuracy minus that of the early-exit model; nan if no
          model was given.
    classes : ClassFigures
        Figures of each class, arrays of shape (n_classes,): ``labels``, ``n_samples``,
        ``accuracy``, ``last_accuracy``, ``drop`` and ``mean_cost`` on the samples of the class; nan
        for a class without samples.
    confidence_level : float
        Of every interval.
    request : str
        What the thresholds were asked for; empty if nothing was.
    certified : bool or None
        Whether a guarantee was asked for and given; None if none was asked for.
    reason : str
        A sentence on the operating point.
    cost_unit : str
        Unit in which costs were measured, such as "MACs" or "s"; empty if it is not known.
    plain_cost : float
        Cost of the plain network in this unit, by which costs are multiplied to convert them.
    plain_name : str
        What `plain_cost` is the cost of.
    advice : list of str
        Sentences that say what to change: that nothing is gained behind an exit, that a budget has
        the same thresholds as another one, or that no exit is cheap enough for it. Often there are
        none.

    Notes
    -----
    Every share, accuracy, drop and mean cost of ``exits`` and ``overall``, and the drop of
    ``classes``, has an interval: its name with ``_interval`` appended, of shape (..., 2).

    The model is advised to be cut after an exit if, at the confidence level, neither a later exit
    alone nor the model as it runs gains more than one percentage point of accuracy over it, and no
    gain is certain. The intervals of the paired differences decide, for one exit after the other
    from the end up to the first that fails. A few hundred samples are needed.

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
    >>> report.overall.accuracy, round(report.overall.mean_cost, 3)
    (1.0, 0.667)
    >>> report.exits.exit_rate.round(3), report.exits.exit_rate_interval.shape
    (array([0.667, 0.333]), (2, 2))
    >>> report.classes.n_samples, report.classes.drop
    (array([1, 2]), array([ 0. , -0.5]))
    """

    exits: ExitFigures
    overall: OverallFigures
    classes: ClassFigures
    confidence_level: float
    request: str = ""
    certified: bool | None = None
    reason: str = ""
    cost_unit: str = ""
    plain_cost: float = np.nan
    plain_name: str = "plain network"
    advice: list[str] = field(default_factory=list)

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
        plain_correct: np.ndarray | None = None,
        request: str = "",
        certified: bool | None = None,
        reason: str = "",
        cost_unit: str = "",
        plain_cost: float = np.nan,
        plain_name: str = "plain network",
        advice: Sequence[str] = (),
    ) -> ExitReport:
        """Compute the report of an exit table.

        Parameters
        ----------
        table : ExitTable or LabelTable
            Outputs of every exit.
        y_index : ndarray of shape (n_samples,)
            True classes, as indices into `classes`.
        thresholds : ndarray of shape (n_exits - 1,)
            Threshold of each exit but the last.
        costs : ndarray of shape (n_exits,)
            Cumulative cost of each exit, in units of the plain network.
        classes : ndarray of shape (n_classes,)
            Labels of the classes.
        exit_names : sequence of str
            Names of the exits.
        exits : ndarray of shape (n_samples,), default=None
            Exit of each sample, none of which skips an exit; None takes the first exit whose score
            reaches its threshold, without those that the sample skips.
        weight : ndarray of shape (n_samples,), default=None
            Nonnegative sample weights; samples of weight 0 are ignored. The intervals are those of
            the effective number of samples. Where wrong samples weigh several times as much as the
            others, this number is too large, and the intervals are too narrow.
        confidence_level : float, default=0.95
            Confidence level of every interval.
        plain_correct : ndarray of shape (n_samples,), bool, default=None
            Whether the prediction of another model is correct, which is compared with this one.
        request : str, default=""
            What the thresholds were asked for.
        certified : bool, default=None
            Whether a guarantee was given; None if none was asked for.
        reason : str, default=""
            A sentence on the operating point.
        cost_unit : str, default=""
            Unit of `plain_cost`, such as "MACs" or "s". If it is given, costs are shown in it, too.
        plain_cost : float, default=nan
            Cost of the plain network.
        plain_name : str, default="plain network"
            What `plain_cost` is the cost of.
        advice : sequence of str, default=()
            Advice on the operating point, which is added to that on the exits.

        Returns
        -------
        report : ExitReport
            Figures of the exits, of the whole model and of the classes.

        Raises
        ------
        ValueError
            If no sample has positive weight, or `confidence_level` is not between 0 and 1.
        """
        thresholds = np.asarray(thresholds, dtype=np.float64)
        weight = np.ones(len(table)) if weight is None else np.asarray(weight, dtype=np.float64)
        used = weight > 0
        if not used.any():
            raise ValueError("A report needs at least one sample of positive weight. Got none.")
        y_index, weight = np.asarray(y_index)[used], scaled(weight[used])
        correct = table.labels[used] == y_index[:, None]
        costs = least = np.asarray(costs)
        skipped = None
        if exits is not None:
            paid = costs[exits]
        else:
            exits, paid = table.outcomes(thresholds, costs)
            if table.routing is not None:
                skipped = table.skipped(thresholds)[used]
                least = table.routing.least_costs(costs)
        seen = np.bincount(exits[used], minlength=len(costs)) > 0
        outcomes = Outcomes(
            correct=correct,
            exits=exits[used],
            paid=paid[used],
            skipped=skipped,
            weight=weight,
            costs=costs,
            least=least,
            possible=possible_exits(thresholds) | seen,
            level=confidence_level,
        )
        overall = outcomes.overall()
        if plain_correct is not None:
            overall = outcomes.beside(overall, np.asarray(plain_correct)[used])
        return cls(
            exits=outcomes.by_exit(list(exit_names), thresholds),
            overall=overall,
            classes=outcomes.by_class(y_index, np.asarray(classes)),
            confidence_level=confidence_level,
            request=request,
            certified=certified,
            reason=reason,
            cost_unit=cost_unit,
            plain_cost=plain_cost,
            plain_name=plain_name,
            advice=[
                *on_cost(outcomes, plain_name),
                *on_exits(outcomes, list(exit_names)),
                *on_classes(outcomes, y_index, np.asarray(classes)),
                *advice,
            ],
        )

    def to_frame(self, part: str = "exits") -> Any:
        """Convert a part of the report to a data frame.

        Parameters
        ----------
        part : {"exits", "classes", "overall"}, default="exits"
            Figures of each exit, of each class, or of the whole model.

        Returns
        -------
        frame : pandas.DataFrame
            Indexed by exit, class or measure. Shares and accuracies are between 0 and 1. Columns
            that end in ``_low`` and ``_high`` are the limits of intervals.

        Raises
        ------
        ImportError
            If pandas is not installed.
        ValueError
            If `part` is not one of these.
        """
        return as_frame(self, part)

    def __str__(self) -> str:
        return as_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(self)

"""Report on an early-exit regressor: where samples exit, what that saves and loses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import ndtri

from skearlyexit._data._weights import scaled
from skearlyexit._utils._frames import import_pandas
from skearlyexit.calibration._calibration_data import ErrorScale
from skearlyexit.metrics._figures import possible_exits, reach_and_exit_rates
from skearlyexit.metrics._intervals import (
    effective_rows,
    mean_interval,
    proportion_interval,
    tail_of,
)
from skearlyexit.metrics._render import (
    Grid,
    Unit,
    both,
    cost_of,
    frame_of_overall,
    html_of,
    lines_of,
    pairs_of,
    percent_of,
    points_of,
    text_of,
    with_limits,
)


@dataclass(frozen=True, eq=False)
class RegressionExits:
    """Figures of each exit; see `RegressionReport`."""

    names: list[str]
    costs: np.ndarray
    thresholds: np.ndarray
    error_alone: np.ndarray
    error_alone_interval: np.ndarray
    explained_alone: np.ndarray
    reach_rate: np.ndarray
    reach_rate_interval: np.ndarray
    exit_rate: np.ndarray
    exit_rate_interval: np.ndarray
    error_exiting: np.ndarray
    error_exiting_interval: np.ndarray


@dataclass(frozen=True, eq=False)
class RegressionOverall:
    """Figures of the whole model; see `RegressionReport`."""

    n_samples: int
    error: float
    error_interval: np.ndarray
    last_error: float
    last_error_interval: np.ndarray
    rise: float
    rise_interval: np.ndarray
    explained: float
    last_explained: float
    mean_cost: float
    mean_cost_interval: np.ndarray
    plain_error: float = np.nan
    plain_error_interval: np.ndarray = field(default_factory=lambda: np.full(2, np.nan))
    plain_rise: float = np.nan
    plain_rise_interval: np.ndarray = field(default_factory=lambda: np.full(2, np.nan))


@dataclass(frozen=True, eq=False, repr=False)
class RegressionReport:
    """Error and cost of an early-exit regressor on samples that it was not fitted or calibrated on.

    It is printed as a page of text, and shown as tables in a notebook. The error is the root of the
    mean squared error, or the mean of another loss of the estimator, in the units of y, or with
    several targets in units of their standard deviations. What is explained is the share of the
    loss of the best constant prediction on the training samples, with their weights, similar to R2.

    Attributes
    ----------
    exits : RegressionExits
        Figures of each exit, arrays of shape (n_exits,):

        - ``names``, a list of str; ``costs``, the cumulative cost of exiting there in units of the
          plain network; and ``thresholds``, of shape (n_exits - 1,);
        - ``error_alone`` and ``explained_alone`` of the exit on all samples;
        - ``reach_rate``: share of the samples that reach the exit;
        - ``exit_rate``: share of the samples that exit there;
        - ``error_exiting``: error on the samples that exit there, nan where none does.
    overall : RegressionOverall
        Figures of the whole model, floats:

        - ``n_samples``: number of samples of positive weight, an int;
        - ``error`` of the model, and ``last_error`` of its last exit, on all samples;
        - ``rise``: error divided by last error, minus 1;
        - ``explained`` and ``last_explained``, of both;
        - ``mean_cost`` per sample, in units of the plain network;
        - ``plain_error`` of the model given as `plain`, and ``plain_rise``, the error divided by
          it, minus 1; nan if no model was given.
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
        Cost of the plain network in this unit.
    plain_name : str
        What `plain_cost` is the cost of.

    Notes
    -----
    Errors, rises, rates and mean costs have intervals: their names with ``_interval`` appended, of
    shape (..., 2). Those of errors and rises are approximate: they assume that the mean loss is
    normally distributed, which needs at least some dozens of samples.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skearlyexit import EarlyExitRegressor, MLPBackbone
    >>> X, y = load_diabetes(return_X_y=True)
    >>> reg = EarlyExitRegressor(
    ...     MLPBackbone(2, width=16, hidden=16), calibration=0.3, max_epochs=10, random_state=0)
    >>> report = reg.fit(X[:300], y[:300]).exit_report(X[300:], y[300:])
    >>> report.overall.n_samples, bool(report.exits.exit_rate.sum().round(9) == 1)
    (142, True)
    """

    exits: RegressionExits
    overall: RegressionOverall
    confidence_level: float
    request: str = ""
    certified: bool | None = None
    reason: str = ""
    cost_unit: str = ""
    plain_cost: float = np.nan
    plain_name: str = "plain network"

    @classmethod
    def from_losses(
        cls,
        losses: np.ndarray,
        exits: np.ndarray,
        thresholds: np.ndarray,
        costs: np.ndarray,
        error_scale: ErrorScale,
        *,
        exit_names: Sequence[str],
        weight: np.ndarray | None = None,
        confidence_level: float = 0.95,
        plain_losses: np.ndarray | None = None,
        **described: Any,
    ) -> RegressionReport:
        """Compute the report from losses.

        Parameters
        ----------
        losses : ndarray of shape (n_samples, n_exits)
            Loss of each sample at each exit, divided by that of the best constant prediction.
        exits : ndarray of shape (n_samples,)
            Exit of each sample.
        thresholds : ndarray of shape (n_exits - 1,)
            Threshold of each exit but the last.
        costs : ndarray of shape (n_exits,)
            Cumulative cost of each exit, in units of the plain network.
        error_scale : ErrorScale
            Conversion of a mean loss to an error.
        exit_names : sequence of str
            Names of the exits.
        weight : ndarray of shape (n_samples,), default=None
            Nonnegative sample weights; samples of weight 0 are ignored.
        confidence_level : float, default=0.95
            Confidence level of every interval.
        plain_losses : ndarray of shape (n_samples,), default=None
            Losses of another model, which is compared with this one.
        **described : dict
            Other attributes of the report.

        Returns
        -------
        report : RegressionReport

        Raises
        ------
        ValueError
            If no sample has positive weight, or `confidence_level` is not between 0 and 1.
        """
        weight = np.ones(len(losses)) if weight is None else np.asarray(weight, dtype=np.float64)
        used = weight > 0
        if not used.any():
            raise ValueError("A report needs at least one sample of positive weight. Got none.")
        seen = np.bincount(exits[used], minlength=len(costs)) > 0
        found = _Outcomes(
            losses[used],
            exits[used],
            scaled(weight[used]),
            np.asarray(costs),
            possible_exits(thresholds) | seen,
            error_scale,
            confidence_level,
        )
        plain = None if plain_losses is None else np.asarray(plain_losses)[used]
        return cls(
            found.by_exit(list(exit_names), thresholds),
            found.overall(plain),
            confidence_level,
            **described,
        )

    def to_frame(self, part: str = "exits") -> Any:
        """Convert a part of the report to a data frame.

        Parameters
        ----------
        part : {"exits", "overall"}, default="exits"
            Figures of each exit, or of the whole model.

        Returns
        -------
        frame : pandas.DataFrame
            Indexed by exit or measure. Columns that end in ``_low`` and ``_high`` are the limits of
            intervals.

        Raises
        ------
        ImportError
            If pandas is not installed.
        ValueError
            If `part` is not one of these.
        """
        if part not in ("exits", "overall"):
            raise ValueError(f"The 'part' parameter must be 'exits' or 'overall'. Got {part!r}.")
        pd = import_pandas("RegressionReport.to_frame")
        if part == "overall":
            names = ["error", "last_error", "rise", "mean_cost"]
            if not np.isnan(self.overall.plain_error):
                names += ["plain_error", "plain_rise"]
            return frame_of_overall(self.overall, names, pd)
        exits = self.exits
        columns = {"cost": exits.costs, "threshold": np.append(exits.thresholds, np.nan)}
        columns["explained_alone"] = exits.explained_alone
        for name in ("error_alone", "reach_rate", "exit_rate", "error_exiting"):
            columns |= with_limits(exits, name)
        return pd.DataFrame(columns, index=pd.Index(exits.names, name="exit"))

    def _parts(self) -> tuple[list[str], list[str], list[Grid]]:
        """Lines, advice and tables, as they are shown."""
        counts = f"{self.overall.n_samples} samples, {len(self.exits.names)} exits"
        unit = Unit.of(self)
        return lines_of(self, counts), [], [self._overall_grid(unit), self._exits_grid(unit)]

    def _overall_grid(self, unit: Unit | None) -> Grid:
        overall = self.overall
        rows = [
            ["error", *both(overall, "error", form=_figure)],
            ["error of the last exit", *both(overall, "last_error", form=_figure)],
            ["rise by exiting early, %", *both(overall, "rise", form=points_of)],
            ["explained, %", percent_of(overall.explained), ""],
            ["explained by the last exit, %", percent_of(overall.last_explained), ""],
            ["mean cost per sample", *both(overall, "mean_cost", form=cost_of)],
        ]
        if unit:
            rows.append(
                [f"mean cost per sample, {unit.name}", *both(overall, "mean_cost", form=unit)]
            )
        rows.append(["cost of the last exit", cost_of(self.exits.costs[-1]), ""])
        if not np.isnan(overall.plain_error):
            rows += [
                ["error of the plain model", *both(overall, "plain_error", form=_figure)],
                ["rise over the plain model, %", *both(overall, "plain_rise", form=points_of)],
            ]
        return Grid(f"Overall (cost of the {self.plain_name} = 1)", ["", "value", "interval"], rows)

    def _exits_grid(self, unit: Unit | None) -> Grid:
        exits = self.exits
        rows = [
            [
                name,
                cost_of(exits.costs[i]),
                *([unit(exits.costs[i])] if unit else []),
                f"{exits.thresholds[i]:.4g}" if i < len(exits.thresholds) else "-",
                percent_of(exits.explained_alone[i]),
                *both(exits, "error_alone", i, form=_figure),
                percent_of(exits.reach_rate[i]),
                percent_of(exits.exit_rate[i]),
                *both(exits, "error_exiting", i, form=_figure),
            ]
            for i, name in enumerate(exits.names)
        ]
        header = [
            *("exit", "cost", *([unit.name] if unit else []), "threshold", "explained"),
            *(*pairs_of("error alone"), "reach", "exit", *pairs_of("error of these")),
        ]
        return Grid("Exits (shares in %)", header, rows)

    def __str__(self) -> str:
        return text_of(*self._parts())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_of(*self._parts())


def _figure(error: float) -> str:
    return "-" if np.isnan(error) else f"{error:.4g}"


@dataclass(frozen=True)
class _Outcomes:
    """Where samples exit, and their losses at each exit: what the figures are computed from."""

    losses: np.ndarray
    exits: np.ndarray
    weight: np.ndarray
    costs: np.ndarray
    possible: np.ndarray
    error_scale: ErrorScale
    level: float

    def by_exit(self, names: list[str], thresholds: np.ndarray) -> RegressionExits:
        """Figures of each exit."""
        numbers = np.arange(len(self.costs))
        alone = [self._error(column, self.weight) for column in self.losses.T]
        there = [
            self._error(self.losses[at, i], self.weight[at])
            for i, at in enumerate(self.exits == numbers[:, None])
        ]
        means = np.average(self.losses, axis=0, weights=self.weight)
        return RegressionExits(
            names=names,
            costs=self.costs,
            thresholds=thresholds,
            error_alone=np.array([value for value, _ in alone]),
            error_alone_interval=np.array([interval for _, interval in alone]),
            explained_alone=1.0 - means,
            **reach_and_exit_rates(self.exits, self.possible, self._rates),
            error_exiting=np.array([value for value, _ in there]),
            error_exiting_interval=np.array([interval for _, interval in there]),
        )

    def overall(self, plain: np.ndarray | None) -> RegressionOverall:
        """Figures of the whole model, beside the losses of another one if there is one."""
        own, last = self.losses[np.arange(len(self.exits)), self.exits], self.losses[:, -1]
        error, error_interval = self._error(own, self.weight)
        last_error, last_interval = self._error(last, self.weight)
        rise, rise_interval = self._rise(own, last)
        cost = self.costs[self.exits]
        bounds = self.costs[self.possible][0], self.costs[self.possible][-1]
        beside: dict[str, Any] = {}
        if plain is not None:
            value, interval = self._error(plain, self.weight)
            against, against_interval = self._rise(own, plain)
            beside = {
                "plain_error": value,
                "plain_error_interval": interval,
                "plain_rise": against,
                "plain_rise_interval": against_interval,
            }
        return RegressionOverall(
            n_samples=len(self.exits),
            error=error,
            error_interval=error_interval,
            last_error=last_error,
            last_error_interval=last_interval,
            rise=rise,
            rise_interval=rise_interval,
            explained=1.0 - float(np.average(own, weights=self.weight)),
            last_explained=1.0 - float(np.average(last, weights=self.weight)),
            mean_cost=float(np.average(cost, weights=self.weight)),
            mean_cost_interval=mean_interval(cost, *bounds, self.level, weight=self.weight),
            **beside,
        )

    def _rates(self, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weighted shares of hits (n_samples, n_exits), and their intervals."""
        share = np.average(hits, axis=0, weights=self.weight)
        n_rows = effective_rows(self.weight)
        return share, proportion_interval(share * n_rows, n_rows, self.level)

    def _error(self, losses: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray]:
        """Error for losses of some samples, and its interval; nan without samples."""
        if not len(losses):
            return float("nan"), np.full(2, np.nan)
        error = self.error_scale.error
        mean = float(np.average(losses, weights=weight))
        half = self._z * _deviation(losses, weight)
        return error(mean), np.array([error(max(mean - half, 0.0)), error(mean + half)])

    def _rise(self, losses: np.ndarray, others: np.ndarray) -> tuple[float, np.ndarray]:
        """Ratio of the errors for two losses of the same samples minus 1, and its interval."""
        mean, other = (float(np.average(each, weights=self.weight)) for each in (losses, others))
        if mean <= 0 or other <= 0:
            return float("nan"), np.full(2, np.nan)
        power = 0.5 if self.error_scale.is_root else 1.0
        # By the delta method, of the logarithm of the ratio.
        half = self._z * power * _deviation(losses / mean - others / other, self.weight)
        center = power * np.log(mean / other)
        return float(np.expm1(center)), np.expm1([center - half, center + half])

    @property
    def _z(self) -> float:
        return -float(ndtri(tail_of(self.level)))


def _deviation(values: np.ndarray, weight: np.ndarray) -> float:
    """Standard deviation of the weighted mean of values."""
    spread = np.average((values - np.average(values, weights=weight)) ** 2, weights=weight)
    return float(np.sqrt(spread / effective_rows(weight)))

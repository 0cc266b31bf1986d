"""Base class of cascades of estimators: what does not depend on what is predicted."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.ensemble._base import _BaseHeterogeneousEnsemble
from sklearn.utils._param_validation import HasMethods, Interval, RealNotInt, StrOptions
from sklearn.utils.validation import validate_data

from skearlyexit._base import BaseEarlyExit, remembered
from skearlyexit._cascade._cascade import Cascade
from skearlyexit._cascade._chain import FittedChain
from skearlyexit._data._given import GivenRows, given_rows
from skearlyexit._data._samples import Samples
from skearlyexit._fitting._chain_columns import chosen_columns
from skearlyexit._fitting._chain_fit import ChainModel, fit_chain
from skearlyexit._fitting._chain_fitter import ChainFitter
from skearlyexit._task._base import Task
from skearlyexit.calibration import Budget, OperatingPoint
from skearlyexit.combination import Combination
from skearlyexit.combination._registry import COMBINATIONS
from skearlyexit.costs import Cost
from skearlyexit.costs._registry import COSTS


class BaseCascade(BaseEarlyExit, _BaseHeterogeneousEnsemble):
    """Base class of estimators in a row, each of which is an exit."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "estimators": [list],
        "combine": [StrOptions(set(COMBINATIONS) - {"trained"}), Combination, None],
        "threshold": [Interval(Real, 0, None, closed="both"), "array-like", None],
        "budget": [Interval(Real, 0, None, closed="right"), Budget, None],
        "operating_point": [OperatingPoint, None],
        "cost": [StrOptions(set(COSTS)), Cost, "array-like"],
        "calibration": [
            Interval(RealNotInt, 0, 1, closed="neither"),
            Interval(Integral, 2, None, closed="left"),
            HasMethods(["split", "get_n_splits"]),
            StrOptions({"auto"}),
            None,
        ],
        "columns": [dict, None],
        "feature_costs": ["array-like", dict, None],
        "batch_invariant": ["boolean"],
        "n_jobs": [
            Interval(Integral, None, -1, closed="right"),
            Interval(Integral, 1, None, closed="left"),
            None,
        ],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    estimators: list[tuple[str, Any]]
    columns: dict[str, Any] | None
    n_jobs: int | None
    verbose: bool
    batch_invariant: bool
    cascade_: Cascade[FittedChain]

    @property
    def estimators_(self) -> list[Any]:
        """Fitted estimators."""
        return [each.model for each in self.cascade_.network.links]

    def _chain_fitter(
        self, names: list[str], estimators: list[Any], samples: Samples, task: Task
    ) -> ChainFitter:
        """Fitter of the estimators in use."""
        every = [name for name, _ in self.estimators]
        return ChainFitter(
            names,
            estimators,
            chosen_columns(self.columns, names, every, samples.X),
            task,
            self.n_jobs,
            bool(self.verbose),
            self.batch_invariant,
            type(self).__name__,
        )

    def _fit_chain(self, fitter: ChainFitter, samples: Samples, weight: np.ndarray | None) -> None:
        """Fit the estimators to samples, and set the fitted attributes."""
        model = fit_chain(self, fitter, samples, weight)
        self._set_fitted(model, fitter.names, fitter.task)

    def _estimators_in_use(self) -> tuple[list[str], list[Any]]:
        """Names and estimators, without those that were dropped."""
        pairs = [
            (name, each)
            for name, each in zip(*self._validate_estimators(), strict=True)
            if each != "drop"
        ]
        return [name for name, _ in pairs], [each for _, each in pairs]

    def _given(self, X: Any, y: Any) -> GivenRows:
        """Training samples as they are given."""
        rows = given_rows(X)
        for name in ("n_features_in_", "feature_names_in_"):
            # Of a fit before. Samples without a second axis do not set them.
            self.__dict__.pop(name, None)
        validate_data(self, X, y, skip_check_array=True)
        return rows

    def _validate_rows(self, X: Any) -> GivenRows:
        """Samples as they are given, whose features are those of `fit`."""
        if getattr(X, "ndim", 2) == 1 and hasattr(self, "n_features_in_"):
            raise ValueError(
                f"Expected 2D array, got 1D array instead, of {len(X)} values. Reshape your data "
                "with X.reshape(1, -1) if it is a single sample."
            )
        rows = given_rows(X)
        validate_data(self, X, reset=False, skip_check_array=True)
        return rows

    def _set_fitted(self, model: ChainModel, names: list[str], task: Task) -> None:
        """Set all fitted attributes at once."""
        point, cascade = model.point, model.cascade
        self.__dict__.update(
            **task.attributes(),
            _task=task,
            cascade_=cascade,
            n_exits_=cascade.n_exits,
            exit_names_=names,
            costs_=cascade.costs,
            cost_table_=cascade.cost_table,
            operating_point_=point,
            thresholds_=point.thresholds.copy(),
            frontier_=model.frontier,
            _recent_scores=remembered(model.scores),
            _candidates=None,
        )

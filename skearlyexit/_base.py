"""What the estimators share: parameters, the order of fitting, operating points."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from joblib import Memory
from sklearn.utils import Tags, check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, RealNotInt, StrOptions
from sklearn.utils.validation import check_is_fitted

from skearlyexit._data._encode import further_rows, labelled_rows
from skearlyexit._data._samples import Samples
from skearlyexit._data._splits import Split, calibration_splits
from skearlyexit._data._streamed import checked, in_precision, look_through
from skearlyexit._data._weights import scaled
from skearlyexit._exit_table import ExitTable, LabelTable
from skearlyexit._fitting._cascade_fitter import MAX_SEED, CascadeBuilder, Fit
from skearlyexit._fitting._exit_probe import ExitProbe, probing_split
from skearlyexit._fitting._exit_rule import HeldOutRows, decide, unlearned
from skearlyexit._fitting._spec import Recipe, RecipeMixin
from skearlyexit._operating import BaseOperated
from skearlyexit._utils._interrupts import quietly
from skearlyexit._utils._not_finite import ADVICE_IN_FIT, among_held_out, located
from skearlyexit.calibration import (
    CalibratedPoint,
    Evidence,
    Frontier,
    OperatingPoint,
)
from skearlyexit.combination import (
    COMBINATIONS,
    TRAINED,
    Combination,
)
from skearlyexit.costs import COSTS, Cost
from skearlyexit.placement import Placed, Placement, PlacementReport
from skearlyexit.policies import POLICIES, Policy
from skearlyexit.runtime import embed, outputs, tabulate
from skearlyexit.runtime._torch import label_table
from skearlyexit.training import (
    OPTIMIZERS,
    SCHEDULES,
    STRATEGIES,
    MultiExitNetwork,
    SeparateTraining,
    TrainingStrategy,
    to_main_memory,
)

_CROSS_FITTED = (
    "It holds for the models that were fitted without each fold, and for the final one only as far "
    "as it behaves like them."
)


class BaseEarlyExit(RecipeMixin, BaseOperated):
    """Base of the early-exit estimators."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "backbone": "no_validation",
        "exits": [Interval(Integral, 1, None, closed="left"), "array-like", Placement],
        "head": "no_validation",
        "training": [StrOptions(set(STRATEGIES)), TrainingStrategy, None],
        "policy": [StrOptions(set(POLICIES)), Policy, None],
        "combine": [StrOptions({*COMBINATIONS, TRAINED}), Combination, None],
        "temperature_scaling": ["boolean"],
        "threshold": [Interval(Real, 0, None, closed="both"), "array-like", None],
        "budget": [Interval(Real, 0, None, closed="right"), None],
        "operating_point": [OperatingPoint, None],
        "cost": [StrOptions(set(COSTS)), Cost],
        "calibration": [
            Interval(RealNotInt, 0, 1, closed="neither"),
            Interval(Integral, 2, None, closed="left"),
            HasMethods(["split", "get_n_splits"]),
            StrOptions({"auto"}),
            None,
        ],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "lr_schedule": [StrOptions(set(SCHEDULES))],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "optimizer": [StrOptions(set(OPTIMIZERS)), callable],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(RealNotInt, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
        "mixed_precision": ["boolean"],
        "compile": ["boolean", dict],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "device": [str],
        "dtype": [StrOptions({"float32", "float64"})],
        "memory": [str, os.PathLike, Memory, None],
        "n_jobs": [
            Interval(Integral, None, -1, closed="right"),
            Interval(Integral, 1, None, closed="left"),
            None,
        ],
        "callbacks": [list, tuple, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    # What `fit` sets, besides what scikit-learn itself does.
    exit_names_: list[str]
    placement_report_: PlacementReport
    history_: list[dict[str, Any]]

    # What a training that goes on starts from.
    _network: MultiExitNetwork
    _optimizer_state: dict[str, Any]
    _fitted_classes: np.ndarray
    _n_updates: int

    def __getstate__(self) -> dict[str, Any]:
        # Stored in main memory, as the cascade is, whatever it runs on.
        state = dict(super().__getstate__())
        if "cascade_" in state and state["cascade_"].device != "cpu":
            state["_network"] = copy.deepcopy(state["_network"]).to("cpu")
            state["_optimizer_state"] = to_main_memory(state["_optimizer_state"])
        return state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def set_params(self, **params: Any) -> Self:
        """Set parameters, and those of objects given as parameters.

        Parameters
        ----------
        **params : dict
            ``<parameter>__<own parameter>`` sets one of an object, such as ``backbone__width``.

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError
            If there is no such parameter, or no object that could have it.
        """
        own = self.get_params(deep=False)
        for key in params:
            name, nested, inner = key.partition("__")
            value = params.get(name, own.get(name))
            if nested and name in own and not hasattr(value, "set_params"):
                raise ValueError(
                    f"{key!r} sets {inner!r} of the object given as {name!r}, and that is "
                    f"{value!r}. Give an object first, such as "
                    f"{type(self).__name__}(backbone=MLPBackbone()) for parameters of a backbone."
                )
        return super().set_params(**params)

    @property
    def stages_(self) -> list[torch.nn.Module]:
        """Parts of the network between exits."""
        return list(self.cascade_.stages)

    @property
    def heads_(self) -> list[Any]:
        """Torch module or fitted scikit-learn estimator of each exit."""
        return [head.model for head in self.cascade_.heads]

    def _checked_rows(self, X: Any, y: Any, *, reset: bool = True) -> tuple[Any, np.ndarray]:
        """Samples, as an array or streamed, and labels to learn from."""
        X, y = labelled_rows(self, X, y, reset=reset)
        if reset:
            self._row_shape = X.shape[1:]
        else:
            self._check_shape(X)
        return X, y

    def _further_rows(self, X: Any, name: str) -> Any:
        """Samples for fit besides those to learn from, as they were given, of the same shape."""
        X = further_rows(self, X, name)
        self._check_shape(X)
        return X

    def _validate_rows(self, X: Any) -> Any:
        """Samples to answer, as an array of the dtype that the network reads or streamed."""
        return checked(self._numeric_rows(X), self.cascade_.check)

    def _numeric_rows(self, X: Any) -> Any:
        # In numpy's terms: of the rows, which may be wider than the network.
        dtype = np.float64 if self.cascade_.dtype == torch.float64 else np.float32
        if type(X) is np.ndarray and X.dtype.kind == "f" and X.shape[1:] == self._row_shape:
            # What the general checks find out in a tenth of a millisecond is plain here.
            rows, total = quietly(lambda: _cast_and_sum(X, dtype, self.dtype), "over", "invalid")
            if len(rows) and not hasattr(self, "feature_names_in_") and np.isfinite(total):
                return rows
        X = further_rows(self, X)
        self._check_shape(X)
        return in_precision(X, dtype)

    def _check_shape(self, X: Any) -> None:
        if X.shape[1:] != self._row_shape:
            raise ValueError(
                f"X has rows of shape {X.shape[1:]}, but {type(self).__name__} was fitted on rows "
                f"of shape {self._row_shape}."
            )

    def _fit_cascade(
        self,
        rows: Samples,
        classes: np.ndarray,
        calibration_weight: np.ndarray | None,
        validation: Samples | None,
    ) -> None:
        """Fit on validated rows, and set the fitted attributes once all has gone well."""
        scaled_weight = largest_weight = None
        if calibration_weight is not None:
            scaled_weight = scaled(calibration_weight)
            largest_weight = float(calibration_weight.max())
            calibration_weight = scaled_weight / scaled_weight.mean()
        request = self._requested_point()
        self._check_device()
        start = self._start(classes)
        rng = check_random_state(self.random_state)
        recipe = self._recipe(rows, classes, rng, None if start is None else self.cascade_.dtype)
        for notice in recipe.notices:
            warnings.warn(notice, UserWarning, stacklevel=5)
        rows = recipe.rows
        look_through(rows.unlabelled, recipe.plan.check, "X_unlabelled")
        if validation is not None:
            validation = validation.cast(rows.X.dtype)
            look_through(validation.X, recipe.plan.check, "X_val")
        builder, placed, splits, refit = self._prepare(
            recipe, classes, calibration_weight, validation, rng
        )
        if self.warm_start:
            self._check_warm(builder, splits, validation)
        n_exits = len(builder.heads)
        index = np.concatenate([np.arange(0), *(held for _, held in splits)])
        self._check_request(request, builder, n_exits, index, scaled_weight, largest_weight)
        seeds = rng.randint(MAX_SEED, size=len(splits) + 1)
        said: list[Any] = []
        # A decision that learns, or waits for the costs, needs what the heads say.
        fitted_later = builder.decision.needs_costs
        look: Callable[..., Any] = outputs if fitted_later else label_table
        for (train, held), seed in zip(splits, seeds[1:], strict=True):
            n_rows = len(rows) if refit else None
            fit = builder.fit(rows.take(train), validation, int(seed), n_rows=n_rows, start=start)
            cascade = fit.cascade
            held_rows = rows.take(held)
            with located(held_rows.positions, ADVICE_IN_FIT):
                said.append(look(cascade, held_rows.X))
        if refit:
            fit = builder.fit(rows, validation, int(seeds[0]), start=start)
            cascade = fit.cascade

        def costs() -> np.ndarray:
            return builder.untimed_costs(cascade, rows.X)

        table: ExitTable | LabelTable | None = None
        y = rows.y[index]
        weight = None if calibration_weight is None else calibration_weight[index]
        if splits and fitted_later:
            held_out = HeldOutRows(
                np.concatenate(said),
                y,
                weight,
                None if rows.weight is None else rows.weight[index],
                None if rows.groups is None else rows.groups[index],
            )
            folds = [len(part) for part in said]
            with among_held_out():
                cascade.decision, table, held_out = decide(
                    builder.decision, held_out, folds, costs, rng
                )
            y, weight = held_out.y, held_out.weight
        elif splits:
            table = LabelTable.concatenate(said)
        else:
            n_columns = len(classes) + builder.decision.gated
            cascade.decision = unlearned(builder.decision, costs, n_columns)
        cascade.cost_table = builder.cost_table(cascade, rows.X)
        evidence = None
        if table is not None:
            if weight is not None and scaled_weight is not None:
                weight = weight * scaled_weight.mean()
            evidence = Evidence.from_table(table, y, cascade.costs, weight, classes, largest_weight)
        point, frontier = self._operate(request, cascade, evidence)
        if point.certified and (refit or builder.decision.n_learned):
            point = replace(point, reason=f"{point.reason} {_CROSS_FITTED}")
        self._set_fitted(fit, builder, point, frontier, evidence)
        self.placement_report_ = placed.report

    def _start(self, classes: np.ndarray) -> MultiExitNetwork | None:
        """Network to go on with, if any."""
        if not (self.warm_start and hasattr(self, "_network")):
            return None
        if not np.array_equal(classes, self._fitted_classes):
            raise ValueError(
                "With warm_start=True y must hold the classes of the fit before, "
                f"{self._fitted_classes[:20].tolist()}. Got {classes[:20].tolist()}."
            )
        return self._network

    def _check_warm(
        self, builder: CascadeBuilder, splits: list[Split], validation: Samples | None
    ) -> None:
        """Refuse what needs rows that the network has not seen in a fit before."""
        if splits:
            raise ValueError(
                "With warm_start=True the network may have seen any row, so that none of them can "
                "be held out for thresholds. Give calibration=None, and call calibrate with other "
                f"rows. Got calibration={self.calibration!r}."
            )
        if (
            self.early_stopping
            and validation is None
            and not isinstance(self.random_state, Integral)
        ):
            raise ValueError(
                "With warm_start=True and early_stopping=True every fit has to hold out the same "
                "rows. Give X_val and y_val, or an integer for random_state. Got "
                f"random_state={self.random_state!r}."
            )
        if any(head.cross_fit for head in builder.heads):
            raise ValueError(
                "A head with cross_fit needs networks that have not seen the rows, and with "
                "warm_start=True they would fall behind the one that goes on. Give cross_fit=None."
            )

    def _prepare(
        self,
        recipe: Recipe,
        classes: np.ndarray,
        calibration_weight: np.ndarray | None,
        validation: Samples | None,
        rng: np.random.RandomState,
    ) -> tuple[CascadeBuilder, Placed, list[Split], bool]:
        """What fits cascades, with the exits placed, and the splits for calibration."""
        rows, placement = recipe.rows, recipe.placement
        strategy, decision = recipe.strategy, recipe.decision
        splits: list[Split] = []
        refit = True
        probe = None
        if placement.needs_probe:
            if isinstance(self.head, list | tuple):
                raise ValueError(
                    f"{type(placement).__name__} tries the same head at every place; the 'head' "
                    f"parameter of {type(self).__name__} must be a single one. Got "
                    f"{len(self.head)} instead."
                )
            if self.calibration is None:
                request, nothing = self._requested_point(), np.arange(0)
                alone = recipe.builder(recipe.plan.ends)
                self._check_request(request, alone, 2, nothing, None, None)
            if decision.policy.reads_gate:
                raise ValueError(
                    f"{type(placement).__name__} judges places by heads that are trained "
                    "separately, without gates to read. Give exits by number or name with "
                    f"{type(decision.policy).__name__}."
                )
            recipe.cost.check(None)
            splits, refit = calibration_splits(self.calibration, rows.y, rows.groups, rng)
            probing, splits = probing_split(rows, splits, refit, rng)
            separate = strategy if isinstance(strategy, SeparateTraining) else SeparateTraining()
            probe = ExitProbe(
                lambda ends: recipe.builder(ends, separate),
                rows,
                validation,
                calibration_weight,
                *probing,
                rng.randint(MAX_SEED),
            )
        placed = placement.place(recipe.plan.candidates, probe)
        recipe.cost.check(len(placed.ends))
        n_exits = 1 if strategy.drops_exits else len(placed.ends)
        if n_exits > 1:
            decision.combination.check(len(classes), n_exits)
        if probe is None and n_exits > 1:
            splits, refit = calibration_splits(self.calibration, rows.y, rows.groups, rng)
        if n_exits == 1:
            splits, refit = [], True
        return recipe.builder(placed.ends), placed, splits, refit

    def _set_fitted(
        self,
        fit: Fit,
        builder: CascadeBuilder,
        point: CalibratedPoint,
        frontier: Frontier | None,
        evidence: Evidence | None,
    ) -> None:
        cascade = fit.cascade
        self.cascade_ = cascade
        self.n_exits_ = cascade.n_exits
        self.exit_names_ = builder.plan.names
        self.history_ = fit.history
        self._network = fit.network
        self._optimizer_state = fit.optimizer_state or {}
        self._fitted_classes = builder.classes
        self._n_updates = 0
        self.costs_ = cascade.costs
        assert cascade.cost_table is not None
        self.cost_table_ = cascade.cost_table
        self._set_point(point, frontier, evidence)

    def exit_table(self, X: Any) -> ExitTable:
        """Outputs of every exit for every row, whether it would leave there or not.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        table : ExitTable
            Probabilities and scores. ``table.leave(thresholds)`` are the exits that `predict`
            gives; its labels are indices into `classes_`.
        """
        check_is_fitted(self)
        return tabulate(self.cascade_, self._validate_rows(X))

    def _label_table(self, X: Any) -> LabelTable:
        """Labels and scores of `exit_table`, without its memory."""
        check_is_fitted(self)
        return label_table(self.cascade_, self._validate_rows(X))

    def embed(self, X: Any, exit: int | str = -1) -> np.ndarray:
        """Embeddings that the head at an exit sees, after pooling.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        exit : int or str, default=-1
            Number of the exit, negative from the end, or its name.

        Returns
        -------
        embeddings : ndarray of shape (n_samples, n_embedding)

        Raises
        ------
        ValueError
            If there is no such exit.
        """
        check_is_fitted(self)
        if exit in self.exit_names_:
            index = self.exit_names_.index(exit)
        elif isinstance(exit, Integral) and -self.n_exits_ <= exit < self.n_exits_:
            index = int(exit) % self.n_exits_
        else:
            raise ValueError(
                f"'exit' must be one of {self.exit_names_}, or 0 to {self.n_exits_ - 1}, or "
                f"negative from the end; got {exit!r}."
            )
        cascade = self.cascade_
        return embed(
            cascade.stages,
            {index: cascade.heads[index].pooling},
            self._validate_rows(X),
            device=cascade.device,
            dtype=cascade.dtype,
            row_bytes=cascade.row_bytes,
        )[index]


def _cast_and_sum(X: np.ndarray, dtype: Any, of_sum: Any) -> tuple[np.ndarray, Any]:
    rows = X.astype(dtype, copy=False)
    return rows, rows.sum(dtype=of_sum)

"""What the estimators share: parameters, the order of fitting, operating points."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from joblib import Memory
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, RealNotInt, StrOptions
from sklearn.utils.validation import check_is_fitted, check_memory, validate_data

from skearlyexit._builder import MAX_SEED, CascadeBuilder, Rows
from skearlyexit._deciding import HeldOutRows, decide, unlearned
from skearlyexit._decision import PLAIN, Decision
from skearlyexit._operating import BaseOperated
from skearlyexit._plan import Plan
from skearlyexit._probe import ExitProbe, probing_split
from skearlyexit._splits import Split, calibration_splits
from skearlyexit._streamed import is_streamed, streamed
from skearlyexit._table import ExitTable
from skearlyexit.backbones import resolve_backbone
from skearlyexit.calibration import (
    Budget,
    CalibratedPoint,
    Evidence,
    Frontier,
    OperatingPoint,
    Threshold,
    check_budget,
)
from skearlyexit.cascade import Cascade
from skearlyexit.combination import (
    COMBINATIONS,
    Combination,
    TemperatureScaling,
    resolve_combination,
)
from skearlyexit.costs import COSTS, Cost, resolve_cost
from skearlyexit.heads import resolve_heads
from skearlyexit.placement import Placed, Placement, PlacementReport, resolve_placement
from skearlyexit.policies import POLICIES, Policy, resolve_policy
from skearlyexit.runtime import embed, outputs, tabulate
from skearlyexit.training import (
    OPTIMIZERS,
    SCHEDULES,
    STRATEGIES,
    SeparateTraining,
    TrainingMemory,
    TrainingStrategy,
    resolve_training,
)


class BaseEarlyExit(BaseOperated):
    """Base of the early-exit estimators."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "backbone": "no_validation",
        "exits": [Interval(Integral, 1, None, closed="left"), "array-like", Placement],
        "head": "no_validation",
        "training": [StrOptions(set(STRATEGIES)), TrainingStrategy, None],
        "policy": [StrOptions(set(POLICIES)), Policy, None],
        "combine": [StrOptions(set(COMBINATIONS)), Combination, None],
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
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "device": [str],
        "dtype": [StrOptions({"float32", "float64"})],
        "memory": [str, os.PathLike, Memory, None],
        "n_jobs": [Integral, None],
        "callbacks": [list, tuple, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    # What `fit` sets, besides what scikit-learn itself does.
    exit_names_: list[str]
    placement_report_: PlacementReport
    history_: list[dict[str, Any]]

    @property
    def stages_(self) -> list[torch.nn.Module]:
        """Parts of the network between exits."""
        return list(self.cascade_.stages)

    @property
    def heads_(self) -> list[Any]:
        """Torch module or fitted scikit-learn estimator of each exit."""
        return [head.model for head in self.cascade_.heads]

    def _validate_rows(self, X: Any) -> Any:
        """Rows as an array of the estimator's dtype or streamed, of the shape seen in fit."""
        if type(X) is np.ndarray and X.dtype.kind == "f" and not hasattr(self, "feature_names_in_"):
            # What the general checks find out in a tenth of a millisecond is plain here.
            with np.errstate(over="ignore", invalid="ignore"):
                rows = X.astype(self.dtype, copy=False)
                if len(rows) and rows.shape[1:] == self._row_shape and np.isfinite(rows.sum()):
                    return rows
        if is_streamed(X):
            X = streamed(X, self.dtype)
            validate_data(self, X, reset=False, skip_check_array=True)
        else:
            # What the dtype cannot hold becomes infinite, and is refused as that.
            with np.errstate(over="ignore", invalid="ignore"):
                X = validate_data(
                    self, X, reset=False, dtype=getattr(np, self.dtype), allow_nd=True
                )
        if X.shape[1:] != self._row_shape:
            raise ValueError(
                f"X has rows of shape {X.shape[1:]}, but {type(self).__name__} was fitted on rows "
                f"of shape {self._row_shape}."
            )
        return X

    def _check_device(self) -> None:
        try:
            torch.zeros(1, device=self.device).item()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise ValueError(
                f"The 'device' parameter of {type(self).__name__} must be a device of this "
                f"machine. Got {self.device!r} instead, which torch cannot use: {error}"
            ) from error

    def _fit_cascade(
        self,
        rows: Rows,
        classes: np.ndarray,
        calibration_weight: np.ndarray | None,
        validation: Rows | None,
    ) -> None:
        """Fit on validated rows, and set the fitted attributes once all has gone well."""
        request = self._requested_point()
        self._check_device()
        rng = check_random_state(self.random_state)
        builder, placed, splits, refit = self._prepare(
            rows, classes, calibration_weight, validation, rng
        )
        n_exits = len(placed.ends)
        by_hand = request.by_hand(n_exits) if isinstance(request, Threshold) else None
        n_held = sum(len(held) for _, held in splits)
        self._check_request(request, builder, n_exits, n_held)
        if isinstance(request, Budget) and request.unit == "share":
            check_budget(request.value, builder.least_cost())

        seeds = rng.randint(MAX_SEED, size=len(splits) + 1)
        said = []
        for (train, held), seed in zip(splits, seeds[1:], strict=True):
            n_rows = len(rows) if refit else None
            cascade, history = builder.fit(rows.take(train), validation, int(seed), n_rows=n_rows)
            said.append(outputs(cascade, rows.take(held).X))
        if refit:
            cascade, history = builder.fit(rows, validation, int(seeds[0]))

        def costs() -> np.ndarray:
            return builder.cost_table(cascade, rows.X, decided=False).cumulative

        table = held_out = None
        if splits:
            index = np.concatenate([held for _, held in splits])
            held_out = HeldOutRows(
                np.concatenate(said),
                rows.y[index],
                None if calibration_weight is None else calibration_weight[index],
                None if rows.weight is None else rows.weight[index],
                None if rows.groups is None else rows.groups[index],
            )
            folds = [len(part) for part in said]
            cascade.decision, table, held_out = decide(
                builder.decision, held_out, folds, costs, rng
            )
        else:
            cascade.decision = unlearned(builder.decision, costs, len(classes))
        cascade.cost_table = builder.cost_table(cascade, rows.X)
        evidence = None
        if table is not None and held_out is not None:
            evidence = Evidence.from_table(
                table, held_out.y, cascade.costs, held_out.weight, classes
            )
        point, frontier = self._operate(request, cascade, evidence, by_hand)
        self._set_fitted(cascade, builder.plan, point, frontier, evidence)
        self.history_ = history
        self.placement_report_ = placed.report

    def _prepare(
        self,
        rows: Rows,
        classes: np.ndarray,
        calibration_weight: np.ndarray | None,
        validation: Rows | None,
        rng: np.random.RandomState,
    ) -> tuple[CascadeBuilder, Placed, list[Split], bool]:
        """What fits cascades, with the exits placed, and the splits for calibration."""
        backbone = resolve_backbone(self.backbone, rows.X, len(classes))
        placement = resolve_placement(self.exits)
        cost = resolve_cost(self.cost)
        seed = rng.randint(MAX_SEED)
        decision = self._decision()
        decision.combination.check(len(classes))
        plan = Plan.measure(backbone, cost, rows.X, len(classes), seed, self.device)
        strategy = resolve_training(self.training)

        def make(ends: Sequence[int], training: TrainingStrategy) -> CascadeBuilder:
            return CascadeBuilder(
                backbone=backbone,
                plan=plan.placed(ends),
                cost=cost,
                heads=resolve_heads(self.head, len(ends)),
                keep_own_head=self.head is None,
                keep_given=strategy.keeps_given,
                training=training,
                decision=decision if len(ends) > 1 else PLAIN,
                classes=classes,
                trainer_options=self._trainer_options(),
                validation_fraction=self.validation_fraction if self.early_stopping else None,
                device=self.device,
                n_jobs=self.n_jobs,
            )

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
            cost.check(None)
            splits, refit = calibration_splits(self.calibration, rows.y, rows.groups, rng)
            probing, splits = probing_split(rows, splits, refit, rng)
            alone = strategy if isinstance(strategy, SeparateTraining) else SeparateTraining()
            probe = ExitProbe(
                lambda ends: make(ends, alone),
                rows,
                validation,
                calibration_weight,
                *probing,
                rng.randint(MAX_SEED),
            )
        placed = placement.place(plan.candidates, probe)
        cost.check(len(placed.ends))
        if probe is None and len(placed.ends) > 1:
            splits, refit = calibration_splits(self.calibration, rows.y, rows.groups, rng)
        if len(placed.ends) == 1:
            splits, refit = [], True
        return make(placed.ends, strategy), placed, splits, refit

    def _decision(self) -> Decision:
        return Decision(
            TemperatureScaling() if self.temperature_scaling else None,
            resolve_combination(self.combine),
            resolve_policy(self.policy),
        )

    def _trainer_options(self) -> dict[str, Any]:
        return {
            "max_epochs": self.max_epochs,
            "batch_size": self.batch_size,
            "lr": self.lr,
            "lr_schedule": self.lr_schedule,
            "optimizer": self.optimizer,
            "patience": self.n_iter_no_change if self.early_stopping else None,
            "callbacks": self.callbacks or (),
            "memory": self._training_memory(),
            "verbose": self.verbose,
        }

    def _training_memory(self) -> TrainingMemory | None:
        if self.memory is None:
            return None
        if self.random_state is None:
            warnings.warn(
                f"The 'memory' parameter of {type(self).__name__} has no effect with "
                "random_state=None, under which no two trainings are the same. Give an integer.",
                UserWarning,
                stacklevel=5,
            )
            return None
        path = isinstance(self.memory, str | os.PathLike)
        try:
            memory = check_memory(os.fspath(self.memory) if path else self.memory)
        except OSError as error:
            raise ValueError(
                f"The 'memory' parameter of {type(self).__name__} must be a folder that can be "
                f"written to. Got {self.memory!r} instead: {error}"
            ) from error
        return None if memory.store_backend is None else TrainingMemory(memory)

    def _set_fitted(
        self,
        cascade: Cascade,
        plan: Plan,
        point: CalibratedPoint,
        frontier: Frontier | None,
        evidence: Evidence | None,
    ) -> None:
        self.cascade_ = cascade
        self.n_exits_ = cascade.n_exits
        self.exit_names_ = plan.names
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

"""From the parameters of an estimator to what fits cascades."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from joblib import Memory
from sklearn.utils.validation import check_memory

from skearlyexit._cascade._exit_rule import PLAIN, Decision
from skearlyexit._data._samples import Samples
from skearlyexit._fitting._cascade_fitter import MAX_SEED, CascadeBuilder
from skearlyexit._fitting._measured_network import Plan
from skearlyexit._fitting._precision import is_exact, notice_of_rounding, rows_as_read
from skearlyexit.backbones import resolve_backbone
from skearlyexit.combination import (
    TRAINED,
    Combination,
    TemperatureScaling,
    resolve_combination,
)
from skearlyexit.costs import Cost, resolve_cost
from skearlyexit.heads import resolve_heads
from skearlyexit.placement import Placement, resolve_placement
from skearlyexit.policies import Policy, resolve_policy
from skearlyexit.training import (
    TrainingMemory,
    TrainingStrategy,
    check_mixed_precision,
    resolve_training,
)
from skearlyexit.training._callbacks import check_callbacks


@dataclass(frozen=True)
class Recipe:
    """What fits cascades, before it is known where exits stand.

    Attributes
    ----------
    rows : Samples
        What is learned from, in the precision in which the network reads it.
    plan : Plan
        The network, measured, with an exit at its end only.
    placement : Placement
    strategy : TrainingStrategy
    decision : Decision
        Not fitted.
    cost : Cost
    make : callable
        From blocks after which exits stand, and a strategy, to what fits cascades.
    notices : list of str
        What the user should know about how rows are read.
    """

    rows: Samples
    plan: Plan
    placement: Placement
    strategy: TrainingStrategy
    decision: Decision
    cost: Cost
    make: Callable[[Sequence[int], TrainingStrategy], CascadeBuilder]
    notices: list[str]

    def builder(
        self, ends: Sequence[int], strategy: TrainingStrategy | None = None
    ) -> CascadeBuilder:
        """What fits cascades with exits after these blocks, by another strategy if one is given."""
        return self.make(ends, self.strategy if strategy is None else strategy)


class RecipeMixin:
    """What an estimator makes of its parameters before it fits."""

    # Parameters of the estimators.
    backbone: Any
    exits: int | Sequence[int | str] | Placement
    head: Any
    training: str | TrainingStrategy | None
    policy: str | Policy | None
    combine: str | Combination | None
    temperature_scaling: bool
    cost: str | Cost
    max_epochs: int
    lr: float
    lr_schedule: str
    batch_size: int
    optimizer: str | Callable[..., torch.optim.Optimizer]
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    mixed_precision: bool
    compile: bool | dict[str, Any]
    device: str
    dtype: str
    memory: str | os.PathLike | Memory | None
    n_jobs: int | None
    callbacks: Sequence[Any] | None
    random_state: int | np.random.RandomState | None
    verbose: int

    def _recipe(
        self,
        given: Samples,
        classes: np.ndarray,
        rng: np.random.RandomState,
        before: torch.dtype | None = None,
    ) -> Recipe:
        """What fits cascades; `before` is the precision of rows for a network that goes on."""
        check_callbacks(self.callbacks, early_stopping=self.early_stopping)
        single = given.cast(self.dtype)
        backbone = resolve_backbone(self.backbone, single.X, len(classes))
        placement = resolve_placement(self.exits)
        cost = resolve_cost(self.cost)
        seed = rng.randint(MAX_SEED)
        strategy = resolve_training(self.training)
        decision = self._decision(strategy)
        plan = Plan.measure(backbone, cost, single.X, len(classes), seed, self.device)
        rows = rows_as_read(given, single, plan, backbone, len(classes), before)
        notices = [plan.notice]
        if plan.standardize is None and not is_exact(given, single):
            notices.append(notice_of_rounding(given.cast(np.float64).X))
        asks_training = self.combine is None or self.combine == TRAINED

        def make(ends: Sequence[int], training: TrainingStrategy) -> CascadeBuilder:
            heads = resolve_heads(self.head, len(ends), has_own=plan.has_head)
            kept = ends[-1:] if training.drops_exits else ends
            combined = asks_training and training.combines and len(kept) > 1
            if combined:
                training.check_combined([head.is_neural for head in heads])
            # Gates that nobody reads are not run.
            gated = training.has_gates and (combined or decision.policy.reads_gate)
            return CascadeBuilder(
                backbone=backbone,
                plan=plan.placed(kept),
                cost=cost,
                heads=heads[-len(kept) :],
                trained_plan=plan.placed(ends),
                trained_heads=heads,
                keep_given=strategy.keeps_given,
                training=training,
                combined=combined,
                decision=replace(decision, gated=gated) if len(kept) > 1 else PLAIN,
                classes=classes,
                trainer_options=self._trainer_options(),
                validation_fraction=self.validation_fraction if self.early_stopping else None,
                device=self.device,
                dtype=getattr(torch, self.dtype),
                n_jobs=self.n_jobs,
            )

        if self.memory is not None and self.random_state is None:
            notices.append(
                f"The 'memory' parameter of {type(self).__name__} has no effect with "
                "random_state=None, under which no two trainings are the same. Give an integer."
            )
        said = [notice for notice in notices if notice]
        return Recipe(rows, plan, placement, strategy, decision, cost, make, said)

    def _decision(self, strategy: TrainingStrategy) -> Decision:
        """Temperature, combination and policy, if there is what they need."""
        kind = type(strategy).__name__
        policy = resolve_policy(self.policy)
        if policy.reads_gate and not strategy.has_gates:
            raise ValueError(
                f"{type(policy).__name__} reads gates, which {kind} does not learn. Give "
                "training='gated', or another policy."
            )
        if self.combine == TRAINED and not strategy.combines:
            raise ValueError(
                "combine='trained' is what training has learned to make of the heads, and "
                f"{kind} learns nothing of the kind. Give training='combined', 'combiner' or "
                "'gated', or another 'combine'."
            )
        scaling = TemperatureScaling() if self.temperature_scaling else None
        combination = resolve_combination(self.combine)
        return Decision(scaling, combination, policy)

    def _check_device(self) -> None:
        default = torch.empty(0).device
        if default.type != "cpu":
            raise ValueError(
                f"torch's default device must be the CPU. Got {str(default)!r} instead. Call "
                "torch.set_default_device('cpu'), and give the 'device' parameter of "
                f"{type(self).__name__} instead."
            )
        try:
            torch.zeros(1, device=self.device).item()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise ValueError(
                f"The 'device' parameter of {type(self).__name__} must be a device of this "
                f"machine. Got {self.device!r} instead, which torch cannot use: {error}"
            ) from error
        if self.mixed_precision:
            check_mixed_precision(self.device, self.dtype)

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
            "mixed_precision": self.mixed_precision,
            "compiled": self.compile,
            "verbose": self.verbose,
        }

    def _training_memory(self) -> TrainingMemory | None:
        if self.memory is None:
            return None
        if self.random_state is None:
            return None  # no two trainings are the same
        path = isinstance(self.memory, str | os.PathLike)
        try:
            memory = check_memory(os.fspath(self.memory) if path else self.memory)
        except OSError as error:
            raise ValueError(
                f"The 'memory' parameter of {type(self).__name__} must be a folder that can be "
                f"written to. Got {self.memory!r} instead: {error}"
            ) from error
        return None if memory.store_backend is None else TrainingMemory(memory)

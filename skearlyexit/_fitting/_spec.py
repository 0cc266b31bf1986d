"""Validation of the parameters of an estimator, and the specification of its fit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_memory

from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._data._samples import Samples
from skearlyexit._fitting._cascade_fitter import CascadeFitter
from skearlyexit._fitting._exit_costs import ExitCosts
from skearlyexit._fitting._head_fitter import HeadFitter
from skearlyexit._fitting._measured_network import Exits, MeasuredNetwork
from skearlyexit._fitting._network_fitter import MAX_SEED, NetworkFitter
from skearlyexit._fitting._options import training_options
from skearlyexit._fitting._precision import is_exact, notice_of_rounding, rows_as_read
from skearlyexit._task._base import Task
from skearlyexit._utils._resolve import resolve
from skearlyexit.backbones import Backbone
from skearlyexit.backbones._resolve import resolve_backbone
from skearlyexit.combination._registry import COMBINATIONS, DEFAULT
from skearlyexit.costs import Cost
from skearlyexit.costs._registry import COSTS
from skearlyexit.heads._resolve import resolve_heads
from skearlyexit.placement import Placement
from skearlyexit.placement._resolve import resolve_placement
from skearlyexit.training import TrainingStrategy
from skearlyexit.training._acceleration import check_mixed_precision
from skearlyexit.training._callbacks import check_callbacks
from skearlyexit.training._memory import TrainingMemory
from skearlyexit.training._options import Execution
from skearlyexit.training._progress import FitProgress
from skearlyexit.training._registry import STRATEGIES


@dataclass(frozen=True)
class FitSpec:
    """Specification of a fit, before the exits are placed.

    Attributes
    ----------
    params : estimator
        Estimator with the parameters of `EarlyExitClassifier`.
    task : Task
        What is predicted.
    rows : Samples
        Samples in the precision of the inputs of the network.
    backbone : Backbone
        Backbone of the network.
    plan : MeasuredNetwork
        Measured network with the last exit only.
    placement : Placement
        Placement of the exits.
    strategy : TrainingStrategy
        Training strategy.
    exit_rule : ExitRule
        Exit rule, not fitted.
    cost : Cost
        Cost of the parts of the network.
    stops_early : bool
        Whether the training uses early stopping.
    partial : bool
        Whether further samples may follow.
    notices : list of str
        Warnings for the user.
    progress : FitProgress
        What shows the progress of all trainings.
    """

    params: Any
    task: Task
    rows: Samples
    backbone: Backbone
    plan: MeasuredNetwork
    placement: Placement
    strategy: TrainingStrategy
    exit_rule: ExitRule
    cost: Cost
    stops_early: bool
    partial: bool
    notices: list[str]
    progress: FitProgress

    def fitter(
        self, ends: Sequence[int], strategy: TrainingStrategy | None = None
    ) -> CascadeFitter:
        """Fitter of cascades with exits after these blocks, by another strategy if given."""
        params, plan, task = self.params, self.plan, self.task
        training = self.strategy if strategy is None else strategy
        self._check_learned(ends, training, for_trials=strategy is not None)
        heads = resolve_heads(
            params.head, len(ends), has_own=plan.has_head, estimator_type=task.estimator_type
        )
        remaining = training.remaining_exits(len(ends))
        exits = Exits(plan.placed([ends[i] for i in remaining]), [heads[i] for i in remaining])
        rule = ExitRule.plain(task.plain_policy(), task.kind)
        combination = None
        if len(remaining) > 1:
            # Of two exits, none can be skipped.
            rule = self.exit_rule if len(remaining) > 2 else replace(self.exit_rule, router=None)
            if strategy is None:
                neural = [head.is_neural for head in exits.heads]
                combination = rule.combination.of_training(training, task.n_outputs, neural)
        return CascadeFitter(
            exits=exits,
            networks=NetworkFitter(
                backbone=self.backbone,
                exits=Exits(plan.placed(ends), heads),
                training=training,
                keep_given=self.strategy.keeps_given,
                options=training_options(
                    params,
                    self.rows,
                    plan.facts,
                    task,
                    self.backbone,
                    stops=self.stops_early,
                    partial=self.partial,
                ),
                execution=Execution(
                    params.device, params.mixed_precision, params.compile, self.progress
                ),
                memory=_training_memory(params),
                task=task,
                dtype=getattr(torch, params.dtype),
            ),
            heads=HeadFitter(
                exits.heads,
                task,
                needs_probabilities=combination is not None or rule.needs_probabilities,
                row_bytes=plan.facts.row_bytes,
                device=params.device,
                n_jobs=params.n_jobs,
            ),
            costs=ExitCosts(self.cost, exits, task, params.runtime),
            exit_rule=rule,
            combination=combination,
            validation_fraction=params.validation_fraction if self.stops_early else None,
        )

    def _check_learned(
        self, ends: Sequence[int], training: TrainingStrategy, *, for_trials: bool
    ) -> None:
        """Raise a ValueError if weights would stay random that only an early exit trains."""
        if training.exits_train_stages:
            return
        for name in [self.plan.facts.names[end] for end in ends[:-1]]:
            if name not in self.plan.learned_with_exits:
                continue
            who, other = f"{type(training).__name__} trains", "another training"
            if for_trials:
                who = f"{type(self.placement).__name__} compares candidates with heads, but trains"
                other = "exits by number or name"
            raise ValueError(
                f"{who} no stages by early exits. With an exit after {name!r}, "
                f"{self.plan.learned_with_exits[name]}, or give {other}."
            )


def make_spec(
    params: Any,
    given: Samples,
    task: Task,
    rng: np.random.RandomState,
    input_dtype: torch.dtype | None = None,
    *,
    stops: bool,
    partial: bool = False,
) -> FitSpec:
    """Validate the parameters of an estimator, and make the specification of its fit.

    Parameters
    ----------
    params : estimator
        Estimator with the parameters of `EarlyExitClassifier`.
    given : Samples
        Samples in the precision given by the user.
    task : Task
        What is predicted.
    rng : RandomState
        Generator of random numbers.
    input_dtype : torch.dtype or None, default=None
        Precision of the inputs of the network from which the training starts, if any.
    stops : bool
        Whether the training uses early stopping.
    partial : bool, default=False
        Whether further samples may follow. None are held out for calibration then.

    Returns
    -------
    spec : FitSpec
        Specification of the fit.
    """
    check_device(params)
    check_callbacks(params.callbacks, early_stopping=stops)
    single = given.cast(params.dtype)
    backbone = resolve_backbone(params.backbone, single.X, task.n_outputs)
    placement = resolve_placement(params.exits)
    cost = resolve(params.cost, COSTS, "macs")
    seed = rng.randint(MAX_SEED)
    strategy = resolve(params.training, STRATEGIES, "distillation")
    n_held = 0
    if not partial and params.calibration is not None:
        share = params.calibration if isinstance(params.calibration, float) else 1.0
        n_held = round(share * len(given))
    exit_rule = _exit_rule(params, strategy, task, n_held)
    plan = MeasuredNetwork.measure(backbone, cost, single.X, task.n_outputs, seed, params.device)
    rows = rows_as_read(given, single, plan, backbone, task.n_outputs, input_dtype)
    notices = [plan.notice]
    if plan.standardize is None and not is_exact(given, single):
        notices.append(notice_of_rounding(given.cast(np.float64).X))
    if params.memory is not None and params.random_state is None:
        notices.append(
            f"The 'memory' parameter of {type(params).__name__} has no effect with "
            "random_state=None, since each training is then different. Give an integer."
        )
    said = [notice for notice in notices if notice]
    return FitSpec(
        params,
        task,
        rows,
        backbone,
        plan,
        placement,
        strategy,
        exit_rule,
        cost,
        stops,
        partial,
        said,
        FitProgress(params.verbose),
    )


def _exit_rule(params: Any, training: TrainingStrategy, task: Task, n_samples: int) -> ExitRule:
    """Exit rule, if the training learns the gates and the combination that it requires."""
    policy = resolve(params.policy, task.policies, task.default_policy(n_samples))
    combination = resolve(params.combine, COMBINATIONS, DEFAULT)
    for part in (training, policy, combination):
        task.check(part)
    obstacle = task.criterion(params).obstacle(training)
    if obstacle:
        raise ValueError(
            f"{type(training).__name__} cannot be used with loss={params.loss!r}: {obstacle}. Give "
            "another training or another loss."
        )
    router = task.router(params)
    exit_rule = ExitRule(task.scaling(params), combination, policy, task.kind, router)
    exit_rule.check_router()
    if exit_rule.gated_parts and not training.learns_gates:
        raise ValueError(
            f"{exit_rule.gated_parts[0]} needs gates, which {type(training).__name__} does not "
            "learn. Give training='gated', or another policy and combination."
        )
    # It raises an error if the training learns none, and it is required.
    learned = combination.of_training(training, n_classes=2, neural=[True])
    if router is not None and learned is not None:
        raise ValueError(
            f"{type(training).__name__} learns a combination of the outputs of all exits, and "
            f"{type(router).__name__} skips some of them. Give router=None, or another training."
        )
    return exit_rule


def check_device(params: Any) -> None:
    """Raise a ValueError unless the device is available and torch's default device is the CPU."""
    default = torch.empty(0).device
    if default.type != "cpu":
        raise ValueError(
            f"torch's default device must be the CPU. Got {str(default)!r} instead. Call "
            "torch.set_default_device('cpu'), and give the 'device' parameter of "
            f"{type(params).__name__} instead."
        )
    try:
        torch.zeros(1, device=params.device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"The 'device' parameter of {type(params).__name__} must be a device of this "
            f"machine. Got {params.device!r} instead, which torch cannot use: {error}"
        ) from error
    if params.mixed_precision:
        check_mixed_precision(params.device, params.dtype)


def _training_memory(params: Any) -> TrainingMemory | None:
    if params.memory is None:
        return None
    if params.random_state is None:
        return None  # each training is different
    path = isinstance(params.memory, str | os.PathLike)
    try:
        memory = check_memory(os.fspath(params.memory) if path else params.memory)
    except OSError as error:
        raise ValueError(
            f"The 'memory' parameter of {type(params).__name__} must be a folder that can be "
            f"written to. Got {params.memory!r} instead: {error}"
        ) from error
    return None if memory.store_backend is None else TrainingMemory(memory)

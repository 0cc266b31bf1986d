"""Fit of estimators in a row: training, calibration and choice of the thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from skearlyexit._cascade._cascade import Cascade
from skearlyexit._cascade._chain import FittedChain
from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._data._samples import Samples
from skearlyexit._data._splits import Split, calibration_splits
from skearlyexit._fitting._calibrating import calibration_data, fit_rule, found_at_exits
from skearlyexit._fitting._chain_columns import column_costs
from skearlyexit._fitting._chain_costs import ChainCosts, resolve_chain_cost
from skearlyexit._fitting._chain_fitter import ChainFitter
from skearlyexit._fitting._network_fitter import MAX_SEED
from skearlyexit._fitting._operating_point import (
    CalibrationWeights,
    check_request,
    choose_point,
    of_folds,
    requested_point,
)
from skearlyexit._task._base import Task
from skearlyexit._utils._resolve import resolve
from skearlyexit.calibration import CalibratedPoint, Frontier
from skearlyexit.combination import Combination
from skearlyexit.combination._registry import COMBINATIONS
from skearlyexit.runtime._onnx_chain import not_alone
from skearlyexit.runtime._onnx_parts import check_rule

#: Number of held-out groups from which the default policy may be one that is learned from them.
LEAST_GROUPS = 5


@dataclass(frozen=True)
class ChainModel:
    """Result of a fit, from which the attributes of the estimator are set.

    Attributes
    ----------
    cascade : Cascade
        Fitted estimators with exit rule and costs.
    point : CalibratedPoint
        Thresholds and their calibration.
    frontier : Frontier or None
        Pareto-optimal thresholds. None without calibration samples.
    scores : ndarray of shape (n_samples, n_exits)
        Scores of the calibration samples.
    """

    cascade: Cascade[FittedChain]
    point: CalibratedPoint
    frontier: Frontier | None
    scores: np.ndarray


def fit_chain(
    params: Any, fitter: ChainFitter, samples: Samples, weight: np.ndarray | None
) -> ChainModel:
    """Fit estimators in a row, and calibrate the thresholds.

    Parameters
    ----------
    params : estimator
        Estimator with the parameters of `CascadeClassifier`.
    fitter : ChainFitter
        Fits the estimators.
    samples : Samples
        Training and calibration samples, of which `X` is of type GivenRows.
    weight : ndarray of shape (n_samples,) or None
        Sample weights in the calibration.

    Returns
    -------
    model : ChainModel
        Fitted model.
    """
    task, n_exits = fitter.task, len(fitter.names)
    weights = CalibrationWeights.of(weight)
    samples = replace(samples, calibration_weight=weights.relative)
    request = requested_point(params)
    rng = check_random_state(params.random_state)
    # Before a random number is drawn. What a rule needs does not depend on the held-out samples.
    needed = _exit_rule(params, task, n_exits, 0)
    fitter.check(
        needs_probabilities=n_exits > 1 and needed.needs_probabilities,
        weighted=samples.weight is not None,
        routed=needed.router is not None,
    )
    columns = column_costs(params.feature_costs, fitter.columns, fitter.in_last, samples.X)
    if needed.router is not None and columns.any():
        raise ValueError(
            "A column is paid for at the first estimator that needs it, which a router may skip. "
            "Give router=None, or no 'feature_costs'."
        )
    costs = ChainCosts(
        resolve_chain_cost(params.cost, fitter.names, columns),
        fitter.names,
        task,
        fitter.in_last,
        columns,
        params.runtime,
    )
    least = costs.least()
    splits, refit = _splits(params.calibration, fitter, samples, rng)
    held = np.concatenate([np.arange(0), *(held for _, held in splits)])
    exit_rule = _exit_rule(params, task, n_exits, _n_to_learn_from(samples, held))
    check_request(
        request,
        costs.cost.unit_name,
        exit_rule,
        n_exits,
        held,
        samples,
        task,
        weights,
        holds_out=params.calibration is not None,
    )
    if params.runtime == "onnx":
        check_rule(exit_rule)
        if fitter.continuing:
            raise not_alone(fitter.continuing[0])
    if request is not None:
        request.fixed_thresholds(n_exits)
        request.check_costs(lambda: least)
    needs_probabilities = request is not None and request.needs_probabilities
    parts = [samples.take(train) for train, _ in splits] + ([samples] if refit else [])
    chains = fitter.fit(parts, samples.X, rng.randint(MAX_SEED, size=len(parts)))
    found = [
        found_at_exits(chain, exit_rule, samples.take(held), needs_probabilities)
        for chain, (_, held) in zip(chains, splits, strict=False)
    ]
    final = chains[-1]
    exit_rule, judged = fit_rule(
        exit_rule,
        samples,
        held,
        found,
        lambda: costs.untimed(final, samples.X, routed=needed.router is not None),
        task.n_outputs,
        rng,
    )
    cascade = costs.cascade(final, exit_rule, samples.X)
    data = None if judged is None else calibration_data(judged, cascade, weights, task)
    point, frontier = choose_point(
        request, cascade, data, task, holds_out=params.calibration is not None
    )
    if refit or exit_rule.n_learned:
        point = of_folds(point)
    scores = np.empty((0, n_exits)) if data is None else data.scores
    return ChainModel(cascade, point, frontier, scores)


def _splits(
    calibration: Any, fitter: ChainFitter, samples: Samples, rng: np.random.RandomState
) -> tuple[list[Split], bool]:
    """Splits as `calibration_splits`; all samples are held out if nothing is fitted."""
    if len(fitter.names) == 1 or calibration is None:
        return [], True
    if fitter.is_fitted:
        # Nothing is learned from any of the samples.
        return [(np.arange(0), np.arange(len(samples)))], False
    return calibration_splits(calibration, samples.strata, samples.groups, rng)


class _EachAlone:
    """Training of estimators that are fitted one by one, which learns no combination."""

    def combination(self, n_classes: int, neural: Sequence[bool]) -> Combination | None:
        return None


def _n_to_learn_from(samples: Samples, held: np.ndarray) -> int:
    """Number of held-out samples, or 0 if they are of too few groups to divide them."""
    if samples.groups is not None and len(np.unique(samples.groups[held])) < LEAST_GROUPS:
        return 0
    return len(held)


def _exit_rule(params: Any, task: Task, n_exits: int, n_samples: int) -> ExitRule:
    """Exit rule that the parameters ask for, which needs neither gates nor a joint training."""
    policy = resolve(params.policy, task.policies, task.default_policy(n_samples))
    combination = resolve(params.combine, COMBINATIONS, "own")
    for part in (policy, combination):
        task.check(part)
    router = task.router(params)
    exit_rule = ExitRule(task.scaling(params), combination, policy, task.kind, router)
    exit_rule.check_router()
    if n_exits == 2:  # of which none can be skipped
        exit_rule = replace(exit_rule, router=None)
    if exit_rule.gated_parts:
        raise ValueError(
            f"{exit_rule.gated_parts[0]} needs gates, which are learned with a network. Give "
            "another policy and combination for estimators in a row."
        )
    combination.of_training(
        _EachAlone(), task.n_outputs, [False] * n_exits
    )  # raises if it needs one
    if n_exits == 1:
        return ExitRule.plain(task.plain_policy(), task.kind)
    combination.check(task.n_outputs, n_exits)
    return exit_rule

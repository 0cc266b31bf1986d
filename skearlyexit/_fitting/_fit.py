"""From samples and parameters to a fitted model, step by step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state

from skearlyexit._cascade._cascade import Cascade, FittedNetwork
from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._data._samples import Samples
from skearlyexit._data._streamed import look_through
from skearlyexit._exit_table import LabelTable, Outputs
from skearlyexit._fitting._cascade_fitter import Fit
from skearlyexit._fitting._exit_rule import cross_fit, unlearned
from skearlyexit._fitting._network_fitter import MAX_SEED
from skearlyexit._fitting._operating_point import (
    CalibrationWeights,
    check_request,
    choose_point,
    of_folds,
    requested_point,
)
from skearlyexit._fitting._placing import Placed, place_exits
from skearlyexit._fitting._spec import make_spec
from skearlyexit._utils._not_finite import ADVICE_IN_FIT, among_held_out, located
from skearlyexit._utils._warnings import warn
from skearlyexit.calibration import CalibratedPoint, CalibrationData, Frontier
from skearlyexit.placement import PlacementReport
from skearlyexit.runtime._torch import label_table, outputs
from skearlyexit.training import MultiExitNetwork


@dataclass(frozen=True)
class FittedModel:
    """What a fit leaves to the estimator.

    Attributes
    ----------
    cascade : Cascade
    exit_names : list of str
    placement_report : PlacementReport
    history : list of dict
    trained : MultiExitNetwork
        The network as it was trained, to go on with.
    optimizer_state : dict
        To go on with, too; empty after a training from the beginning.
    point : CalibratedPoint
    frontier : Frontier or None
    scores : ndarray of shape (n_samples, n_exits)
        Of the calibration samples.
    """

    cascade: Cascade
    exit_names: list[str]
    placement_report: PlacementReport
    history: list[dict[str, Any]]
    trained: MultiExitNetwork
    optimizer_state: dict[str, Any]
    point: CalibratedPoint
    frontier: Frontier | None
    scores: np.ndarray

    @classmethod
    def of(
        cls,
        cascade: Cascade,
        fit: Fit,
        placed: Placed,
        point: CalibratedPoint,
        frontier: Frontier | None = None,
        scores: np.ndarray | None = None,
    ) -> FittedModel:
        """From what the steps of a fit give."""
        return cls(
            cascade,
            placed.fitter.exits.plan.names,
            placed.report,
            fit.history,
            fit.trained,
            fit.optimizer_state or {},
            point,
            frontier,
            np.empty((0, cascade.n_exits)) if scores is None else scores,
        )


def fit_model(
    params: Any,
    samples: Samples,
    classes: np.ndarray,
    weight: np.ndarray | None,
    validation: Samples | None,
    start: MultiExitNetwork | None = None,
    read_as: torch.dtype | None = None,
) -> FittedModel:
    """Fit a cascade, and calibrate its thresholds.

    Parameters
    ----------
    params : estimator
        With the parameters of `EarlyExitClassifier`.
    samples : Samples
    classes : ndarray of shape (n_classes,)
    weight : ndarray of shape (n_samples,) or None
        Weights in calibration.
    validation : Samples or None
        For early stopping, instead of a share of `samples`.
    start : MultiExitNetwork or None, default=None
        A network to go on with; it is copied.
    read_as : torch.dtype or None, default=None
        Precision in which that one has read samples.
    """
    weights = CalibrationWeights.of(weight)
    samples = replace(samples, calibration_weight=weights.relative)
    request = requested_point(params)
    rng = check_random_state(params.random_state)
    spec = make_spec(params, samples, classes, rng, read_as)
    for notice in spec.notices:
        warn(notice)
    samples = spec.rows
    look_through(samples.unlabeled, spec.plan.check, "X_unlabeled")
    if validation is not None:
        validation = validation.cast(samples.X.dtype)
        look_through(validation.X, spec.plan.check, "X_val")
    placed = place_exits(params, spec, classes, validation, rng)
    fitter = placed.fitter
    if params.warm_start:
        _check_warm(params, placed, validation)
    check_request(
        request,
        fitter,
        len(fitter.exits.heads),
        placed.held,
        weights,
        holds_out=params.calibration is not None,
    )
    if request is not None:
        request.fixed_thresholds(len(fitter.exits.heads))
        request.check_costs(fitter.least_cost)
    fit, found = _fit_networks(placed, samples, validation, start, rng)
    exit_rule, judged = _fit_rule(placed, fit.network, samples, found, rng)
    cost_table = fitter.costs.table(fit.network, exit_rule, samples.X)
    cascade = Cascade(fit.network, exit_rule, cost_table)
    evidence = None if judged is None else _evidence(judged, cascade, weights, classes)
    point, frontier = choose_point(request, cascade, evidence)
    if placed.refit or fitter.exit_rule.n_learned:
        point = of_folds(point)
    scores = None if evidence is None else evidence.scores
    return FittedModel.of(cascade, fit, placed, point, frontier, scores)


def _fit_networks(
    placed: Placed,
    samples: Samples,
    validation: Samples | None,
    start: MultiExitNetwork | None,
    rng: np.random.RandomState,
) -> tuple[Fit, list[Any]]:
    """The final network, and outputs or label tables of each split's calibration samples."""
    fitter = placed.fitter
    seeds = rng.randint(MAX_SEED, size=len(placed.splits) + 1)
    found: list[Any] = []
    for (train, held), seed in zip(placed.splits, seeds[1:], strict=True):
        n_rows = len(samples) if placed.refit else None
        part = samples.take(train)
        fit = fitter.fit(part, validation, int(seed), n_rows=n_rows, start=start)
        held_out = samples.take(held)
        with located(held_out.positions, ADVICE_IN_FIT):
            # A decision that learns, or waits for the costs, needs what the heads say.
            if fitter.exit_rule.needs_costs:
                found.append(outputs(fit.network, held_out.X))
            else:
                found.append(label_table(fit.network, fitter.exit_rule, held_out.X))
    if placed.refit:
        fit = fitter.fit(samples, validation, int(seeds[0]), start=start)
    return fit, found


def _fit_rule(
    placed: Placed,
    network: FittedNetwork,
    samples: Samples,
    found: list[Any],
    rng: np.random.RandomState,
) -> tuple[ExitRule, Samples | None]:
    """The fitted exit rule, and the calibration samples with an exit or label table."""
    exit_rule, held = placed.fitter.exit_rule, placed.held

    def costs() -> np.ndarray:
        return placed.fitter.costs.untimed(network, samples.X)

    if not found:
        return unlearned(exit_rule, costs, network.n_classes), None
    if not exit_rule.needs_costs:
        return exit_rule.copy(), samples.take(held, LabelTable.concatenate(found))
    held_out = samples.take(held, Outputs.concatenate(found))
    with among_held_out():
        return cross_fit(exit_rule, held_out, [len(part) for part in found], costs, rng)


def _evidence(
    judged: Samples, cascade: Cascade, weights: CalibrationWeights, classes: np.ndarray
) -> CalibrationData:
    weight = judged.calibration_weight
    if weight is not None and weights.scaled is not None:
        weight = weight * weights.scaled.mean()
    return CalibrationData.from_table(
        judged.X, judged.y, cascade.costs, weight, classes, weights.largest
    )


def _check_warm(params: Any, placed: Placed, validation: Samples | None) -> None:
    """Refuse what needs samples that the network has not seen in a fit before."""
    if placed.splits:
        raise ValueError(
            "With warm_start=True the network may have seen any row, so that none of them can "
            "be held out for thresholds. Give calibration=None, and call calibrate with other "
            f"rows. Got calibration={params.calibration!r}."
        )
    repeats = isinstance(params.random_state, Integral)
    if params.early_stopping and validation is None and not repeats:
        raise ValueError(
            "With warm_start=True and early_stopping=True every fit has to hold out the same "
            "rows. Give X_val and y_val, or an integer for random_state. Got "
            f"random_state={params.random_state!r}."
        )
    if any(head.cross_fit for head in placed.fitter.exits.heads):
        raise ValueError(
            "A head with cross_fit needs networks that have not seen the rows, and with "
            "warm_start=True they would fall behind the one that goes on. Give cross_fit=None."
        )

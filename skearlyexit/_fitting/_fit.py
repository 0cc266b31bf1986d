"""Fit of a model: training, calibration and choice of the thresholds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state

from skearlyexit._cascade._cascade import Cascade
from skearlyexit._data._samples import Samples
from skearlyexit._data._streamed import look_through
from skearlyexit._fitting._calibrating import calibration_data, fit_rule, found_at_exits
from skearlyexit._fitting._cascade_fitter import CascadeFitter, Fit
from skearlyexit._fitting._final_model import difference_from_folds
from skearlyexit._fitting._network_fitter import MAX_SEED
from skearlyexit._fitting._operating_point import (
    CalibrationWeights,
    check_request,
    choose_point,
    of_folds,
    requested_point,
    unlike_folds,
)
from skearlyexit._fitting._options import always_stops_early, stops_early
from skearlyexit._fitting._placing import PlacedFit, place_exits
from skearlyexit._fitting._spec import FitSpec, make_spec
from skearlyexit._task._base import Task
from skearlyexit._utils._not_finite import ADVICE_IN_FIT
from skearlyexit._utils._warnings import warn
from skearlyexit.calibration import CalibratedPoint, Frontier, OperatingPoint
from skearlyexit.costs import CostTable
from skearlyexit.placement import Candidates, PlacementReport
from skearlyexit.placement._cheaper import naming_candidates
from skearlyexit.runtime._onnx_parts import check_rule
from skearlyexit.runtime._torch import with_small_batches
from skearlyexit.training import MultiExitNetwork

#: Number of samples from which the final training continues that of the last fold. On seven tables
#: of 5,000, the network is as accurate as a new one (80.3 and 80.1 %), and the whole fit takes 14 %
#: less time. On twelve tables of at most 1,000, it is less accurate by 0.3 points.
CONTINUED_FROM = 2500


@dataclass(frozen=True)
class FittedModel:
    """Result of a fit, from which the attributes of the estimator are set.

    Attributes
    ----------
    cascade : Cascade
        Fitted network with its exit rule and costs.
    exit_names : list of str
        Name of each exit.
    placement_report : PlacementReport
        Candidates for exits, and the reasons for the choice.
    candidates : Candidates
        All candidates of the backbone.
    history : list of dict
        Entry of each epoch.
    trained : MultiExitNetwork
        Network with all exits and heads of the training, from which a training can continue.
    optimizer_state : dict
        State of the optimizer, with which `partial_fit` continues. Empty after `fit`.
    point : CalibratedPoint
        Thresholds and their calibration.
    frontier : Frontier or None
        Pareto-optimal thresholds. None without calibration samples.
    scores : ndarray of shape (n_samples, n_exits)
        Scores of the calibration samples.
    """

    cascade: Cascade
    exit_names: list[str]
    placement_report: PlacementReport
    candidates: Candidates
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
        placed: PlacedFit,
        point: CalibratedPoint,
        frontier: Frontier | None = None,
        scores: np.ndarray | None = None,
    ) -> FittedModel:
        """Make it from the results of the steps of a fit."""
        return cls(
            cascade,
            placed.fitter.exits.plan.names,
            placed.report,
            placed.candidates,
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
    task: Task,
    weight: np.ndarray | None,
    validation: Samples | None,
    start: MultiExitNetwork | None,
    input_dtype: torch.dtype | None,
    known: Candidates | None,
) -> FittedModel:
    """Fit a cascade, and calibrate its thresholds.

    Parameters
    ----------
    params : estimator
        Estimator with the parameters of `EarlyExitClassifier`.
    samples : Samples
        Training and calibration samples.
    task : Task
        What is predicted.
    weight : ndarray of shape (n_samples,) or None
        Sample weights in the calibration.
    validation : Samples or None
        Validation samples for early stopping. If None, a share of `samples` is used.
    start : MultiExitNetwork or None
        Trained network from which the training starts. It is copied.
    input_dtype : torch.dtype or None
        Precision of the inputs of this network.
    known : Candidates or None
        Candidates for exits of this network.

    Returns
    -------
    model : FittedModel
        Fitted model.
    """
    weights = CalibrationWeights.of(weight)
    samples = replace(samples, calibration_weight=weights.relative)
    request = requested_point(params)
    rng = check_random_state(params.random_state)
    stops = stops_early(params, samples, has_validation=validation is not None)
    spec = make_spec(params, samples, task, rng, input_dtype, stops=stops)
    for notice in spec.notices:
        warn(notice)
    look_through(spec.rows.unlabeled, spec.plan.check, "X_unlabeled")
    if validation is not None:
        validation = validation.cast(samples.X.dtype)
        look_through(validation.X, spec.plan.check, "X_val")
    with spec.progress:
        return _fit_spec(params, spec, weights, validation, start, request, rng, known)


def _fit_spec(
    params: Any,
    spec: FitSpec,
    weights: CalibrationWeights,
    validation: Samples | None,
    start: MultiExitNetwork | None,
    request: OperatingPoint | None,
    rng: np.random.RandomState,
    known: Candidates | None,
) -> FittedModel:
    """Place the exits, train the networks, fit the exit rule and choose the thresholds."""
    samples, task = spec.rows, spec.task
    placed = place_exits(params, spec, validation, rng, known)
    fitter = placed.fitter
    if params.warm_start:
        _check_warm(params, placed, validation)
    if params.runtime == "onnx":
        check_rule(fitter.exit_rule)
    check_request(
        request,
        spec.cost.unit_name,
        fitter.exit_rule,
        len(fitter.exits.heads),
        placed.held,
        samples,
        task,
        weights,
        holds_out=params.calibration is not None,
    )
    if request is not None:
        request.fixed_thresholds(len(fitter.exits.heads))
        _check_costs(request, fitter)
    needs_probabilities = request is not None and request.needs_probabilities
    fit, found = _fit_networks(placed, samples, validation, start, rng, needs_probabilities)
    exit_rule, judged = fit_rule(
        fitter.exit_rule,
        samples,
        placed.held,
        found,
        lambda: fitter.costs.untimed(fit.network, samples.X),
        fit.network.n_classes,
        rng,
    )
    network = with_small_batches(fit.network, samples.X)
    cascade = fitter.costs.cascade(network, exit_rule, samples.X)
    data = None if judged is None else calibration_data(judged, cascade, weights, task)
    with naming_candidates(spec.plan.candidates, lambda: cascade.cost_table):
        point, frontier = choose_point(
            request, cascade, data, task, holds_out=params.calibration is not None
        )
    if placed.refit and point.certified:
        assert judged is not None
        assert data is not None
        assert frontier is not None
        difference = difference_from_folds(cascade, samples, judged, data, weights, task)
        if difference:
            point = unlike_folds(point, request, difference, data, frontier)
    if placed.refit or fitter.exit_rule.n_learned:
        point = of_folds(point)
    scores = None if data is None else data.scores
    return FittedModel.of(cascade, fit, placed, point, frontier, scores)


def _check_costs(request: OperatingPoint, fitter: CascadeFitter) -> None:
    """Raise an error if it is known before training that a requested cost cannot be reached."""

    def costs() -> CostTable:
        least = fitter.least_costs()
        assert least is not None  # otherwise the lower bound is 0, and no budget is below it
        return least

    with naming_candidates(fitter.exits.plan.candidates, costs):
        request.check_costs(fitter.least_cost)


def _fit_networks(
    placed: PlacedFit,
    samples: Samples,
    validation: Samples | None,
    start: MultiExitNetwork | None,
    rng: np.random.RandomState,
    needs_probabilities: bool,
) -> tuple[Fit, list[Any]]:
    """Final network, and outputs or tables of the calibration samples of each split."""
    fitter = placed.fitter
    seeds = rng.randint(MAX_SEED, size=len(placed.splits) + 1)
    found: list[Any] = []
    networks, n_folds = fitter.networks, len(placed.splits)
    progress, max_epochs = networks.execution.progress, networks.options.max_epochs
    progress.expect(n_folds + placed.refit)
    for i, (train, held) in enumerate(placed.splits):
        # A fold trains for as many steps as the final network, if there is one.
        n_rows = len(samples) if placed.refit else None
        part, name = samples.take(train), f"fold {i + 1} of {n_folds}" if placed.refit else ""
        with progress.training(name, max_epochs):
            fit = fitter.fit(part, validation, int(seeds[i + 1]), n_rows=n_rows, start=start)
        held_out = samples.take(held)
        found.append(
            found_at_exits(
                fit.network, fitter.exit_rule, held_out, needs_probabilities, ADVICE_IN_FIT
            )
        )
    if placed.refit:
        with progress.training("final" if n_folds else "", max_epochs):
            if n_folds and len(samples) >= CONTINUED_FROM and fitter.can_continue(fit, samples):
                fit = _continued(fitter, fit, samples, validation, int(seeds[0]))
            else:
                fit = fitter.fit(samples, validation, int(seeds[0]), start=start)
    return fit, found


def _continued(
    fitter: CascadeFitter, fit: Fit, samples: Samples, validation: Samples | None, seed: int
) -> Fit:
    """Fit of all samples but the validation samples, which continues the training of a fold.

    This takes less time than to start again. The fit of the fold is returned if it has the lower
    validation loss, which can happen with few epochs, since the optimizer starts again.
    """
    if fit.validation is not None:
        validation = fit.validation
        others = ~np.isin(samples.positions, validation.positions)
        samples = samples.take(np.flatnonzero(others))
    continued = fitter.fit(samples, validation, seed, start=fit.trained)
    return continued if _least_loss(continued) <= _least_loss(fit) else fit


def _least_loss(fit: Fit) -> float:
    """Lowest validation loss in the last phase of a fit."""
    phase = fit.history[-1]["phase"]
    return min(epoch["valid_loss"] for epoch in fit.history if epoch["phase"] == phase)


def _check_warm(params: Any, placed: PlacedFit, validation: Samples | None) -> None:
    """Raise an error if samples are required on which the network was not trained before."""
    if placed.splits:
        raise ValueError(
            "With warm_start=True, the network may have been trained on any sample, so no samples "
            "can be held out to calibrate thresholds. Give calibration=None, and call calibrate "
            f"with other samples. Got calibration={params.calibration!r}."
        )
    repeats = isinstance(params.random_state, Integral)
    if always_stops_early(params) and validation is None and not repeats:
        raise ValueError(
            "With warm_start=True and early_stopping=True, every fit has to hold out the same "
            "samples. Give X_val and y_val, or an integer for random_state. Got "
            f"random_state={params.random_state!r}."
        )
    if any(head.cross_fit for head in placed.fitter.exits.heads):
        raise ValueError(
            "A head with cross_fit needs networks that were not trained on all samples, which "
            "warm_start=True does not support. Give cross_fit=None."
        )

"""Incremental training on batches of samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state

from skearlyexit._data._samples import Samples
from skearlyexit._fitting._cross_fit import fit_to_costs
from skearlyexit._fitting._fit import FittedModel
from skearlyexit._fitting._network_fitter import MAX_SEED
from skearlyexit._fitting._operating_point import requested_point
from skearlyexit._fitting._options import always_stops_early
from skearlyexit._fitting._placing import PlacedFit, known_candidates
from skearlyexit._fitting._spec import make_spec
from skearlyexit._task._base import Task
from skearlyexit._utils._resolve import resolve
from skearlyexit._utils._warnings import warn
from skearlyexit.calibration import CalibratedPoint
from skearlyexit.calibration._base import no_early_exits
from skearlyexit.combination._registry import COMBINATIONS, DEFAULT
from skearlyexit.costs._compose import RoutedCosts
from skearlyexit.heads._resolve import resolve_head
from skearlyexit.placement import Candidates
from skearlyexit.placement._resolve import resolve_placement
from skearlyexit.training import MultiExitNetwork
from skearlyexit.training._registry import STRATEGIES

#: Learning rate after a fit, as a share of `lr`. By default, the fitted weights are a mean of those
#: of many steps. Where a fit had 3,300 samples, a pass over 1,700 further ones at the full rate
#: lowered the accuracy by 1 to 5 points on five tables, and did not at a tenth of it. The full rate
#: is the better one where the further samples are more than those of the fit.
AFTER_FIT = 0.1

_REASON = (
    "The network was trained after the last calibration, if any. Call calibrate(X, y) to choose "
    "thresholds."
)


@dataclass(frozen=True)
class UpdateState:
    """State of an incremental training.

    Attributes
    ----------
    network : MultiExitNetwork
        Trained network.
    optimizer_state : dict
        State of its optimizer.
    n_updates : int
        Number of passes since the last fit.
    had_fit : bool
        Whether there was a fit before these passes.
    dtype : torch.dtype
        Precision of the inputs of the network.
    candidates : Candidates or None
        Candidates for its exits.
    """

    network: MultiExitNetwork
    optimizer_state: dict[str, Any]
    n_updates: int
    had_fit: bool
    dtype: torch.dtype
    candidates: Candidates | None


def check_goes_on(params: Any) -> None:
    """Raise an AttributeError with the reason if the parameters do not support `partial_fit`."""
    kind = params._task_class
    training = resolve(params.training, STRATEGIES, "distillation")
    heads = params.head if isinstance(params.head, list | tuple) else [params.head]
    learned = [
        type(part).__name__
        for part in (
            resolve(params.combine, COMBINATIONS, DEFAULT),
            resolve(params.policy, kind.policies, kind.default_policy(0)),
        )
        if part.is_learned
    ]
    learned += ["temperature_scaling"] if kind.scaling(params) else []
    learned += ["router"] if kind.router(params) is not None else []
    needs = ""
    if training.obstacle_to_update():
        needs = training.obstacle_to_update()
    elif not all(resolve_head(head, kind.estimator_type).is_neural for head in heads):
        needs = "scikit-learn heads are fitted to all samples together"
    elif learned:
        needs = f"held-out samples are required by {' and '.join(learned)}"
    elif resolve_placement(params.exits).needs_probe:
        needs = f"{type(params.exits).__name__} chooses exits by held-out samples"
    elif always_stops_early(params):
        needs = "early_stopping=True holds samples out"
    else:
        needs = kind.needs_all_samples(params)
    if needs:
        raise AttributeError(
            f"partial_fit makes one pass over a part of the samples, but {needs}. Use fit, or "
            "other parameters."
        )


def update_model(
    params: Any, samples: Samples, task: Task, before: UpdateState | None
) -> FittedModel:
    """Train a network by one pass over samples.

    Parameters
    ----------
    params : estimator
        Estimator with the parameters of `EarlyExitClassifier`.
    samples : Samples
        Training samples.
    task : Task
        What is predicted.
    before : UpdateState or None
        State from which the training continues. None starts with a new network.

    Returns
    -------
    model : FittedModel
        Fitted model, which is not calibrated.
    """
    request = requested_point(params)
    rng = check_random_state(params.random_state)
    input_dtype = before.dtype if before else None
    spec = make_spec(params, samples, task, rng, input_dtype, stops=False, partial=True)
    samples = spec.rows
    for notice in [] if before else spec.notices:
        warn(notice)
    candidates = known_candidates(spec, before.candidates if before else None)
    found = spec.placement.place(candidates, None)
    spec.cost.check(len(found.ends))
    placed = PlacedFit(spec.fitter(found.ends), candidates, found.report, [], refit=True)
    fitter = placed.fitter
    n_exits = len(fitter.exits.heads)
    if n_exits > 1:
        fitter.exit_rule.combination.check(task.n_outputs, n_exits)
    fixed = no_early_exits(n_exits) if request is None else request.fixed_thresholds(n_exits)
    # Each pass has a different seed, even if random_state is an integer.
    n_before = before.n_updates if before else 0
    seed = np.random.SeedSequence([rng.randint(MAX_SEED), n_before]).generate_state(1)[0]
    start, state = (before.network, before.optimizer_state) if before else (None, {})
    rate = AFTER_FIT if before and before.had_fit else 1.0
    fit = fitter.update(samples, int(seed % MAX_SEED), start, state, rate)
    network = fit.network

    def costs() -> RoutedCosts:
        return fitter.costs.untimed(network, samples.X)

    exit_rule = fit_to_costs(fitter.exit_rule, costs, task.n_outputs)
    cascade = fitter.costs.cascade(network, exit_rule, samples.X)
    return FittedModel.of(cascade, fit, placed, CalibratedPoint(request, fixed, reason=_REASON))

"""Training that goes on with samples as they come in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state

from skearlyexit._cascade._cascade import Cascade
from skearlyexit._data._samples import Samples
from skearlyexit._fitting._exit_rule import unlearned
from skearlyexit._fitting._fit import FittedModel
from skearlyexit._fitting._network_fitter import MAX_SEED
from skearlyexit._fitting._operating_point import requested_point
from skearlyexit._fitting._placing import Placed
from skearlyexit._fitting._spec import make_spec
from skearlyexit._utils._resolve import resolve
from skearlyexit._utils._warnings import warn
from skearlyexit.calibration import CalibratedPoint
from skearlyexit.calibration._base import no_early_exits
from skearlyexit.combination._registry import COMBINATIONS, DEFAULT
from skearlyexit.heads._resolve import resolve_head
from skearlyexit.placement._resolve import resolve_placement
from skearlyexit.policies._registry import POLICIES
from skearlyexit.training import MultiExitNetwork
from skearlyexit.training._registry import STRATEGIES

_REASON = (
    "Trained on since the last calibration, if there was one; calibrate(X, y) finds thresholds."
)


@dataclass(frozen=True)
class Standing:
    """Where a training that goes on stands.

    Attributes
    ----------
    network : MultiExitNetwork
    optimizer_state : dict
    n_updates : int
        Passes since the last fit.
    dtype : torch.dtype
        Precision in which the network has read samples.
    """

    network: MultiExitNetwork
    optimizer_state: dict[str, Any]
    n_updates: int
    dtype: torch.dtype


def check_goes_on(params: Any) -> None:
    """Raise an error that says why not, unless its parameters allow for rows as they come."""
    training = resolve(params.training, STRATEGIES, "distillation")
    heads = params.head if isinstance(params.head, list | tuple) else [params.head]
    learned = [
        type(part).__name__
        for part in (
            resolve(params.combine, COMBINATIONS, DEFAULT),
            resolve(params.policy, POLICIES, "confidence"),
        )
        if part.is_learned
    ]
    learned += ["temperatures"] if params.temperature_scaling else []
    needs = ""
    if training.obstacle_to_update():
        needs = training.obstacle_to_update()
    elif not all(resolve_head(head).is_neural for head in heads):
        needs = "scikit-learn heads are fitted on all rows at once"
    elif learned:
        needs = f"held-out rows are learned from by {' and '.join(learned)}"
    elif resolve_placement(params.exits).needs_probe:
        needs = f"{type(params.exits).__name__} judges places by held-out rows"
    elif params.early_stopping:
        needs = "early_stopping=True holds rows out"
    elif params.class_weight == "balanced":
        needs = "class_weight='balanced' counts the rows of each class"
    if needs:
        raise AttributeError(
            f"partial_fit makes one pass over rows as they come, and {needs}. Use fit, or other "
            "parameters."
        )


def update_model(
    params: Any, samples: Samples, classes: np.ndarray, standing: Standing | None
) -> FittedModel:
    """Make one pass over samples.

    Parameters
    ----------
    params : estimator
        With the parameters of `EarlyExitClassifier`.
    samples : Samples
    classes : ndarray of shape (n_classes,)
    standing : Standing or None
        None begins with a new network.
    """
    request = requested_point(params)
    rng = check_random_state(params.random_state)
    read_as = standing.dtype if standing else None
    spec = make_spec(params, samples, classes, rng, read_as)
    samples = spec.rows
    for notice in [] if standing else spec.notices:
        warn(notice)
    found = spec.placement.place(spec.plan.candidates, None)
    spec.cost.check(len(found.ends))
    placed = Placed(spec.fitter(found.ends), found.report, [], refit=True)
    fitter = placed.fitter
    n_exits = len(fitter.exits.heads)
    if n_exits > 1:
        fitter.exit_rule.combination.check(len(classes), n_exits)
    fixed = no_early_exits(n_exits) if request is None else request.fixed_thresholds(n_exits)
    # Every pass has a seed of its own, also where random_state is a number.
    n_before = standing.n_updates if standing else 0
    seed = np.random.SeedSequence([rng.randint(MAX_SEED), n_before]).generate_state(1)[0]
    start, state = (standing.network, standing.optimizer_state) if standing else (None, {})
    fit = fitter.update(samples, int(seed % MAX_SEED), start, state)
    network = fit.network

    def costs() -> np.ndarray:
        return fitter.costs.untimed(network, samples.X)

    exit_rule = unlearned(fitter.exit_rule, costs, len(classes))
    cascade = Cascade(network, exit_rule, fitter.costs.table(network, exit_rule, samples.X))
    return FittedModel.of(cascade, fit, placed, CalibratedPoint(request, fixed, reason=_REASON))

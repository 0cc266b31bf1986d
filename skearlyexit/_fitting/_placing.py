"""Placement of the exits, and choice of the calibration samples."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skearlyexit._data._samples import Samples
from skearlyexit._data._splits import Split, calibration_splits
from skearlyexit._fitting._cascade_fitter import CascadeFitter
from skearlyexit._fitting._exit_probe import ExitProbe, probing_split
from skearlyexit._fitting._network_fitter import MAX_SEED
from skearlyexit._fitting._operating_point import (
    CalibrationWeights,
    check_request,
    requested_point,
)
from skearlyexit._fitting._spec import FitSpec
from skearlyexit.placement import Candidates, PlacementReport
from skearlyexit.training import SeparateTraining


@dataclass(frozen=True)
class PlacedFit:
    """Exits that are placed, and splits for the calibration.

    Attributes
    ----------
    fitter : CascadeFitter
        Fits cascades with these exits.
    candidates : Candidates
        Candidates for exits.
    report : PlacementReport
        Candidates that were considered, and the reasons for the choice.
    splits : list of (train, held)
        Indices of training and calibration samples. Empty without calibration.
    refit : bool
        Whether the final model is fitted to all samples after the splits.
    """

    fitter: CascadeFitter
    candidates: Candidates
    report: PlacementReport
    splits: list[Split]
    refit: bool

    @property
    def held(self) -> np.ndarray:
        """Indices of all calibration samples, split by split."""
        return np.concatenate([np.arange(0), *(held for _, held in self.splits)])


def place_exits(
    params: Any,
    spec: FitSpec,
    validation: Samples | None,
    rng: np.random.RandomState,
    known: Candidates | None,
) -> PlacedFit:
    """Choose the exits, by training heads at all candidates if the placement requires it."""
    samples, placement = spec.rows, spec.placement
    splits: list[Split] = []
    refit = True
    probe = None
    if placement.needs_probe:
        _check_probe(params, spec)
        splits, refit = calibration_splits(params.calibration, samples.strata, samples.groups, rng)
        probing, splits = probing_split(samples, splits, rng)
        for_trials = spec.strategy.for_trials() or SeparateTraining()
        probe = ExitProbe(
            lambda ends: spec.fitter(ends, for_trials),
            samples,
            validation,
            *probing,
            rng.randint(MAX_SEED),
        )
    candidates = known_candidates(spec, known)
    with spec.progress.training("placement", 0) if probe else nullcontext():
        placed = placement.place(candidates, probe)
    spec.cost.check(len(placed.ends))
    n_exits = len(spec.strategy.remaining_exits(len(placed.ends)))
    if n_exits > 1:
        spec.exit_rule.combination.check(spec.task.n_outputs, n_exits)
    if probe is None and n_exits > 1:
        splits, refit = calibration_splits(params.calibration, samples.strata, samples.groups, rng)
    if n_exits == 1:
        splits, refit = [], True
    return PlacedFit(spec.fitter(placed.ends), candidates, placed.report, splits, refit)


def known_candidates(spec: FitSpec, known: Candidates | None) -> Candidates:
    """Candidates for exits, with the costs of the fit that is continued, if any.

    Times that are measured anew would place the exits elsewhere now and then.
    """
    candidates = spec.plan.candidates
    if known is None or known.names != candidates.names:
        return candidates
    return replace(candidates, costs=known.costs)


def _check_probe(params: Any, spec: FitSpec) -> None:
    """Raise a ValueError if heads cannot be trained at all candidates."""
    kind = type(spec.placement).__name__
    spec.task.check(spec.placement)
    if isinstance(params.head, list | tuple):
        raise ValueError(
            f"{kind} trains the same head at every candidate; the 'head' parameter of "
            f"{type(params).__name__} must be a single one. Got {len(params.head)} instead."
        )
    if params.calibration is None:
        check_request(
            requested_point(params),
            spec.cost.unit_name,
            spec.exit_rule,
            2,  # or more: their number is not known yet
            np.arange(0),
            spec.rows,
            spec.task,
            CalibrationWeights(),
            holds_out=False,
        )
    if spec.exit_rule.gated_parts:
        raise ValueError(
            f"{kind} evaluates candidates with heads that are trained separately and have no "
            f"gates. Give exits by number or name with {spec.exit_rule.gated_parts[0]}."
        )
    spec.cost.check(None)

"""From the outputs for held-out samples to a fitted exit rule and calibration data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from skearlyexit._cascade._cascade import Cascade, FittedExits
from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._data._samples import Samples
from skearlyexit._exit_table import ExitTable, LabelTable, Outputs, PredictionTable
from skearlyexit._fitting._cross_fit import cross_fit, fit_to_costs
from skearlyexit._fitting._operating_point import CalibrationWeights
from skearlyexit._task._base import Task
from skearlyexit._utils._not_finite import among_held_out, located
from skearlyexit.calibration import CalibrationData
from skearlyexit.costs._compose import RoutedCosts
from skearlyexit.runtime._driver import label_table, outputs

#: What is kept of the outputs for held-out samples.
Found = Outputs | ExitTable | LabelTable | PredictionTable


def found_at_exits(
    network: FittedExits,
    exit_rule: ExitRule,
    held_out: Samples,
    needs_probabilities: bool,
    advice: str | None = None,
) -> Found:
    """Outputs of all exits for held-out samples, or as little of them as calibration requires.

    Parameters
    ----------
    network : FittedExits
        Network or estimators that were not fitted on these samples.
    exit_rule : ExitRule
        Exit rule, not fitted.
    held_out : Samples
        Held-out samples.
    needs_probabilities : bool
        Whether the operating point requires probabilities.
    advice : str or None, default=None
        End of the message of an error for outputs that are not valid. None is that of prediction.

    Returns
    -------
    found : Outputs, ExitTable, LabelTable or PredictionTable
        Outputs if the exit rule is still to be fitted, and otherwise a table.
    """
    with located(held_out.positions, advice):
        # An exit rule that is fitted, to samples or costs, requires the outputs of the heads.
        if exit_rule.needs_fit:
            return outputs(network, held_out.X)
        if needs_probabilities:
            return exit_rule.tabulate(outputs(network, held_out.X))
        return label_table(network, exit_rule, held_out.X)


def fit_rule(
    exit_rule: ExitRule,
    samples: Samples,
    held: np.ndarray,
    found: list,
    costs: Callable[[], RoutedCosts],
    n_classes: int,
    rng: np.random.RandomState,
) -> tuple[ExitRule, Samples | None]:
    """Fit an exit rule.

    Parameters
    ----------
    exit_rule : ExitRule
        Exit rule, not fitted.
    samples : Samples
        All samples.
    held : ndarray of int
        Indices of the held-out samples of all splits, in their order.
    found : list of Outputs, ExitTable, LabelTable or PredictionTable
        Results of `found_at_exits` for each split.
    costs : callable
        Function without arguments that returns the costs of the exits, without the cost of the exit
        rule. It is called only if they are required.
    n_classes : int
        Number of classes, or of targets in regression.
    rng : RandomState
        Generator of random numbers.

    Returns
    -------
    exit_rule : ExitRule
        Fitted exit rule.
    judged : Samples or None
        Calibration samples with an exit table or label table. None if there are none.
    """
    if not found:
        return fit_to_costs(exit_rule, costs, n_classes), None
    if not exit_rule.needs_fit:
        return exit_rule.copy(), samples.take(held, type(found[0]).concatenate(found))
    held_out = samples.take(held, Outputs.concatenate(found))
    with among_held_out():
        return cross_fit(exit_rule, held_out, [len(part) for part in found], costs, rng)


def calibration_data(
    judged: Samples, cascade: Cascade, weights: CalibrationWeights, task: Task
) -> CalibrationData:
    """Calibration data of samples with a table, in the scale of the weights given by the user."""
    weight = judged.calibration_weight
    # Calibration takes the scaled weights, and exit rules learn with relative ones.
    if weight is not None and weights.scaled is not None:
        weight = weight * weights.scaled.mean()
    table, savings = judged.X, cascade.exit_rule.savings
    if table.routing is not None:
        # The costs were measured after the router was fitted.
        table = replace(table, routing=replace(table.routing, savings=savings))
    return task.calibration_data(
        table, judged.y, cascade.costs, weight, weights.largest, judged.groups
    )

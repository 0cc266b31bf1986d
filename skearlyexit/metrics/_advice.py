"""Sentences of advice in a report."""

from __future__ import annotations

from typing import Any

import numpy as np

from skearlyexit.calibration import Budget
from skearlyexit.calibration._frontier import ROUNDING
from skearlyexit.metrics._figures import Outcomes
from skearlyexit.metrics._intervals import mean_interval
from skearlyexit.placement._cheaper import cheapest_exit

#: Gain in accuracy up to which later exits count as useless, the default level of `RiskControl`.
MARGIN = 0.01
#: Loss of accuracy of a class from which on this is said.
LOST = 0.05
#: Share of a budget that is left unused from which on this is said.
UNUSED = 0.1


def on_exits(outcomes: Outcomes, names: list[str]) -> list[str]:
    """Advise to cut the model where nothing is gained behind an exit.

    For each exit, from the last but one to the first, it is tested that neither any later exit
    alone nor the model as it runs gains more than `MARGIN` over this exit. All these paired
    differences have to be below it, so that each can be tested at the confidence level of the
    report. The exits are tested in an order that is fixed, up to the first that fails, so that no
    correction for their number is needed. A gain that is certain, if small, forbids the advice.

    Parameters
    ----------
    outcomes : Outcomes
    names : list of str
        Names of the exits.

    References
    ----------
    Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 1982, for the
    test that all differences are small.

    Maurer, Hothorn, Lehmacher, "Multiple comparisons in drug clinical trials and preclinical
    assays: a-priori ordered hypotheses", 1995, for the fixed order.
    """
    correct, exits, weight = outcomes.correct, outcomes.exits, outcomes.weight
    samples, last = np.arange(len(correct)), correct.shape[1] - 1
    found = None
    for exit_ in reversed(range(last)):
        here = correct[:, exit_].astype(np.float64)
        stopped = correct[samples, np.minimum(exits, exit_)].astype(np.float64)
        gains = [
            *(correct[:, later] - here for later in range(exit_ + 1, last + 1)),
            correct[samples, exits] - stopped,
        ]
        low, high = np.transpose(
            [mean_interval(gain, -1.0, 1.0, outcomes.level, weight=weight) for gain in gains]
        )
        if (high > MARGIN).any() or (low > 0).any():
            break
        found = exit_
    if found is None:
        return []
    share = 100 * outcomes.costs[found] / outcomes.costs[-1]
    return [
        f"Cut the model after {names[found]!r}: nothing is gained behind it. With a confidence "
        f"of {100 * outcomes.level:g} %, the exits behind it add at most {100 * MARGIN:g} "
        f"percentage point of accuracy, and its cost is {share:.0f} % of that of the last exit. A "
        "threshold of 0 at this exit does so without a new fit."
    ]


def on_cost(outcomes: Outcomes, plain_name: str) -> list[str]:
    """Advise on the operating point if a sample costs more than without early exits."""
    mean = float(np.average(outcomes.paid, weights=outcomes.weight))
    if mean <= ROUNDING:
        return []
    return [
        f"Nothing is saved: a sample costs {mean:.3g} times the {plain_name} on average. A budget, "
        "or an operating point that allows a larger loss, lets more samples exit early."
    ]


def on_classes(outcomes: Outcomes, y_index: np.ndarray, classes: np.ndarray) -> list[str]:
    """Advise to calibrate by another metric where a class loses much by exiting early.

    The confidence level of the report is divided among the classes.

    Parameters
    ----------
    outcomes : Outcomes
    y_index : ndarray of shape (n_samples,)
        True classes, as indices.
    classes : ndarray of shape (n_classes,)
        Labels of the classes.
    """
    last = outcomes.correct[:, -1].astype(np.float64)
    lost = last - outcomes.correct[np.arange(len(last)), outcomes.exits]
    level = 1 - (1 - outcomes.level) / len(classes)
    bounds = np.zeros(len(classes))
    for i in np.unique(y_index[lost > 0]):
        own = y_index == i
        bounds[i], _ = mean_interval(lost[own], -1.0, 1.0, level, weight=outcomes.weight[own])
    worst = int(bounds.argmax())
    if bounds[worst] <= LOST:
        return []
    return [
        f"Class {classes.tolist()[worst]!r} loses at least {100 * bounds[worst]:.0f} percentage "
        f"points of accuracy by exiting early, with a confidence of {100 * outcomes.level:g} %. "
        "Calibrate by a metric in which all classes count, such as "
        "AccuracyDrop(0.01, metric='balanced_accuracy')."
    ]


def on_operating_point(classifier: Any, point: Any) -> list[str]:
    """Advise on a budget: unused, the same as another one, or too low for any choice.

    Parameters
    ----------
    classifier : EarlyExitClassifier
        Fitted.
    point : CalibratedPoint
        Operating point of the report.
    """
    sentences: list[str] = []
    own, frontier = classifier._point(None, None), classifier.frontier_
    if classifier.n_exits_ == 1 or point.request is None or point.strict_budget is not None:
        return sentences
    if frontier is not None and isinstance(point.request, Budget):
        sentences += _on_budget(classifier, point)
    others = own.request is not None and own.request.description != point.request.description
    if others and np.array_equal(point.thresholds, own.thresholds):
        sentences.append(
            f"{point.request.description} has the same thresholds as the operating point of the "
            f"model, {own.request.description}."
        )
    return sentences


def _on_budget(classifier: Any, point: Any) -> list[str]:
    """Advise on a budget that is not strict, by the frontier."""
    frontier, table = classifier.frontier_, classifier.cost_table_
    budget = point.request.resolved(table.unit, table.plain).value
    at = frontier.at_budget(budget)
    used = float(frontier.costs[at])
    if not np.array_equal(point.thresholds, frontier.thresholds[at]):
        return []
    if budget - used > UNUSED * budget:
        return [
            f"The budgets {_rounded_up(used):.3g} and {budget:.3g} have the same thresholds: on "
            "the calibration samples, no point between them is more accurate."
        ]
    if classifier._candidates is None:
        return []
    name, cost = cheapest_exit(classifier._candidates, table)
    if at == 0 and len(frontier) > 1 and cost * ROUNDING < classifier.costs_[0]:
        return [
            "No exit is cheap enough for this budget to let samples go on: all exit at "
            f"{classifier.exit_names_[0]!r}. Add an exit after {name!r}, at a cost of about "
            f"{cost:.3g}."
        ]
    return []


def _rounded_up(value: float) -> float:
    """A positive number in three digits, not lower than it is."""
    scale = 10.0 ** (2 - np.floor(np.log10(value)))
    return float(np.ceil(value * scale) / scale)

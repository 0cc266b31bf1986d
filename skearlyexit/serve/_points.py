"""Operating points that can be asked for while a model is served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skearlyexit._exit_table import exits_of
from skearlyexit.calibration import Budget, CalibratedPoint, Frontier, Threshold
from skearlyexit.calibration._budget import look_up

DEFAULT = "default"


@dataclass(frozen=True, eq=False)
class Point:
    """Thresholds in force.

    Attributes
    ----------
    name : str
        What was asked for.
    thresholds : ndarray of shape (n_exits - 1,)
        Thresholds of all exits but the last.
    rates : ndarray of shape (n_exits,) or None
        Exit rates on calibration samples. None if they are not known.
    n_reference : int
        Number of these samples.
    budget : float or None
        Largest mean cost that was asked for, in units of the plain network. None if no cost was.
    version : int, default=0
        How many points were in force before.
    """

    name: str
    thresholds: np.ndarray
    rates: np.ndarray | None
    n_reference: int
    budget: float | None = None
    version: int = 0


@dataclass(frozen=True, eq=False)
class Points:
    """What operating points of a model are looked up in.

    Attributes
    ----------
    costs : ndarray of shape (n_exits,)
        Cumulative cost of exiting at each exit.
    unit, plain : str, float
        Unit of the costs, and cost of the plain network in it.
    frontier : Frontier or None
        Thresholds for all budgets.
    scores : ndarray of shape (n_samples, n_exits) or None
        Scores of calibration samples. None if they are not known, or do not determine exits.
    n_samples : int
        Number of calibration samples.
    default : CalibratedPoint
        Point of the model.
    named : mapping of str to mapping
        Requests by their names.
    """

    costs: np.ndarray
    unit: str
    plain: float
    frontier: Frontier | None
    scores: np.ndarray | None
    n_samples: int
    default: CalibratedPoint
    named: Mapping[str, Mapping[str, Any]]

    def __post_init__(self) -> None:
        self.start()
        if not isinstance(self.named, Mapping) or DEFAULT in self.named:
            raise ValueError(
                "'operating_points' must map names, of which 'default' is taken, to requests such "
                f"as {{'budget': 0.3}}. Got {self.named!r}."
            )
        for request in self.named.values():
            if isinstance(request, Mapping) and "operating_point" in request:
                raise ValueError(f"A name stands for a threshold or a budget. Got {request!r}.")
            self.asked(request)

    def start(self) -> Point:
        """The point of the model."""
        return self._point(DEFAULT, self.default)

    def asked(self, request: Any) -> Point:
        """Look up an operating point.

        Parameters
        ----------
        request : mapping
            One of ``{"threshold": ...}``, ``{"budget": ...}`` and ``{"operating_point": name}``.

        Raises
        ------
        ValueError
            If it is something else, or there are no such thresholds.
        """
        if not isinstance(request, Mapping) or len(request) != 1:
            raise ValueError(
                "An operating point is one of {'threshold': ...}, {'budget': ...} and "
                f"{{'operating_point': name}}. Got {_short(request)}."
            )
        ((what, value),) = request.items()
        if what == "threshold":
            given = Threshold(value)
            fixed = given.fixed_thresholds(len(self.costs))
            return self._point(f"threshold={value}", CalibratedPoint(given, fixed))
        if what == "budget":
            return self._point(f"budget={value}", self._of_budget(value))
        names = [DEFAULT, *self.named]
        if what == "operating_point" and isinstance(value, str) and value in names:
            if value == DEFAULT:
                return self.start()
            return replace(self.asked(self.named[value]), name=value)
        raise ValueError(
            "An operating point is one of {'threshold': ...}, {'budget': ...} and "
            f"{{'operating_point': name}}, with one of the names {names}. Got {_short(request)}."
        )

    def _of_budget(self, budget: Any) -> CalibratedPoint:
        if self.frontier is None or self.frontier.shares is None:
            raise ValueError(
                "A budget needs calibration samples, and this model has none. Give a threshold, or "
                "serve a model that was calibrated."
            )
        if not isinstance(budget, Budget):
            if isinstance(budget, bool) or not isinstance(budget, int | float):
                raise ValueError(f"A budget is a number. Got {_short(budget)}.")
            if not 0 < budget < float("inf"):
                raise ValueError(f"A budget is a positive number. Got {budget}.")
        return look_up(budget, self.frontier, self.costs, self.unit, self.plain)

    def _point(self, name: str, point: CalibratedPoint) -> Point:
        if point.strict_budget is not None:
            raise ValueError(
                "A strict budget holds for the samples of one call, and requests are computed in "
                "batches with others. Give a budget that is not strict."
            )
        rates, n_reference = point.shares, self.n_samples
        if rates is None and self.scores is not None:
            exits = exits_of(self.scores, point.thresholds)
            rates = np.bincount(exits, minlength=len(self.costs)) / len(exits)
            n_reference = len(exits)
        budget = None
        if isinstance(point.request, Budget):
            budget = point.request.resolved(self.unit, self.plain).value
        return Point(name, point.thresholds, rates, n_reference, budget)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."

"""What an operating point is: as asked for, and as calibrated."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator

from skearlyexit.calibration._evidence import CalibrationData
from skearlyexit.calibration._frontier import Frontier
from skearlyexit.calibration._strict_budget import StrictBudget


@dataclass(frozen=True)
class CalibratedPoint:
    """Thresholds in force, and what they were chosen for.

    Attributes
    ----------
    request : OperatingPoint or None
        What was asked for; None if there was nothing to choose.
    thresholds : ndarray of shape (n_exits - 1,)
    n_rows : int
        Calibration rows.
    cost, accuracy : float
        Mean cost and accuracy on the calibration rows; nan without any.
    certified : bool or None
        Whether a guarantee was asked for and given; None if none was asked for.
    reason : str
        One sentence for the reader.
    shares : ndarray of shape (n_exits,) or None
        Share of the calibration rows that leaves at each exit; None without any.
    quota : StrictBudget or None
        What keeps a strict budget; None for all other requests.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.calibration import Budget, CalibrationData, compute_frontier
    >>> scores = np.array([[0.9, 1.0], [0.8, 1.0], [0.7, 1.0], [0.6, 1.0]])
    >>> correct = np.array([[True, True], [True, True], [False, True], [True, True]])
    >>> evidence = CalibrationData(scores, correct, costs=np.array([0.5, 1.0]), weight=np.ones(4))
    >>> point = Budget(0.75).calibrate(evidence, compute_frontier(evidence))
    >>> point.thresholds, point.shares, point.cost, point.accuracy
    (array([0.8]), array([0.5, 0.5]), 0.75, 1.0)
    """

    request: OperatingPoint | None
    thresholds: np.ndarray
    n_rows: int = 0
    cost: float = np.nan
    accuracy: float = np.nan
    certified: bool | None = None
    reason: str = ""
    shares: np.ndarray | None = None
    quota: StrictBudget | None = None


class NotCertifiedError(ValueError):
    """Nothing could be certified.

    Examples
    --------
    >>> from skearlyexit.calibration import NotCertifiedError, RiskControl
    >>> try:
    ...     RiskControl(0.01).check_rows(100)
    ... except NotCertifiedError as error:
    ...     print(error)  # doctest: +NORMALIZE_WHITESPACE
    RiskControl(target_level=0.01, confidence_level=0.9) cannot be certified: the least target_level
    that 100 calibration rows can certify is 0.023. Give more rows, or ask for that or more.
    """


class OperatingPoint(BaseEstimator, metaclass=ABCMeta):
    """What a user asks of an early-exit model.

    Attributes
    ----------
    needs_samples : bool
        Whether thresholds are chosen by calibration samples.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.calibration import OperatingPoint
    >>> class Quantile(OperatingPoint):  # a share of the calibration rows reaches each threshold
    ...     def __init__(self, value=0.5):
    ...         self.value = value
    ...     def thresholds(self, evidence, frontier):
    ...         return np.quantile(evidence.scores[:, :-1], 1 - self.value, axis=0)
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"], operating_point=Quantile(0.5),
    ...     calibration=0.3, max_epochs=2, random_state=0)
    >>> clf.fit(X, y).operating_point_.shares
    array([0.5, 0.5])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {}
    needs_samples: ClassVar[bool] = True
    #: Parameters that `description` names even if they are the defaults.
    _told: ClassVar[tuple[str, ...]] = ("value",)

    @property
    def description(self) -> str:
        """Name and parameters, defaults left out unless they say what is asked for."""
        defaults = {
            name: parameter.default for name, parameter in signature(type(self)).parameters.items()
        }
        told = {
            name: value
            for name, value in self.get_params(deep=False).items()
            if name in self._told or not is_default(value, defaults[name])
        }
        ordered = [
            f"{name}={told[name]!r}" if np.ndim(told[name]) == 0 else f"{name}=..."
            for name in defaults
            if name in told
        ]
        return f"{type(self).__name__}({', '.join(ordered)})"

    @abstractmethod
    def thresholds(self, evidence: CalibrationData, frontier: Frontier) -> np.ndarray:
        """Thresholds of every exit but the last, shape (n_exits - 1,).

        Parameters
        ----------
        evidence : CalibrationData
            Held-out rows.
        frontier : Frontier
            Best operating points on them.

        Raises
        ------
        ValueError
            If what is asked for cannot be had.
        """

    def fixed_thresholds(self, n_exits: int) -> np.ndarray:
        """Thresholds where there are no calibration samples, shape (n_exits - 1,).

        If they are chosen by such samples, no sample exits early without any.

        Raises
        ------
        ValueError
            If the thresholds do not fit the number of exits.
        """
        return no_early_exits(n_exits)

    def check_costs(self, least_cost: Callable[[], float]) -> None:
        """Raise a ValueError if no thresholds cost as little as is asked for.

        Parameters
        ----------
        least_cost : callable
            Called without arguments, and only if it matters: a lower bound of the cost of the first
            exit, in units of the plain network.
        """

    def check_rows(
        self,
        n_rows: int,
        weight: np.ndarray | None = None,
        largest_weight: float | None = None,
    ) -> None:
        """Raise a ValueError if the calibration samples cannot do, whatever they show.

        Parameters
        ----------
        n_rows : int
            Number of calibration samples.
        weight : ndarray of shape (n_rows,), default=None
            Their weights; None are equal ones.
        largest_weight : float, default=None
            As in `CalibrationData`.
        """

    def resolved(self, unit: str, plain: float) -> OperatingPoint:
        """The same in units of the plain network.

        Parameters
        ----------
        unit : str
            Unit of costs, such as "MACs".
        plain : float
            Cost of the plain network in that unit.

        Raises
        ------
        ValueError
            If what is asked for is in another unit.
        """
        return self

    def certify(self) -> tuple[bool | None, str]:
        """Whether a guarantee was asked for, which `thresholds` has given, and a sentence on it."""
        return None, ""

    def quota(self, evidence: CalibrationData, thresholds: np.ndarray) -> StrictBudget | None:
        """What keeps a budget on every batch, if that was asked for."""
        return None

    def calibrate(self, evidence: CalibrationData, frontier: Frontier) -> CalibratedPoint:
        """Choose thresholds, and tell what they do on the rows they were chosen on."""
        thresholds = self.thresholds(evidence, frontier)
        certified, reason = self.certify()
        cost, accuracy = evidence.evaluate(thresholds)
        return CalibratedPoint(
            self,
            thresholds,
            len(evidence.scores),
            cost,
            accuracy,
            certified,
            reason,
            evidence.shares(thresholds),
            self.quota(evidence, thresholds),
        )


def is_default(value: Any, default: Any) -> bool:
    """Whether a parameter has its default, which is never an array."""
    return value is default or (np.ndim(value) == 0 and bool(value == default))


def no_early_exits(n_exits: int) -> np.ndarray:
    """Thresholds under which no row leaves before the last exit."""
    return np.full(n_exits - 1, np.inf)

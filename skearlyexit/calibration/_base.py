"""Base class of operating points, and the result of a calibration."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator

from skearlyexit._utils._scoring import is_accuracy, needs_probabilities
from skearlyexit.calibration._calibration_data import CalibrationData
from skearlyexit.calibration._frontier import Frontier
from skearlyexit.calibration._metric import check_metric
from skearlyexit.calibration._strict_budget import StrictBudget


@dataclass(frozen=True)
class CalibratedPoint:
    """Thresholds in use, and the calibration that they come from.

    Parameters
    ----------
    request : OperatingPoint or None
        Criterion by which the thresholds were chosen. None if no operating point was given and the
        model has a single exit or no calibration samples.
    thresholds : ndarray of shape (n_exits - 1,)
        Thresholds of all exits but the last.
    n_samples : int, default=0
        Number of calibration samples.
    cost : float, default=nan
        Mean cost on the calibration samples, in units of the cost of the plain network. NaN without
        calibration samples.
    accuracy : float, default=nan
        Accuracy on the calibration samples. In regression, the share of the loss that is explained
        (similar to R2 for squared errors), compared with the best constant prediction on the
        training samples. NaN if it is not known.
    certified : bool, default=None
        Whether a requested guarantee is given. None if no guarantee was requested.
    reason : str, default=""
        Explanation in words, such as the guarantee, or why none is given.
    shares : ndarray of shape (n_exits,), default=None
        Exit rates: share of the calibration samples that exits at each exit, whatever their
        weights. None without calibration samples.
    strict_budget : StrictBudget, default=None
        Rule that enforces a strict budget. None for all other requests.
    error : float, default=nan
        In regression, the error on the calibration samples, in the units of y: the root of the mean
        squared error, or the mean of the loss if another is minimized. With several targets it is
        in units of their standard deviations. NaN in classification and without calibration
        samples.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.calibration import Budget, CalibrationData, compute_frontier
    >>> scores = np.array([[0.9, 1.0], [0.8, 1.0], [0.7, 1.0], [0.6, 1.0]])
    >>> correct = np.array([[True, True], [True, True], [False, True], [True, True]])
    >>> data = CalibrationData(scores, correct, costs=np.array([0.5, 1.0]), weight=np.ones(4))
    >>> point = Budget(0.75).calibrate(data, compute_frontier(data))
    >>> point.thresholds.round(2), point.shares, point.cost, point.accuracy
    (array([0.71]), array([0.5, 0.5]), 0.75, 1.0)
    """

    request: OperatingPoint | None
    thresholds: np.ndarray
    n_samples: int = 0
    cost: float = np.nan
    accuracy: float = np.nan
    certified: bool | None = None
    reason: str = ""
    shares: np.ndarray | None = None
    strict_budget: StrictBudget | None = None
    error: float = np.nan


class NotCertifiedError(ValueError):
    """Exception raised if a requested guarantee cannot be given.

    Examples
    --------
    >>> from skearlyexit.calibration import NotCertifiedError, RiskControl
    >>> try:
    ...     RiskControl(0.01).check_samples(100)
    ... except NotCertifiedError as error:
    ...     print(error)  # doctest: +NORMALIZE_WHITESPACE
    RiskControl(target_level=0.01, confidence_level=0.9) cannot be certified: the least target_level
    that 100 calibration samples can certify is 0.023. Give more calibration samples, or at least
    this level.
    """


class OperatingPoint(BaseEstimator, metaclass=ABCMeta):
    """Base class of operating points, which are criteria for choosing the thresholds.

    A subclass implements `thresholds`.

    Attributes
    ----------
    needs_samples : bool
        Whether the thresholds depend on calibration samples. It is a class attribute, True by
        default.
    metric : str or callable
        Metric by which the thresholds are chosen: the name of a scikit-learn scorer or a scorer. It
        is a class attribute, ``"accuracy"`` by default, unless it is a parameter. In regression,
        ``"accuracy"`` stands for the loss of the estimator.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.calibration import OperatingPoint
    >>> class Quantile(OperatingPoint):  # this share of the samples reaches each threshold
    ...     def __init__(self, value=0.5):
    ...         self.value = value
    ...     def thresholds(self, data, frontier):
    ...         return np.quantile(data.scores[:, :-1], 1 - self.value, axis=0)
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"], operating_point=Quantile(0.5),
    ...     calibration=0.3, max_epochs=2, random_state=0)
    >>> clf.fit(X, y).operating_point_.shares
    array([0.5, 0.5])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {}
    needs_samples: ClassVar[bool] = True
    metric: Any = "accuracy"
    #: Parameters that `description` contains even if they have their default values.
    _told: ClassVar[tuple[str, ...]] = ("value",)

    @property
    def description(self) -> str:
        """Name and parameters as text, without most parameters that have their default values."""
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
    def thresholds(self, data: CalibrationData, frontier: Frontier) -> np.ndarray:
        """Choose the thresholds on calibration samples.

        Parameters
        ----------
        data : CalibrationData
            Scores and correctness of the exits on the calibration samples.
        frontier : Frontier
            Pareto-optimal thresholds on the calibration samples, by accuracy and mean cost.

        Returns
        -------
        thresholds : ndarray of shape (n_exits - 1,)
            Thresholds of all exits but the last.

        Raises
        ------
        ValueError
            If no thresholds satisfy the criterion. It is a `NotCertifiedError` if a guarantee was
            requested and cannot be given.
        """

    def fixed_thresholds(self, n_exits: int) -> np.ndarray:
        """Return the thresholds that are used without calibration samples.

        If the thresholds depend on calibration samples, they are infinite: no sample exits early.

        Parameters
        ----------
        n_exits : int
            Number of exits, including the last one.

        Returns
        -------
        thresholds : ndarray of shape (n_exits - 1,)
            Thresholds of all exits but the last.

        Raises
        ------
        ValueError
            If the thresholds do not match the number of exits.
        """
        return no_early_exits(n_exits)

    def check_costs(self, least_cost: Callable[[], float]) -> None:
        """Check before training whether the requested cost can be reached.

        Parameters
        ----------
        least_cost : callable
            Function without arguments that returns a lower bound of the cost of exiting at the
            first exit, in units of the cost of the plain network. It is called only if the
            operating point limits the cost.

        Raises
        ------
        ValueError
            If no thresholds have the requested cost.
        """

    def check_samples(
        self,
        n_samples: int,
        weight: np.ndarray | None = None,
        largest_weight: float | None = None,
        groups: np.ndarray | None = None,
    ) -> None:
        """Check before training whether the calibration samples can be sufficient.

        Parameters
        ----------
        n_samples : int
            Number of calibration samples.
        weight : ndarray of shape (n_samples,), default=None
            Sample weights. If None, all are equal.
        largest_weight : float, default=None
            Largest sample weight, as in `CalibrationData`.
        groups : ndarray of shape (n_samples,), default=None
            Group of each sample. If None, all samples are independent.

        Raises
        ------
        ValueError
            If the samples are not sufficient whatever the outputs for them will be. It is a
            `NotCertifiedError` if a guarantee was requested.
        """

    @property
    def needs_probabilities(self) -> bool:
        """Whether the thresholds depend on the probabilities predicted for calibration samples."""
        return self.metric is not None and needs_probabilities(self.metric)

    def check_labels(self, y: np.ndarray, classes: np.ndarray | None, weight: np.ndarray) -> None:
        """Check before training whether `metric` can be computed for the calibration samples.

        Parameters
        ----------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            Indices of the true classes, or targets.
        classes : ndarray of shape (n_classes,) or None
            Class labels. None in regression.
        weight : ndarray of shape (n_samples,)
            Sample weights.

        Raises
        ------
        ValueError
            If it cannot be computed for predictions that are right.
        """
        if self.metric is not None and not is_accuracy(self.metric):
            check_metric(self.metric, y, classes, weight)

    def obstacle_to_classification(self) -> str:
        """Return the reason why the criterion does not apply to classification.

        Returns
        -------
        reason : str
            Reason in words. Empty, the default, if it applies.
        """
        return ""

    def obstacle_to_regression(self) -> str:
        """Return the reason why the criterion does not apply to regression.

        Returns
        -------
        reason : str
            Reason in words. Empty, the default, if it applies.
        """
        return ""

    def obstacle_to_routing(self) -> str:
        """Return the reason why the criterion does not apply if samples skip exits.

        Returns
        -------
        reason : str
            Reason in words. Empty, the default, if it applies.
        """
        return ""

    def resolved(self, unit: str, plain: float, least_cost: float = 0.0) -> OperatingPoint:
        """Convert costs to units of the cost of the plain network.

        Parameters
        ----------
        unit : str
            Unit of the costs of the model, such as "MACs".
        plain : float
            Cost of the plain network in this unit.
        least_cost : float, default=0.0
            Cost of the first exit, in units of the cost of the plain network, if it is known.

        Returns
        -------
        operating_point : OperatingPoint
            Converted operating point; the same object if it limits no cost.

        Raises
        ------
        ValueError
            If a requested cost is in another unit, or below that of the first exit.
        """
        return self

    def certify(self) -> tuple[bool | None, str]:
        """Describe the guarantee of the thresholds that `thresholds` returns.

        Returns
        -------
        certified : bool or None
            True if they have a guarantee. None if the operating point gives no guarantees.
        reason : str
            Guarantee in words.
        """
        return None, ""

    def strict_budget(self, data: CalibrationData, thresholds: np.ndarray) -> StrictBudget | None:
        """Return the rule that enforces a strict budget.

        Parameters
        ----------
        data : CalibrationData
            Scores and correctness of the exits on the calibration samples.
        thresholds : ndarray of shape (n_exits - 1,)
            Thresholds chosen by `thresholds`.

        Returns
        -------
        strict_budget : StrictBudget or None
            None unless a strict budget is requested.
        """
        return None

    def calibrate(self, data: CalibrationData, frontier: Frontier) -> CalibratedPoint:
        """Choose the thresholds, and evaluate them on the calibration samples.

        Parameters
        ----------
        data : CalibrationData
            Scores and correctness of the exits on the calibration samples.
        frontier : Frontier
            Pareto-optimal thresholds on the calibration samples, by accuracy and mean cost.

        Returns
        -------
        point : CalibratedPoint
            Thresholds, with their mean cost, accuracy and exit rates on the calibration samples.

        Raises
        ------
        ValueError
            As in `thresholds`.
        """
        thresholds = self.thresholds(data, frontier)
        certified, reason = self.certify()
        if self.needs_samples and len(thresholds) and np.isinf(thresholds).all():
            reason = reason or (
                f"No sample exits early: on the {len(data.scores)} calibration samples, all "
                f"cheaper thresholds that were tried do worse by {self.description}."
            )
        if certified and data.n_draws < len(data.scores):
            reason += " This is a mean over groups of samples, each of which counts once."
        cost, accuracy = data.evaluate(thresholds)
        return CalibratedPoint(
            self,
            thresholds,
            len(data.scores),
            cost,
            accuracy,
            certified,
            reason,
            data.shares(thresholds),
            self.strict_budget(data, thresholds),
            data.error_of(accuracy),
        )


def is_default(value: Any, default: Any) -> bool:
    """Whether a parameter has its default value, which is never an array."""
    return value is default or (np.ndim(value) == 0 and bool(value == default))


def no_early_exits(n_exits: int) -> np.ndarray:
    """Thresholds under which no sample exits before the last exit."""
    return np.full(n_exits - 1, np.inf)

"""Classification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from skearlyexit._data._labels import encode_labels
from skearlyexit._determinism._classifier import BatchInvariantClassifier
from skearlyexit._output_kind import PROBABILITIES, OutputKind
from skearlyexit._task._base import Task
from skearlyexit.calibration import CalibrationData, OperatingPoint, RiskControl
from skearlyexit.combination import TemperatureScaling
from skearlyexit.heads import FittedHead, Head
from skearlyexit.policies import ConfidencePolicy, Policy
from skearlyexit.policies._registry import POLICIES
from skearlyexit.routing import ExitRouter
from skearlyexit.training._criterion import Criterion, CrossEntropy


@dataclass(frozen=True, eq=False)
class Classification(Task):
    """Classification, in which y is encoded as indices of the sorted classes.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        Class labels.
    """

    classes: np.ndarray

    kind: ClassVar[OutputKind] = PROBABILITIES
    policies: ClassVar[Mapping[str, type[Policy]]] = POLICIES
    estimator_type: ClassVar[str] = "classifier"
    converts: ClassVar[bool] = True

    @classmethod
    def obstacle(cls, part: Any) -> str:
        reason: str = part.obstacle_to_classification()
        return reason

    @classmethod
    def default_policy(cls, n_samples: int) -> str:
        return "confidence"

    @classmethod
    def scaling(cls, params: Any) -> TemperatureScaling | None:
        return TemperatureScaling() if params.temperature_scaling else None

    @classmethod
    def router(cls, params: Any) -> ExitRouter | None:
        router: ExitRouter | None = params.router
        return router

    @classmethod
    def needs_all_samples(cls, params: Any) -> str:
        if params.class_weight == "balanced":
            return "class_weight='balanced' counts the samples of each class"
        return ""

    @property
    def n_outputs(self) -> int:
        return len(self.classes)

    def attributes(self) -> dict[str, Any]:
        return {"classes_": self.classes}

    def encoded(self, y: Any, X: Any) -> np.ndarray:
        return encode_labels(y, X, self.classes)

    def decoded(self, predicted: np.ndarray) -> np.ndarray:
        return np.asarray(self.classes[predicted])

    def told(self, table: Any) -> Any:
        return table

    def criterion(self, params: Any) -> Criterion:
        return CrossEntropy(params.label_smoothing)

    def fit_head(self, head: Head, *, needs_probabilities: bool, **arguments: Any) -> FittedHead:
        return head.fit(classes=self.classes, needs_probabilities=needs_probabilities, **arguments)

    def fit_estimator(
        self,
        estimator: Any,
        X: Any,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        *,
        seed: int,
        largest_call: int,
        in_any_batch: bool,
    ) -> BatchInvariantClassifier:
        return BatchInvariantClassifier.fit(
            estimator,
            X,
            self.classes[y],
            sample_weight,
            classes=self.classes,
            needs_probabilities=False,
            seed=seed,
            advice="",
            largest_call=largest_call,
            in_any_batch=in_any_batch,
        )

    def of_fitted(
        self, estimator: Any, X: Any, largest_call: int, in_any_batch: bool
    ) -> BatchInvariantClassifier:
        return BatchInvariantClassifier.of_fitted(
            estimator, X, self.classes, largest_call, in_any_batch
        )

    def plain_policy(self) -> Policy:
        return ConfidencePolicy()

    def default_point(self) -> OperatingPoint:
        return RiskControl()

    def check_metric(self, point: OperatingPoint, y: np.ndarray, weight: np.ndarray) -> None:
        point.check_labels(y, self.classes, weight)

    def calibration_data(
        self,
        table: Any,
        y: np.ndarray,
        costs: np.ndarray,
        weight: np.ndarray | None = None,
        largest_weight: float | None = None,
    ) -> CalibrationData:
        return CalibrationData.from_table(table, y, costs, weight, self.classes, largest_weight)

"""Classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from skearlyexit._data._labels import encode_labels
from skearlyexit._determinism._classifier import BatchInvariantClassifier
from skearlyexit._determinism._estimator import Calls
from skearlyexit._onnx._graph import ExportError, Graph, GraphOutput
from skearlyexit._output_kind import PROBABILITIES, OutputKind
from skearlyexit._task._base import Task
from skearlyexit.calibration import (
    CalibrationData,
    NotCertifiedError,
    OperatingPoint,
    RiskControl,
)
from skearlyexit.combination import TemperatureScaling
from skearlyexit.heads import FittedHead, Head
from skearlyexit.policies import ConfidencePolicy, Policy
from skearlyexit.policies._registry import POLICIES
from skearlyexit.routing import ExitRouter
from skearlyexit.training._criterion import CLASSIFICATION_LOSSES, Criterion

#: From this number of calibration samples on, the default operating point has half the level: the
#: more samples there are, the more of the level is used, and the less of it is needed to let many
#: samples exit early.
MANY_SAMPLES, LEVEL_OF_MANY = 2500, 0.005
#: Level if there are too few of them to certify the usual one with learned thresholds.
LEVEL_OF_FEW = 0.02


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

    @property
    def output_labels(self) -> Sequence[Any]:
        return list(self.classes)

    @property
    def output_scale(self) -> np.ndarray:
        return np.ones(self.n_outputs)

    def attributes(self) -> dict[str, Any]:
        return {"classes_": self.classes}

    def encoded(self, y: Any, X: Any) -> np.ndarray:
        return encode_labels(y, X, self.classes)

    def decoded(self, predicted: np.ndarray) -> np.ndarray:
        return np.asarray(self.classes[predicted])

    def onnx(self, graph: Graph, predicted: GraphOutput) -> GraphOutput:
        classes = _storable(self.classes)
        labels = graph.op("Gather", graph.constant(classes), predicted.tensor)
        return replace(predicted, tensor=labels, dtype=classes.dtype)

    def metadata(self) -> dict[str, Any]:
        classes = _storable(self.classes).tolist()
        return {"predicted_dtype": str(self.classes.dtype), "classes": classes}

    def told(self, table: Any) -> Any:
        return table

    def criterion(self, params: Any) -> Criterion:
        return CLASSIFICATION_LOSSES[params.loss](params.label_smoothing)

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
        calls: Calls,
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
            calls=calls,
        )

    def of_fitted(self, estimator: Any, X: Any, calls: Calls) -> BatchInvariantClassifier:
        return BatchInvariantClassifier.of_fitted(estimator, X, self.classes, calls)

    def link_of_part(self, part: Any, rows: Any, batch_invariant: bool) -> Any:
        return part.as_link(rows, None, batch_invariant=batch_invariant)

    def plain_policy(self) -> Policy:
        return ConfidencePolicy()

    def default_point(self, data: CalibrationData) -> OperatingPoint:
        if data.n_draws >= MANY_SAMPLES:
            return RiskControl(LEVEL_OF_MANY)
        usual = RiskControl()
        # Without weights: if they differ, no level can be certified.
        draws = np.arange(len(data.weight)) if data.group_of is None else data.group_of
        tested = draws[draws < usual.n_tested(data.n_draws)]
        try:
            usual.check_samples(len(tested), groups=tested)
        except NotCertifiedError:
            return RiskControl(LEVEL_OF_FEW)
        return usual

    def check_metric(self, point: OperatingPoint, y: np.ndarray, weight: np.ndarray) -> None:
        point.check_labels(y, self.classes, weight)

    def calibration_data(
        self,
        table: Any,
        y: np.ndarray,
        costs: np.ndarray,
        weight: np.ndarray | None = None,
        largest_weight: float | None = None,
        groups: np.ndarray | None = None,
    ) -> CalibrationData:
        return CalibrationData.from_table(
            table, y, costs, weight, self.classes, largest_weight, groups
        )


def _storable(classes: np.ndarray) -> np.ndarray:
    """Class labels as an array that ONNX can store."""
    if classes.dtype.kind in "OU" and all(isinstance(each, str) for each in classes.tolist()):
        return classes.astype(object)
    if classes.dtype.kind in "iufb":
        return classes
    raise ExportError(
        f"Classes of dtype {classes.dtype} cannot be stored in ONNX. Use numbers or strings."
    )

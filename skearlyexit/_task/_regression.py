"""Regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from skearlyexit._data._samples import Samples
from skearlyexit._data._targets import Targets, checked_targets
from skearlyexit._determinism._estimator import Calls
from skearlyexit._determinism._regressor import BatchInvariantRegressor
from skearlyexit._exit_table import PredictionTable
from skearlyexit._onnx._graph import Graph, GraphOutput
from skearlyexit._output_kind import VALUES, OutputKind
from skearlyexit._task._base import Task
from skearlyexit.calibration import CalibrationData, ErrorRise, OperatingPoint
from skearlyexit.calibration._calibration_data import ErrorScale
from skearlyexit.combination import TemperatureScaling
from skearlyexit.heads import FittedHead, Head
from skearlyexit.policies import Policy
from skearlyexit.policies._constant import ConstantPolicy
from skearlyexit.policies._registry import REGRESSION_POLICIES
from skearlyexit.routing import ExitRouter
from skearlyexit.training._criterion import Criterion, RegressionCriterion

#: Number of samples from which the default policy is learned from those that are held out.
LEAST_LEARNED = 100


@dataclass(frozen=True, eq=False)
class Regression(Task):
    """Regression, in which y is encoded as standardized targets of shape (n_samples, n_targets).

    Attributes
    ----------
    targets : Targets
        Mean and scale of the targets.
    loss : RegressionCriterion
        Loss that is minimized.
    constant_loss : float
        Mean loss on the training samples, with their weights, of a constant prediction: the mean
        with the squared error, the quantile, or else the median.
    """

    targets: Targets
    loss: RegressionCriterion
    constant_loss: float

    kind: ClassVar[OutputKind] = VALUES
    policies: ClassVar[Mapping[str, type[Policy]]] = REGRESSION_POLICIES
    estimator_type: ClassVar[str] = "regressor"

    @classmethod
    def check_loss(cls, params: Any) -> None:
        """Raise a ValueError if an estimator has a loss without its quantile, or the reverse."""
        if (params.loss == "quantile") != (params.quantile is not None):
            raise ValueError(
                "The parameter 'quantile' is required with loss='quantile', and has no effect with "
                f"another loss. Got loss={params.loss!r} and quantile={params.quantile!r}."
            )

    @classmethod
    def of(cls, targets: Targets, samples: Samples, params: Any) -> Regression:
        """Task for training samples with standardized targets, and the parameters of an estimator.

        Parameters
        ----------
        targets : Targets
            Mean and scale of the targets.
        samples : Samples
            Training samples, of which targets and weights are used.
        params : estimator
            Estimator with the parameters `loss` and `quantile`.

        Returns
        -------
        task : Regression
        """
        quantile = 0.5 if params.quantile is None else float(params.quantile)
        loss = RegressionCriterion(params.loss, quantile)
        y, weight = samples.y * targets.in_deviations, samples.weight
        if loss.is_squared:
            constant = np.average(y, axis=0, weights=weight)
        else:
            # Of all constants, a value of the inverse distribution function has the lowest loss.
            constant = np.quantile(y, quantile, axis=0, weights=weight, method="inverted_cdf")
        losses = _losses(loss, np.broadcast_to(constant, y.shape), y)
        least = float(np.average(losses, weights=weight))
        return cls(targets, loss, least if least > 0 else 1.0)

    @classmethod
    def obstacle(cls, part: Any) -> str:
        reason: str = part.obstacle_to_regression()
        return reason

    @classmethod
    def default_policy(cls, n_samples: int) -> str:
        return "learned" if n_samples >= LEAST_LEARNED else "change"

    @classmethod
    def scaling(cls, params: Any) -> TemperatureScaling | None:
        return None

    @classmethod
    def router(cls, params: Any) -> ExitRouter | None:
        return None

    @classmethod
    def needs_all_samples(cls, params: Any) -> str:
        return ""

    @property
    def n_outputs(self) -> int:
        return self.targets.n_targets

    @property
    def output_labels(self) -> Sequence[Any]:
        return range(self.n_outputs)

    @property
    def output_scale(self) -> np.ndarray:
        return self.targets.scale

    def attributes(self) -> dict[str, Any]:
        return {"n_outputs_": self.n_outputs}

    def encoded(self, y: Any, X: Any) -> np.ndarray:
        return self.targets.standardized(checked_targets(y, X))

    def decoded(self, predicted: np.ndarray) -> np.ndarray:
        return self.targets.restored(predicted)

    def onnx(self, graph: Graph, predicted: GraphOutput) -> GraphOutput:
        scaled = graph.op("Mul", predicted.tensor, graph.constant(self.targets.scale))
        values = graph.op("Add", scaled, graph.constant(self.targets.mean))
        if not self.targets.flat:
            return replace(predicted, tensor=values)
        return replace(predicted, tensor=graph.op("Squeeze", values, graph.constant([1])), shape=())

    def metadata(self) -> dict[str, Any]:
        return {"predicted_dtype": "float64"}

    def told(self, table: Any) -> PredictionTable:
        return replace(table, predictions=self.decoded(table.predictions))

    def criterion(self, params: Any) -> Criterion:
        return self.loss

    def fit_head(self, head: Head, *, needs_probabilities: bool, **arguments: Any) -> FittedHead:
        return head.fit_regression(targets=self.targets, **arguments)

    def fit_estimator(
        self,
        estimator: Any,
        X: Any,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        *,
        seed: int,
        calls: Calls,
    ) -> BatchInvariantRegressor:
        return BatchInvariantRegressor.fit(
            estimator,
            X,
            y,
            sample_weight,
            targets=self.targets,
            seed=seed,
            calls=calls,
        )

    def of_fitted(self, estimator: Any, X: Any, calls: Calls) -> BatchInvariantRegressor:
        return BatchInvariantRegressor.of_fitted(estimator, X, self.targets, calls)

    def link_of_part(self, part: Any, rows: Any, batch_invariant: bool) -> Any:
        return part.as_link(rows, self.targets, batch_invariant=batch_invariant)

    def plain_policy(self) -> Policy:
        return ConstantPolicy()

    def default_point(self, data: CalibrationData) -> OperatingPoint:
        return ErrorRise()

    def check_metric(self, point: OperatingPoint, y: np.ndarray, weight: np.ndarray) -> None:
        point.check_labels(self.decoded(y), None, weight)

    def losses(self, predicted: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Loss at each exit, divided by that of the best constant prediction.

        Parameters
        ----------
        predicted : ndarray of shape (n_samples, n_exits, n_targets)
        y : ndarray of shape (n_samples, n_targets)

        Returns
        -------
        losses : ndarray of shape (n_samples, n_exits)
        """
        factors = self.targets.in_deviations
        by_exit = (predicted * factors).swapaxes(0, 1)
        columns = [_losses(self.loss, at_exit, y * factors) for at_exit in by_exit]
        return np.stack(columns, axis=1) / self.constant_loss

    @property
    def error_scale(self) -> ErrorScale:
        """Conversion of a mean of these losses to an error in the units of y."""
        is_root = self.loss.is_squared
        unit = np.sqrt(self.constant_loss) if is_root else self.constant_loss
        scale = self.targets.deviation[0] if self.n_outputs == 1 else 1.0
        return ErrorScale(is_root, float(unit * scale))

    def calibration_data(
        self,
        table: Any,
        y: np.ndarray,
        costs: np.ndarray,
        weight: np.ndarray | None = None,
        largest_weight: float | None = None,
        groups: np.ndarray | None = None,
    ) -> CalibrationData:
        return CalibrationData.from_predictions(
            self.decoded(table.predictions),
            self.decoded(y),
            self.losses(table.predictions, y),
            table.scores,
            costs,
            self.error_scale,
            weight,
            largest_weight,
            groups,
        )


def _losses(loss: RegressionCriterion, predicted: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Loss of each sample, shape (n_samples,), in double precision, from standard deviations."""
    outputs, targets = (torch.tensor(each, dtype=torch.float64) for each in (predicted, y))
    return loss.losses(outputs, targets, training=False).numpy()

"""Base class of tasks."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from skearlyexit._determinism._estimator import BatchInvariantEstimator, Calls
from skearlyexit._exit_table import ExitTable, LabelTable, PredictionTable
from skearlyexit._onnx._graph import Graph, GraphOutput
from skearlyexit._output_kind import OutputKind
from skearlyexit.calibration import CalibrationData, OperatingPoint
from skearlyexit.combination import TemperatureScaling
from skearlyexit.heads import FittedHead, Head
from skearlyexit.policies import Policy
from skearlyexit.routing import ExitRouter
from skearlyexit.training._criterion import Criterion

#: Table of what is predicted at each exit, with or without probabilities.
Table = ExitTable | LabelTable | PredictionTable


class Task(metaclass=ABCMeta):
    """Base class of tasks: how y is encoded, and what follows from it.

    Whatever differs between classification and regression is asked of the task.

    Attributes
    ----------
    kind : OutputKind
        What the outputs of the heads are.
    policies : mapping of str to class
        Policies by their names.
    estimator_type : {"classifier", "regressor"}
        Type of the scikit-learn estimators that are valid heads.
    """

    kind: ClassVar[OutputKind]
    policies: ClassVar[Mapping[str, type[Policy]]]
    estimator_type: ClassVar[str]

    @classmethod
    @abstractmethod
    def obstacle(cls, part: Any) -> str:
        """Reason why a strategy does not support this task. Empty if it does."""

    @classmethod
    def check(cls, part: Any) -> None:
        """Raise a ValueError if a strategy does not support this task."""
        obstacle = cls.obstacle(part)
        if obstacle:
            raise ValueError(
                f"{type(part).__name__} cannot be used in {cls.__name__.lower()}: {obstacle}."
            )

    @classmethod
    @abstractmethod
    def default_policy(cls, n_samples: int) -> str:
        """Name of the policy if no other is given.

        Parameters
        ----------
        n_samples : int
            Number of held-out samples to fit it to, or 0.
        """

    @classmethod
    @abstractmethod
    def scaling(cls, params: Any) -> TemperatureScaling | None:
        """Temperature scaling of the heads, if an estimator asks for it."""

    @classmethod
    @abstractmethod
    def router(cls, params: Any) -> ExitRouter | None:
        """Router that an estimator asks for, not fitted."""

    @classmethod
    @abstractmethod
    def needs_all_samples(cls, params: Any) -> str:
        """Why parameters of an estimator require all samples at once. Empty if they do not."""

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """Number of outputs of a head."""

    @property
    @abstractmethod
    def output_labels(self) -> Sequence[Any]:
        """What each output of a head is called in names of features."""

    @property
    @abstractmethod
    def output_scale(self) -> np.ndarray:
        """Factors from the outputs of a head to the units of the user, shape (n_outputs,)."""

    @abstractmethod
    def attributes(self) -> dict[str, Any]:
        """Fitted attributes of the estimator that describe what is predicted."""

    @abstractmethod
    def encoded(self, y: Any, X: Any) -> np.ndarray:
        """Encode validated or unvalidated y of further samples X as in the training.

        Raises
        ------
        ValueError
            If y does not fit X or the y of the training.
        """

    @abstractmethod
    def decoded(self, predicted: np.ndarray) -> np.ndarray:
        """What the user is told, from encoded predictions of shape (n_samples, ...)."""

    @abstractmethod
    def onnx(self, graph: Graph, predicted: GraphOutput) -> GraphOutput:
        """Add `decoded` to a graph in the ONNX format.

        Raises
        ------
        ExportError
            If ONNX cannot store what the user is told.
        """

    @abstractmethod
    def metadata(self) -> dict[str, Any]:
        """What an exported file states of the predictions, as JSON can store it.

        Returns
        -------
        values : dict of str to object
            ``"predicted_dtype"``, the dtype of what is predicted, and ``"classes"`` if there are
            any.
        """

    @abstractmethod
    def told(self, table: Any) -> Any:
        """Exit table as it is returned to the user."""

    @abstractmethod
    def criterion(self, params: Any) -> Criterion:
        """Loss that the training minimizes, by the parameters of an estimator."""

    @abstractmethod
    def fit_head(self, head: Head, *, needs_probabilities: bool, **arguments: Any) -> FittedHead:
        """Fit a head; see `Head.fit` and `Head.fit_regression`."""

    @abstractmethod
    def fit_estimator(
        self,
        estimator: Any,
        X: Any,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        *,
        seed: int,
        calls: Calls,
    ) -> BatchInvariantEstimator:
        """Fit a clone of a scikit-learn estimator to samples and encoded y."""

    @abstractmethod
    def of_fitted(self, estimator: Any, X: Any, calls: Calls) -> BatchInvariantEstimator:
        """Caller of a fitted scikit-learn estimator, tested on some samples."""

    @abstractmethod
    def link_of_part(self, part: Any, rows: Any, batch_invariant: bool) -> Any:
        """Link of a part of a fitted ensemble, tested on some samples."""

    @abstractmethod
    def plain_policy(self) -> Policy:
        """Policy without memory whose scores have no meaning, such as for one exit."""

    @abstractmethod
    def default_point(self, data: CalibrationData) -> OperatingPoint:
        """Operating point if none is requested, by the number of samples or groups."""

    @abstractmethod
    def check_metric(self, point: OperatingPoint, y: np.ndarray, weight: np.ndarray) -> None:
        """Check before training whether the metric of an operating point can be computed."""

    @abstractmethod
    def calibration_data(
        self,
        table: Any,
        y: np.ndarray,
        costs: np.ndarray,
        weight: np.ndarray | None = None,
        largest_weight: float | None = None,
        groups: np.ndarray | None = None,
    ) -> CalibrationData:
        """Calibration data of a table with encoded predictions, and of encoded y."""

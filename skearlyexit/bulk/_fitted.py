"""Fitted models as a request asks them, be it estimators or exported files."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skearlyexit._utils._unwrap import last_step, model_of
from skearlyexit.runtime._driver import Answers
from skearlyexit.runtime._onnx_cascade import OnnxCascade


@dataclass(frozen=True)
class FittedEstimator:
    """A fitted estimator with exits, or a fitted pipeline whose last step is one."""

    estimator: Any

    @property
    def feature_names(self) -> list[str] | None:
        """Names of the features in the fit, if there were any."""
        names = getattr(self.estimator, "feature_names_in_", None)
        return None if names is None else list(names)

    @property
    def n_features(self) -> int | None:
        """Number of features in the fit, if samples have features."""
        return getattr(self.estimator, "n_features_in_", None)

    @property
    def classes(self) -> np.ndarray | None:
        """Class labels. None of a regressor."""
        return getattr(self.estimator, "classes_", None)

    def thresholds(self, threshold: Any, budget: Any) -> np.ndarray:
        """Thresholds for the arguments of a prediction, the same for all batches."""
        model = model_of(self.estimator)
        point = model._point(threshold, budget)
        if point.strict_budget is not None:
            raise ValueError(
                "A strict budget is kept on the samples of one call, and the samples are predicted "
                "in many calls here. Give a budget that is not strict, or a threshold."
            )
        device = getattr(model.cascade_.network, "device", "cpu")
        if device != "cpu":
            raise ValueError(
                f"The model computes on the device {device!r}, and workers are given processors "
                "only. Fit it with device='cpu', or export it with to_onnx and give the path of "
                "the file."
            )
        return point.thresholds

    def answers(self, X: Any, thresholds: np.ndarray, *, with_probabilities: bool) -> Answers:
        """Predictions under these thresholds, in the form in which `predict` returns them."""
        model, rows = last_step(self.estimator, X)
        point = model._point(thresholds, None)
        found = model._run(rows, point, with_probabilities=with_probabilities)
        return replace(found, labels=model._task.decoded(found.labels))


@dataclass(frozen=True)
class ExportedModel:
    """A model in the ONNX format, with the same attributes and methods."""

    cascade: OnnxCascade

    @property
    def feature_names(self) -> list[str] | None:
        names: list[str] | None = self.cascade.metadata_["feature_names"]
        return names

    @property
    def n_features(self) -> int | None:
        n_features: int = self.cascade.metadata_["row_shape"][0]
        return n_features

    @property
    def classes(self) -> np.ndarray | None:
        return getattr(self.cascade, "classes_", None)

    def thresholds(self, threshold: Any, budget: Any) -> np.ndarray:
        return self.cascade._thresholds(threshold, budget)

    def answers(self, X: Any, thresholds: np.ndarray, *, with_probabilities: bool) -> Answers:
        found = self.cascade._answers(X, thresholds, with_probabilities=with_probabilities)
        return replace(found, labels=self.cascade._decoded(found.labels))


def fitted_of(model: Any, n_threads: int) -> FittedEstimator | ExportedModel:
    """The model that the user gives, which may be the path of a file.

    Parameters
    ----------
    model : estimator, Pipeline, OnnxCascade, str or path-like
    n_threads : int
        Number of threads with which a file is executed.
    """
    if isinstance(model, str | os.PathLike):
        # A worker may be in another folder.
        model = OnnxCascade(os.path.abspath(model), n_threads=n_threads)
    return ExportedModel(model) if isinstance(model, OnnxCascade) else FittedEstimator(model)

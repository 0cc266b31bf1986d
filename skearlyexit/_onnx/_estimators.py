"""Conversion of scikit-learn estimators to ONNX."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from skearlyexit._onnx._boosting import convert_boosting
from skearlyexit._onnx._convert import are_close, batches, open_session
from skearlyexit._onnx._graph import CLASSICAL_OPSET, OPSET, ExportError, Graph


def add_estimator(
    graph: Graph,
    vectors: str,
    estimator: Any,
    method: str,
    example: np.ndarray,
    what: str,
    *,
    scale: np.ndarray | None = None,
) -> str:
    """Add a method of a fitted scikit-learn estimator to a graph.

    Parameters
    ----------
    graph : Graph
        Builder of the graph.
    vectors : str
        Name of the vectors, shape (n_samples, n_features).
    estimator : fitted classifier, regressor or pipeline
    method : {"predict_proba", "predict"}
        The method: `predict_proba` of a classifier, or `predict` of a regressor.
    example : ndarray of shape (n_samples, n_features)
        Several vectors, on which results are compared.
    what : str
        Name of the estimator in errors.
    scale : ndarray of shape (n_outputs,), default=None
        Scale of results that may be far from 0, and with which differences are compared. None for
        results whose size is about 1.

    Returns
    -------
    found : str
        Name of the results, shape (n_samples, n_outputs), double precision.

    Raises
    ------
    ExportError
        If ``skl2onnx`` does not support the estimator, or results differ.
    """
    rows = example.astype(np.float32)
    model = graph.once(
        estimator, lambda: from_estimator(estimator, method, rows, what, scale), method
    )
    try:
        *_, found = graph.insert(model, [graph.cast(vectors, np.float32)])
    except ExportError as error:
        raise ExportError(f"{what} cannot be converted to ONNX: {error}") from error
    return graph.cast(found, np.float64)


def from_estimator(
    estimator: Any,
    method: str,
    example: np.ndarray,
    what: str,
    scale: np.ndarray | None = None,
) -> Any:
    """Convert a method of a fitted scikit-learn estimator; see `add_estimator`.

    Parameters
    ----------
    estimator, method, what, scale
        As in `add_estimator`.
    example : ndarray of shape (n_samples, n_features), float32
        Several vectors, on which results are compared.

    Returns
    -------
    model : onnx.ModelProto
        Model from vectors in single precision to the results, after the labels of a classifier.
    """
    try:
        from skl2onnx import convert_sklearn
        from skl2onnx.common.data_types import FloatTensorType
    except ImportError as error:
        raise ImportError(
            "scikit-learn estimators in ONNX require skl2onnx. Install it with "
            "python -m pip install 'skearlyexit[onnx]'."
        ) from error
    if not hasattr(estimator, method):
        raise ExportError(f"{what} without {method} cannot be converted to ONNX.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = convert_sklearn(
                estimator,
                initial_types=[("vectors", FloatTensorType([None, example.shape[1]]))],
                options={id(estimator): {"zipmap": False}} if method == "predict_proba" else None,
                custom_conversion_functions={
                    HistGradientBoostingClassifier: convert_boosting,
                    HistGradientBoostingRegressor: convert_boosting,
                },
                target_opset={"": OPSET, "ai.onnx.ml": CLASSICAL_OPSET},
            )
    except Exception as error:
        reason = str(error)[:300]
        raise ExportError(f"{what} cannot be converted to ONNX: {reason}") from error
    _compare(model, getattr(estimator, method), example, what, scale)
    return model


def _compare(
    model: Any,
    predict: Callable[[np.ndarray], Any],
    example: np.ndarray,
    what: str,
    scale: np.ndarray | None,
) -> None:
    """Raise an error if the results of a converted estimator are not the same."""
    session = open_session(model, what)

    def results(rows: np.ndarray) -> list[np.ndarray]:
        try:
            expected = predict(example[rows].astype(np.float64))
            *_, found = session.run(None, {"vectors": example[rows]})
        except Exception as error:
            raise ExportError(f"{what} fails for {len(rows)} samples: {error}") from error
        return [np.asarray(each, float).reshape(len(rows), -1) for each in (expected, found)]

    center: Any = 0.0
    if scale is not None:
        center = results(np.arange(len(example)))[0].mean(axis=0)
    for rows in batches(len(example)):
        here, there = (
            (each - center) / (1.0 if scale is None else scale) for each in results(rows)
        )
        if not are_close(here, there):
            raise ExportError(
                f"{what} was converted to ONNX, which computes in single precision, but its "
                f"predictions for {len(rows)} random samples differ from those of scikit-learn."
            )

"""Conversion of torch modules and scikit-learn classifiers to ONNX."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier

from skearlyexit._onnx._boosting import convert_boosting
from skearlyexit._onnx._graph import CLASSICAL_OPSET, OPSET, ExportError, Graph, import_onnx
from skearlyexit._utils._locks import ForkSafeLock

#: The exporter of torch changes the state of the process.
_exporting = ForkSafeLock()


def from_module(module: torch.nn.Module, example: Any, what: str) -> Any:
    """Convert a module that maps a batch to tensors.

    Parameters
    ----------
    module : torch.nn.Module
        Module in evaluation mode.
    example : Tensor, or tuple of Tensor
        A batch of several samples, on which results are compared. Batches of any size can be
        computed.
    what : str
        Name of the module in errors.

    Returns
    -------
    model : onnx.ModelProto
        Model without functions.

    Raises
    ------
    ExportError
        If torch cannot export the module, or results differ.
    """
    import_onnx()
    n_rows = torch.export.Dim("n_rows")
    each = {0: n_rows}
    shapes = tuple(each for _ in example) if isinstance(example, tuple) else each
    try:
        with _exporting, warnings.catch_warnings(), torch.no_grad(), _errors_only():
            warnings.simplefilter("ignore")
            # By itself, for if this fails, torch.onnx.export tries others that fix the batch size.
            exported = torch.export.export(module, (example,), dynamic_shapes=(shapes,))
            program = torch.onnx.export(exported, dynamo=True, opset_version=OPSET, verbose=False)
    except ImportError:
        raise
    except Exception as error:
        raise ExportError(f"{what} cannot be converted to ONNX by torch: {error}") from error
    assert program is not None
    model = program.model_proto
    if model.functions:
        raise ExportError(f"{what} cannot be converted to ONNX: it contains functions.")
    _compare(model, module, example, what)
    return model


@contextmanager
def _errors_only() -> Iterator[None]:
    """Context in which the exporter of torch logs errors only."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        yield
    finally:
        exporter.setLevel(level)


def _compare(model: Any, module: torch.nn.Module, example: Any, what: str) -> None:
    """Raise an error if a converted module does not compute the same in batches of any size."""
    parts = example if isinstance(example, tuple) else (example,)
    session = _session(model)
    names = [each.name for each in session.get_inputs()]
    for rows in _batches(len(parts[0])):
        batch = [part[rows] for part in parts]
        try:
            with torch.no_grad():
                expected = module(tuple(batch) if isinstance(example, tuple) else batch[0])
            given = (each.numpy() for each in batch)
            found = session.run(None, dict(zip(names, given, strict=True)))
        except Exception as error:
            raise ExportError(f"{what} fails for a batch of {len(rows)}: {error}") from error
        if isinstance(expected, torch.Tensor):
            expected = (expected,)
        for here, there in zip(expected, found, strict=True):
            if not _close(here.numpy(), there):
                raise ExportError(
                    f"{what} was converted to ONNX, but its results for a batch of {len(rows)} "
                    "random samples differ from those of torch. A module must map samples "
                    "independently of their number, and compute the same when torch exports it."
                )


def _session(model: Any) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _batches(n_rows: int) -> list[np.ndarray]:
    """Indices of samples in batches of 1, 2, 3 and all samples."""
    return [np.arange(size, 2 * size) % n_rows for size in (1, 2, 3, n_rows)]


def _close(expected: np.ndarray, found: np.ndarray) -> bool:
    """Whether two arrays are equal up to errors in single precision, relative to the largest."""
    finite = expected[np.isfinite(expected)]
    scale = max(1.0, float(np.abs(finite).max(initial=0.0)))
    return expected.shape == found.shape and np.allclose(
        expected, found, rtol=1e-3, atol=1e-4 * scale, equal_nan=True
    )


def add_softmax(graph: Graph, logits: str) -> str:
    """Add the softmax of logits of shape (n_samples, n_classes), in double precision."""
    # In the precision of the logits, in which ONNX Runtime is several times faster. The division
    # makes probabilities close to 1 as precise as those of the other classes.
    shares = graph.cast(graph.op("Softmax", logits, axis=1), np.float64)
    return graph.op("Div", shares, graph.op("ReduceSum", shares, graph.constant([1])))


class KnownClasses(Protocol):
    """A fitted classifier that may not know all classes."""

    model: Any
    columns: np.ndarray
    n_classes: int


def add_classifier(
    graph: Graph, vectors: str, classifier: KnownClasses, example: np.ndarray, what: str
) -> str:
    """Add a fitted scikit-learn classifier to a graph.

    Parameters
    ----------
    graph : Graph
        Builder of the graph.
    vectors : str
        Name of the vectors, shape (n_samples, n_features).
    classifier : BatchInvariantClassifier
        The classifier. Classes that it does not know have probability 0.
    example : ndarray of shape (n_samples, n_features)
        Several vectors, on which probabilities are compared.
    what : str
        Name of the classifier in errors.

    Returns
    -------
    probabilities : str
        Name of the probabilities, shape (n_samples, n_classes), double precision.

    Raises
    ------
    ExportError
        If the classifier cannot be converted.
    """
    columns = np.zeros((len(classifier.columns), classifier.n_classes))
    columns[np.arange(len(columns)), classifier.columns] = 1.0
    if len(columns) == 1:  # a class that is the only one has probability 1
        n_rows = graph.op("Shape", vectors, start=0, end=1)
        shape = graph.op("Concat", n_rows, graph.constant([classifier.n_classes]), axis=0)
        return graph.op("Expand", graph.constant(columns), shape)
    model = from_classifier(classifier.model, example.astype(np.float32), what)
    try:
        _, known = graph.insert(model, [graph.cast(vectors, np.float32)])
    except ExportError as error:
        raise ExportError(f"{what} cannot be converted to ONNX: {error}") from error
    return graph.op("MatMul", graph.cast(known, np.float64), graph.constant(columns))


def from_classifier(estimator: Any, example: np.ndarray, what: str) -> Any:
    """Convert a fitted scikit-learn classifier with `predict_proba`.

    Parameters
    ----------
    estimator : fitted classifier or pipeline
    example : ndarray of shape (n_samples, n_features), float32
        Several vectors, on which probabilities are compared.
    what : str
        Name of the estimator in errors.

    Returns
    -------
    model : onnx.ModelProto
        Model from vectors in single precision to labels and probabilities.

    Raises
    ------
    ExportError
        If ``skl2onnx`` does not support the estimator, or probabilities differ.
    """
    try:
        from skl2onnx import convert_sklearn
        from skl2onnx.common.data_types import FloatTensorType
    except ImportError as error:
        raise ImportError(
            "scikit-learn estimators in ONNX require skl2onnx. Install it with "
            "python -m pip install 'skearlyexit[onnx]'."
        ) from error
    if not hasattr(estimator, "predict_proba"):
        raise ExportError(f"{what} without predict_proba cannot be converted to ONNX.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = convert_sklearn(
                estimator,
                initial_types=[("vectors", FloatTensorType([None, example.shape[1]]))],
                options={id(estimator): {"zipmap": False}},
                custom_conversion_functions={HistGradientBoostingClassifier: convert_boosting},
                target_opset={"": OPSET, "ai.onnx.ml": CLASSICAL_OPSET},
            )
    except Exception as error:
        reason = str(error)[:300]
        raise ExportError(f"{what} cannot be converted to ONNX: {reason}") from error
    _compare_classifier(model, estimator, example, what)
    return model


def _compare_classifier(model: Any, estimator: Any, example: np.ndarray, what: str) -> None:
    """Raise an error if a converted classifier does not predict the same probabilities."""
    session = _session(model)
    for rows in _batches(len(example)):
        try:
            expected = estimator.predict_proba(example[rows].astype(np.float64))
            _, found = session.run(None, {"vectors": example[rows]})
        except Exception as error:
            raise ExportError(f"{what} fails for {len(rows)} samples: {error}") from error
        if not _close(np.asarray(expected), found):
            raise ExportError(
                f"{what} was converted to ONNX, but its probabilities for {len(rows)} random "
                "samples differ from those of scikit-learn."
            )

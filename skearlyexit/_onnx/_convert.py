"""Conversion of torch modules to ONNX, and comparison of conversions with the originals."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from skearlyexit._onnx._graph import OPSET, ExportError, Graph, import_onnx
from skearlyexit._onnx._modules import known_module
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
    model = known_module(module, example)
    if model is None:
        model = _exported(module, example, what)
    _compare(model, module, example, what)
    return model


def _exported(module: torch.nn.Module, example: Any, what: str) -> Any:
    """Convert a module by the exporter of torch."""
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
    session = open_session(model)
    names = [each.name for each in session.get_inputs()]
    for rows in batches(len(parts[0])):
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
            if not are_close(here.numpy(), there):
                raise ExportError(
                    f"{what} was converted to ONNX, but its results for a batch of {len(rows)} "
                    "random samples differ from those of torch. A module must map samples "
                    "independently of their number, and compute the same when torch exports it."
                )


def open_session(model: Any) -> Any:
    """Session of ONNX Runtime in which a model is compared with the original."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def batches(n_rows: int) -> list[np.ndarray]:
    """Indices of samples in batches of 1, 2, 3 and all samples."""
    return [np.arange(size, 2 * size) % n_rows for size in (1, 2, 3, n_rows)]


def are_close(expected: np.ndarray, found: np.ndarray) -> bool:
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

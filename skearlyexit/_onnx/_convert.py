"""Conversion of torch modules to ONNX, and comparison of conversions with the originals."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import Any

import numpy as np
import torch

from skearlyexit._onnx._graph import OPSET, ExportError, Graph, import_onnx
from skearlyexit._onnx._modules import known_module
from skearlyexit._utils._locks import ForkSafeLock

#: The exporter of torch changes the state of the process.
_exporting = ForkSafeLock()

#: Factor of the samples on which modules are compared as well: some conversions, such as that of
#: the logarithm of a sigmoid, are not precise for large numbers.
LARGER = 30.0


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


def insert_module(
    graph: Graph, inputs: Sequence[str], module: torch.nn.Module, example: torch.Tensor, what: str
) -> list[str]:
    """Convert a module, unless this graph knows it, and insert it; names of its outputs.

    Parameters
    ----------
    graph : Graph
        Builder of the graph.
    inputs : sequence of str
        Names of the inputs of the module.
    module, example, what
        As in `from_module`.

    Raises
    ------
    ExportError
        As in `from_module`.
    """
    model = graph.once(module, lambda: from_module(module, example, what), example.shape)
    return graph.insert(model, inputs)


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
    session = open_session(model, what)
    names = [each.name for each in session.get_inputs()]

    def compare(batch: Any, samples: str, advice: str) -> None:
        size = len(_parts(batch)[0])
        try:
            given = [each.numpy().copy() for each in _parts(batch)]  # the module may write into it
            expected = _results(module, batch)
            found = session.run(None, dict(zip(names, given, strict=True)))
        except Exception as error:
            raise ExportError(f"{what} fails for a batch of {size}: {error}") from error
        for here, there in zip(expected, found, strict=True):
            if not are_close(here, there):
                raise ExportError(
                    f"{what} was converted to ONNX, but its results for a batch of {size} "
                    f"{samples} differ from those of torch. {advice}"
                )

    alike = (
        "A module must map samples independently of their number, and compute the same when torch "
        "exports it."
    )
    for rows in batches(len(_parts(example)[0])):
        compare(_each(example, itemgetter(rows)), "random samples", alike)
    larger = _each(example, lambda part: part * LARGER if part.is_floating_point() else part)
    if _is_finite(module, larger):
        precise = (
            "Some operations, such as the logarithm of a sigmoid, are not precise for large "
            "numbers in ONNX Runtime. Give a module without them."
        )
        compare(larger, f"samples of numbers {LARGER:g} times as large", precise)


def _parts(batch: Any) -> tuple[torch.Tensor, ...]:
    """The tensors of a tensor, or of a tuple of them."""
    return batch if isinstance(batch, tuple) else (batch,)


def _each(batch: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The result for a tensor, or a tuple of those for the tensors of a tuple."""
    return tuple(map(function, batch)) if isinstance(batch, tuple) else function(batch)


def _results(module: torch.nn.Module, batch: Any) -> list[np.ndarray]:
    """Results of a module, which may write into the batch."""
    with torch.no_grad():
        return [each.numpy() for each in _parts(module(batch))]


def _is_finite(module: torch.nn.Module, batch: Any) -> bool:
    """Whether a module takes a batch, with results that are finite."""
    try:
        found = _results(module, _each(batch, torch.clone))
    except Exception:
        return False
    return all(np.isfinite(each).all() for each in found)


def open_session(model: Any, what: str) -> Any:
    """Session of ONNX Runtime in which a model is compared with the original.

    Raises
    ------
    ExportError
        If ONNX Runtime cannot run the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise ExportError(
            f"{what} was converted to ONNX, but ONNX Runtime cannot run it. Some layers are "
            f"implemented in single precision only (dtype='float32'): {error}"
        ) from error


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

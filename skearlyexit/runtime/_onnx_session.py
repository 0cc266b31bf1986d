"""Execution of an exported cascade with ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from skearlyexit._cascade._cascade import Cascade, FittedNetwork
from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._determinism._softmax import softmax
from skearlyexit._output_kind import KINDS
from skearlyexit._utils._interrupts import quietly
from skearlyexit._utils._locks import ForkSafeLock
from skearlyexit._utils._not_finite import OutputsNotFiniteError, relocated
from skearlyexit.calibration import CalibratedPoint
from skearlyexit.calibration._base import no_early_exits
from skearlyexit.runtime._driver import Answers
from skearlyexit.runtime._onnx import METADATA, as_metadata
from skearlyexit.runtime._onnx_graphs import (
    INPUT,
    THRESHOLDS,
    BatchGraph,
    CascadeGraph,
    SampleGraph,
)
from skearlyexit.runtime._onnx_parts import LOGITS, ConvertedParts

#: Maximum size of the largest embeddings or outputs of the samples of a call of ONNX Runtime, and
#: bounds of their number. For images of 28 x 28, calls of 4,096 samples took 1.3 times as long as
#: calls of 512. For a table of 16 features, they took 2.7 times as long as calls of 1,024, and
#: those of 64 samples 1.9 times. For 2,000 classes, calls of 1,024 samples took 1.7 times as long
#: as calls of 64, and 170 MiB more memory.
CALL_BYTES = 2**22
SMALLEST_CALL, LARGEST_CALL = 64, 1024


class Session:
    """Session of ONNX Runtime, which several threads may use.

    Parameters
    ----------
    model : str or bytes
        Path or content of a file.
    n_threads : int or None
        Number of threads on which an operation is computed. None is one for each core.

    Attributes
    ----------
    metadata : dict of str to object
        Metadata of the file. Empty if it was written by something else.
    is_single : bool
        Whether the model takes one sample in a call, and its thresholds are fixed.

    Raises
    ------
    ImportError
        If ``onnxruntime`` is not installed.
    """

    def __init__(self, model: str | bytes, n_threads: int | None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError(
                "ONNX Runtime is required. Install it with python -m pip install onnxruntime."
            ) from error
        options = onnxruntime.SessionOptions()
        # The thresholds have a default, and it warns that they are therefore not constant.
        options.log_severity_level = 3
        if n_threads is not None:
            options.intra_op_num_threads = int(n_threads)
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            what = repr(model) if isinstance(model, str) else "The exported model"
            raise ValueError(f"{what} cannot be read by ONNX Runtime: {error}") from error
        stored = self._session.get_modelmeta().custom_metadata_map
        self.metadata: dict[str, Any] = {
            key.removeprefix(METADATA): json.loads(value)
            for key, value in stored.items()
            if key.startswith(METADATA)
        }
        self._outputs = [each.name for each in self._session.get_outputs()]
        self._has_logits = LOGITS in self._outputs
        n_rows = CALL_BYTES // self.metadata.get("row_bytes", CALL_BYTES)
        self._n_rows = max(SMALLEST_CALL, min(LARGEST_CALL, n_rows))
        self.is_single = self._session.get_inputs()[0].shape[:1] == [1]
        if self.is_single:
            self._n_rows = 1

    def run(self, X: Any, thresholds: np.ndarray, *, with_probabilities: bool = False) -> Answers:
        """Predict for all samples.

        Parameters
        ----------
        X : ndarray of shape (n_samples, ...)
            At least one sample, of the shape and precision of the model.
        thresholds : ndarray of shape (n_exits - 1,)
            Thresholds of all exits but the last. Not used if those of the model are fixed.
        with_probabilities : bool, default=False
            Whether to return predicted probabilities in addition to labels.

        Returns
        -------
        answers : Answers
            Predictions of the model, exits and, if requested, probabilities.

        Raises
        ------
        OutputsNotFiniteError
            If outputs are not valid. It contains all such samples.
        """
        given = {THRESHOLDS: thresholds} if len(thresholds) and not self.is_single else {}
        if len(X) <= self._n_rows:
            # Samples that are read as they are needed are arrays once they are sliced.
            return Answers(*self._called(X[: len(X)], given, with_probabilities))
        calls, failed = [], []
        for start in range(0, len(X), self._n_rows):
            rows = X[start : start + self._n_rows]
            try:
                calls.append(self._called(rows, given, with_probabilities))
            except OutputsNotFiniteError as error:
                failed.append(relocated(error, np.arange(start, start + len(rows))))
        if failed:
            positions = np.concatenate([error.positions for error in failed])
            raise OutputsNotFiniteError(failed[0].what, positions)
        return Answers(*map(np.concatenate, zip(*calls, strict=True)))

    def _called(
        self, rows: np.ndarray, given: dict[str, np.ndarray], with_probabilities: bool
    ) -> tuple[np.ndarray, ...]:
        """Predictions, exits and, if requested, probabilities for the samples of one call."""
        given = {INPUT: np.ascontiguousarray(rows), **given}
        returned = self._session.run(self._outputs, given)
        *_, outputs, exits = returned  # the outputs are the predictions if nothing else is
        outputs = self._checked(outputs, with_probabilities)
        # Those of all samples take most of the memory if there are many classes.
        return (returned[0], exits, outputs) if with_probabilities else (returned[0], exits)

    def _checked(self, found: np.ndarray, with_probabilities: bool) -> np.ndarray:
        """Outputs, or what the session returned for them if they are not needed.

        Raises
        ------
        OutputsNotFiniteError
            If outputs are not valid.
        """
        if self._has_logits:
            if not with_probabilities and np.logical_and.reduce(np.isfinite(found), axis=None):
                return found
            logits = found
            found = quietly(lambda: softmax(logits), "invalid")
        KINDS[self.metadata["kind"]].check(found, "The outputs are")
        return found


def compiled(network: FittedNetwork, exit_rule: ExitRule, row_shape: tuple[int, ...]) -> Session:
    """Session of a fitted network and its exit rule, whose predictions are not decoded.

    Raises
    ------
    ExportError
        If a part cannot be converted.
    """
    return _of_any(ConvertedParts(network, exit_rule, row_shape))


def _of_any(parts: ConvertedParts) -> Session:
    """Session for any number of samples."""
    return _opened(BatchGraph(parts, no_early_exits(parts.n_exits)))


def _opened(graph: CascadeGraph) -> Session:
    """Session whose predictions are not decoded."""
    model = graph.model(None, as_metadata(graph.parts.network, {}))
    return Session(model.SerializeToString(), torch.get_num_threads())


def check_point(point: CalibratedPoint, other: str) -> None:
    """Raise a ValueError if ONNX Runtime cannot run at an operating point, but another runtime."""
    if point.strict_budget is not None:
        raise ValueError(
            "A strict budget requires the scores of all samples of a batch, which runtime='onnx' "
            f"does not compute. Set runtime={other!r}."
        )


#: Conversions change the state of the process, so that one thread converts at a time.
_compiling = ForkSafeLock()

#: Returns the network of a cascade, or its estimators as a network, and the shape of a sample.
Convertible = Callable[[], tuple[FittedNetwork, tuple[int, ...]]]


def session_of(cascade: Cascade, convertible: Convertible) -> Session:
    """Session of a cascade, which is compiled in the first call, by one of several threads.

    Parameters
    ----------
    cascade : Cascade
        Fitted cascade, in which the session is kept.
    convertible : callable
        Returns what is converted.

    Raises
    ------
    ExportError
        If a part cannot be converted.
    """
    known = cascade.compiled
    if "onnx" not in known:
        with _compiling:
            if "onnx" not in known:
                network, row_shape = convertible()
                known["onnx"] = compiled(network, cascade.exit_rule, row_shape)
    session: Session = known["onnx"]
    return session


def sessions_at(
    cascade: Cascade, convertible: Convertible, thresholds: np.ndarray
) -> tuple[Session, Session]:
    """Session of a cascade, and another one for a single sample at some thresholds.

    Parameters
    ----------
    cascade, convertible
        As in `session_of`. The second session is not kept.
    thresholds : ndarray of shape (n_exits - 1,)
        Thresholds of the second session. Without early exits, it is the first one.

    Raises
    ------
    ExportError
        If a part cannot be converted.
    """
    if not len(thresholds):
        session = session_of(cascade, convertible)
        return session, session
    known = cascade.compiled
    with _compiling:
        network, row_shape = convertible()
        parts = ConvertedParts(network, cascade.exit_rule, row_shape)
        if "onnx" not in known:
            known["onnx"] = _of_any(parts)
        return known["onnx"], _opened(SampleGraph(parts, thresholds))

"""Execution of a cascade."""

# The executors register themselves for what they run.
import skearlyexit.runtime._estimators
import skearlyexit.runtime._torch  # noqa: F401
from skearlyexit._onnx._graph import ExportError
from skearlyexit.runtime._onnx_cascade import OnnxCascade
from skearlyexit.runtime._predictor import Predictor

__all__ = ["ExportError", "OnnxCascade", "Predictor"]

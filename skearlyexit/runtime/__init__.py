"""Execution of a cascade."""

from skearlyexit._onnx._graph import ExportError
from skearlyexit.runtime._onnx_cascade import OnnxCascade
from skearlyexit.runtime._predictor import Predictor

__all__ = ["ExportError", "OnnxCascade", "Predictor"]

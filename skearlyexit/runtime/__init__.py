"""Execution of a cascade."""

from skearlyexit._onnx._graph import ExportError
from skearlyexit.runtime._onnx_cascade import OnnxCascade

__all__ = ["ExportError", "OnnxCascade"]

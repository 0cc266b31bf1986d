"""Graphs in the ONNX format."""

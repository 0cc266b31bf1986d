"""Tracing of torch modules to graphs of operations, and cutting of these into stages."""

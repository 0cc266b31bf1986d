"""Conversion of known torch modules to ONNX without the exporter of torch.

The exporter takes about a second for each stage of a network. Modules whose type is known are
converted in milliseconds; all others are left to the exporter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch

from skearlyexit._onnx._graph import OPSET, Graph, import_onnx


class UnknownModuleError(Exception):
    """Exception for a module that only the exporter of torch can convert."""


#: Adds a module to a graph, given the name of its input and an example of it; returns the name of
#: its output, or the names if there are several.
Converter = Callable[[Any, Graph, str, torch.Tensor], Any]
_CONVERTERS: dict[type, Converter] = {}
_Converter = TypeVar("_Converter", bound=Converter)


def converts(*kinds: type) -> Callable[[_Converter], _Converter]:
    """Register a function as the converter of modules of these types, but not of derived ones."""

    def register(converter: _Converter) -> _Converter:
        _CONVERTERS.update(dict.fromkeys(kinds, converter))
        return converter

    return register


def is_changed(module: torch.nn.Module) -> bool:
    """Whether a hook or a function of its own makes a module compute more than its class does."""
    hooked = module._forward_hooks or module._forward_pre_hooks
    return bool(hooked) or "forward" in vars(module)


def add_module(graph: Graph, module: torch.nn.Module, tensor: str, example: torch.Tensor) -> Any:
    """Add a module in evaluation mode to a graph.

    Parameters
    ----------
    graph : Graph
        Graph to add it to.
    module : torch.nn.Module
        Module that maps a batch to a tensor.
    tensor : str
        Name of its input.
    example : Tensor of shape (n_samples, ...)
        An example of its input.

    Returns
    -------
    name : str
        Name of its output.

    Raises
    ------
    UnknownModuleError
        If no converter is registered for its type, or the module was changed by a hook or a
        function of its own.
    """
    if type(module) not in _CONVERTERS or is_changed(module):
        raise UnknownModuleError(type(module).__name__)
    return _CONVERTERS[type(module)](module, graph, tensor, example)


def add_in_turn(graph: Graph, modules: Any, tensor: str, example: torch.Tensor) -> str:
    """Add modules each of which gets the output of the one before; name of the last output."""
    for module in modules:
        tensor = add_module(graph, module, tensor, example)
        with torch.no_grad():
            example = module(example.clone())  # which the module may change in place
    return tensor


def known_module(module: torch.nn.Module, example: Any) -> Any:
    """Convert a module to an ``onnx.ModelProto``, or return None if it is not known.

    Parameters
    ----------
    module : torch.nn.Module
        Module in evaluation mode.
    example : Tensor, or tuple of Tensor
        A batch of several samples.
    """
    if not isinstance(example, torch.Tensor):
        return None
    helper = import_onnx().helper
    graph = Graph()
    try:
        found = add_module(graph, module, "input", example)
        with torch.no_grad():
            outputs = module(example.clone())
    except UnknownModuleError:
        return None
    if isinstance(found, str):
        found, outputs = [found], [outputs]

    def info(name: str, of: torch.Tensor) -> Any:
        kind = helper.np_dtype_to_tensor_dtype(of.detach().numpy().dtype)
        return helper.make_tensor_value_info(name, kind, ["n_rows", *of.shape[1:]])

    # The outputs of a graph are different outputs of its nodes, also if two are the same.
    named = [graph.op("Identity", each) for each in found]
    return helper.make_model(
        helper.make_graph(
            graph.nodes,
            "module",
            [info("input", example)],
            [info(name, of) for name, of in zip(named, outputs, strict=True)],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=9,
    )


def constant(graph: Graph, values: torch.Tensor) -> str:
    """Add a tensor of a module to a graph as a constant; its name."""
    return graph.constant(values.detach().cpu().numpy())


def add_convolution(
    graph: Graph, layer: torch.nn.Conv2d, tensor: str, weight: torch.Tensor, bias: Any
) -> str:
    """Add a convolution with other weights than those of the layer to a graph."""
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        raise UnknownModuleError("a convolution with another padding than zeros")
    weights = [weight.contiguous()] if bias is None else [weight.contiguous(), bias]
    return graph.op(
        "Conv",
        tensor,
        *(constant(graph, each) for each in weights),
        kernel_shape=list(layer.kernel_size),
        strides=list(layer.stride),
        pads=list(layer.padding) * 2,
        dilations=list(layer.dilation),
        group=layer.groups,
    )


@converts(torch.nn.Sequential)
def _(module: torch.nn.Sequential, graph: Graph, tensor: str, example: torch.Tensor) -> str:
    return add_in_turn(graph, module, tensor, example)


@converts(torch.nn.Identity, torch.nn.Dropout)
def _(module: torch.nn.Module, graph: Graph, tensor: str, example: torch.Tensor) -> str:
    return tensor


@converts(torch.nn.ReLU)
def _(module: torch.nn.ReLU, graph: Graph, tensor: str, example: torch.Tensor) -> str:
    return graph.op("Relu", tensor)


@converts(torch.nn.Flatten)
def _(module: torch.nn.Flatten, graph: Graph, tensor: str, example: torch.Tensor) -> str:
    if (module.start_dim, module.end_dim) != (1, -1):
        raise UnknownModuleError("a Flatten of some axes")
    return tensor if example.ndim == 2 else graph.op("Flatten", tensor, axis=1)


@converts(torch.nn.Linear)
def _(module: torch.nn.Linear, graph: Graph, tensor: str, example: torch.Tensor) -> str:
    if example.ndim != 2:
        raise UnknownModuleError("a Linear of the last of several axes")
    weights = [module.weight] if module.bias is None else [module.weight, module.bias]
    return graph.op("Gemm", tensor, *(constant(graph, each) for each in weights), transB=1)


@converts(torch.nn.Conv2d)
def _(module: torch.nn.Conv2d, graph: Graph, tensor: str, example: torch.Tensor) -> str:
    return add_convolution(graph, module, tensor, module.weight, module.bias)


@converts(torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)
def _(module: Any, graph: Graph, tensor: str, example: torch.Tensor) -> str:
    if module.running_mean is None:
        raise UnknownModuleError("a normalization by the batch")
    mean, variance = module.running_mean, module.running_var
    scale = torch.ones_like(mean) if module.weight is None else module.weight
    shift = torch.zeros_like(mean) if module.bias is None else module.bias
    values = (constant(graph, each) for each in (scale, shift, mean, variance))
    return graph.op("BatchNormalization", tensor, *values, epsilon=module.eps)


def reshaped(graph: Graph, tensor: str, shape: tuple[int, ...]) -> str:
    """Reshape samples, whose number stays as it is; name of the result."""
    return graph.op("Reshape", tensor, graph.constant(np.array([0, *shape], dtype=np.int64)))

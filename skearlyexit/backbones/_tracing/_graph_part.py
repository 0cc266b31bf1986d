"""Parts of a traced network, as torch modules."""

from __future__ import annotations

import types
from collections.abc import Collection
from functools import partial
from importlib import import_module
from typing import Any, ClassVar

import torch
from torch import fx

from skearlyexit.backbones._stage import Block
from skearlyexit.backbones._tracing._modes import MODE


class GraphPart(torch.nn.Module):
    """Runs some operations of a traced network, and shares its weights.

    `torch.fx.GraphModule` is similar, but traces its code again whenever it is pickled or copied,
    and then loses the operations that read the training mode.

    Parameters
    ----------
    graph : torch.fx.Graph
    root : torch.nn.Module
        Network whose submodules and parameters the graph refers to by name. Those are shared, and
        keep their names.
    in_evaluation : collection of str, default=()
        Submodules that stay in evaluation mode when the others are trained.
    """

    #: In graphs made by `Layout.copy`, input that would be changed in place is copied first.
    keeps_input: ClassVar[bool] = True

    def __init__(
        self, graph: fx.Graph, root: torch.nn.Module, in_evaluation: Collection[str] = ()
    ) -> None:
        super().__init__()
        self.training = root.training
        used = [node for node in graph.nodes if node.op in ("call_module", "get_attr")]
        # A module before its submodules, which are then present already.
        for target in sorted({str(node.target) for node in used} - {MODE}, key=len):
            _share(root, self, target)
        kept = {id(root.get_submodule(name)) for name in in_evaluation}
        self._in_evaluation = [module for module in self.modules() if id(module) in kept]
        code = graph.python_code("self")
        lines = code.src.splitlines()
        # Without the lines that register functions for later tracing.
        self._source = "\n".join(line for line in lines if not line.startswith("torch.fx.")).strip()
        self._used_globals = dict(code.globals)
        self._called = {str(node.target) for node in used if node.op == "call_module"}
        self._compile()

    def _compile(self) -> None:
        space = dict(self._used_globals)
        exec(compile(self._source, "<part of a traced network>", "exec"), space)
        self._function = partial(space["forward"], _shortcuts(self, self._called))

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_function"]
        state["_used_globals"] = {
            name: _ModuleName(value.__name__) if isinstance(value, types.ModuleType) else value
            for name, value in self._used_globals.items()
        }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._used_globals = {
            name: import_module(value) if isinstance(value, _ModuleName) else value
            for name, value in self._used_globals.items()
        }
        self._compile()

    def train(self, mode: bool = True) -> GraphPart:
        """Set training or evaluation mode, as the whole network does."""
        super().train(mode)
        for module in self._in_evaluation:
            module.eval()
        return self

    def forward(self, carry: Any) -> Any:
        """Run the operations."""
        parts = carry if isinstance(carry, tuple) else (carry,)
        return self._function(*parts)


class GraphStage(GraphPart, Block):
    """Part of a traced network between two exits.

    Notes
    -----
    **Shape**: carry of n samples to (carry of n samples, embedding of shape (n, ...)).
    """


class _Shortcut:
    """Object in place of a module in generated code, with submodules as plain attributes.

    ``torch.nn.Module`` looks up its submodules in Python code, which takes as long as a small
    operation.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        # Not stored, since parameters and the mode may be others in the next call.
        return getattr(self._module, name)


def _shortcuts(part: torch.nn.Module, called: set[str]) -> _Shortcut:
    """Shortcut to a part, through which the submodules that it calls are found."""
    root = _Shortcut(part)
    for target in sorted(called, key=len):
        *path, name = target.split(".")
        at: Any = root
        for step in path:
            if step not in vars(at):
                setattr(at, step, _Shortcut(getattr(at, step)))
            at = vars(at)[step]
            if isinstance(at, torch.nn.Module):
                break  # called itself, and found from there
        else:
            setattr(at, name, part.get_submodule(target))
    return root


class _ModuleName(str):
    """Name of a Python module in a pickled part."""


def _share(root: torch.nn.Module, part: torch.nn.Module, target: str) -> None:
    """Share the attribute of this name of the root with a part, unless the part has it."""
    *path, name = target.split(".")
    for step in path:
        if not hasattr(part, step):
            setattr(part, step, torch.nn.Module())
        root, part = getattr(root, step), getattr(part, step)
    if hasattr(part, name):
        return
    value = getattr(root, name)
    if name in root._buffers:
        part.register_buffer(name, value, persistent=name not in root._non_persistent_buffers_set)
    else:
        setattr(part, name, value)

"""Where a traced network can be cut, and which values each cut has to pass on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import fx

from skearlyexit.backbones._tracing._modes import choose
from skearlyexit.backbones._tracing._proxy import Value, draws


class Layout:
    """The operations of a network in order, and the values needed across each cut.

    Parameters
    ----------
    nodes : sequence of Node
        Operations as returned by `trace`, the input first.
    returned : Node
        Operation whose value the network returns.
    """

    def __init__(self, nodes: Sequence[fx.Node], returned: fx.Node) -> None:
        self.nodes, self.returned = list(nodes), returned
        self.position = {node: i for i, node in enumerate(self.nodes)}
        self.values: dict[fx.Node, Value] = {node: node.meta["value"] for node in self.nodes}
        self._free: dict[fx.Node, bool] = {}
        self._learned: dict[fx.Node, bool] = {}

    @cached_property
    def last_use(self) -> list[int]:
        """Position of the last operation that uses each value; past the end if it is returned."""
        last = [
            max((self.position.get(user, -1) for user in node.users), default=-1)
            for node in self.nodes
        ]
        last[self.position[self.returned]] = len(self.nodes)
        return last

    @cached_property
    def last_write(self) -> dict[int, int]:
        """Position of the last operation that changes each piece of memory in place."""
        return {piece: i for i, node in enumerate(self.nodes) for piece in self._written_by(node)}

    def _written_by(self, node: fx.Node) -> set[int]:
        return {piece for each in node.meta["writes"] for piece in self.values[each].memory}

    def _maybe_written_by(self, node: fx.Node) -> set[int]:
        """Memory as in `_written_by`, and that which untraced modules and functions may change."""
        given = node.all_input_nodes if node.meta.get("may_write") else ()
        return self._written_by(node).union(*(self.values[each].memory for each in given))

    def crossing(self, cut: int) -> tuple[list[fx.Node], list[fx.Node]]:
        """Values that a cut after the operation at a position has to pass on.

        Parameters
        ----------
        cut : int
            Position of the operation.

        Returns
        -------
        carried : list of Node
            Tensors with one entry for each sample.
        obstacles : list of Node
            Values that can neither be passed on nor computed again after the cut.
        """
        carried, obstacles = [], []
        for node, last in zip(self.nodes[: cut + 1], self.last_use, strict=False):
            if last <= cut:
                continue
            if self.values[node].is_rows:
                carried.append(node)
            elif not self.is_free(node):
                obstacles.append(node)
        # Two views of the same memory become separate copies once samples are selected from each.
        shared = Counter(piece for node in carried for piece in self.values[node].memory)
        torn = {piece for piece, n in shared.items() if n > 1 and self._changes_after(piece, cut)}
        obstacles += [node for node in carried if self.values[node].memory & torn]
        return carried, obstacles

    def _changes_after(self, piece: int, cut: int) -> bool:
        return self.last_write.get(piece, -1) > cut

    def is_free(self, node: fx.Node) -> bool:
        """Whether a value is determined by the number of samples and the network alone."""
        if node not in self._free:
            self._free[node] = self._can_be_made_anew(node)
        return self._free[node]

    def is_learned(self, node: fx.Node) -> bool:
        """Whether a value depends on a submodule or an attribute of the network."""
        if not self._learned:
            for each in self.nodes:  # the inputs of an operation come before it
                self._learned[each] = each.op in ("call_module", "get_attr") or any(
                    self._learned.get(given, True) for given in each.all_input_nodes
                )
        return self._learned[node]

    def _can_be_made_anew(self, node: fx.Node) -> bool:
        value = self.values[node]
        if node.op == "get_attr" or _is_number_or_size(value):
            return True
        changes = node.meta["writes"] or any(piece in self.last_write for piece in value.memory)
        if node.op not in ("call_function", "call_method") or changes or draws(node.target):
            return False
        inputs = node.all_input_nodes
        return all(not self.values[each].is_rows and self.is_free(each) for each in inputs)

    def copy(self, start: int, stop: int, carried: Sequence[fx.Node], returned: Any) -> fx.Graph:
        """Graph of the operations between two positions.

        Parameters
        ----------
        start, stop : int
            Positions of the first operation, and of the first one after the last.
        carried : sequence of Node
            Input of the graph.
        returned : Node, or tuple of Node
            Output of the graph.

        Returns
        -------
        graph : torch.fx.Graph
        """
        graph = fx.Graph()
        copies: dict[fx.Node, Any] = {node: graph.placeholder(node.name) for node in carried}
        first = copies[carried[0]]
        inside = self.nodes[start:stop]
        changed = {piece for node in inside for piece in self._maybe_written_by(node)}
        for node in carried:
            if self.values[node].memory & changed:
                # The input may also be that of a head, or belong to the user.
                copies[node] = graph.call_method("clone", (copies[node],))

        def copied(node: fx.Node) -> Any:
            if node not in copies:
                copies[node] = self._anew(node, graph, first, copied)
            return copies[node]

        for node in inside:
            if node.op == "placeholder" or node in copies:
                continue
            is_tensor = issubclass(self.values[node].kind, torch.Tensor)
            if not (node.users or is_tensor or node.meta["writes"]):
                continue  # sizes that are not used
            copies[node] = graph.node_copy(node, copied)
        graph.output(fx.node.map_arg(returned, copied))
        return graph

    def _anew(
        self, node: fx.Node, graph: fx.Graph, first: fx.Node, copied: Callable[[fx.Node], Any]
    ) -> Any:
        """Compute a value from before a cut again, for which `is_free` holds."""
        value = self.values[node]
        if node.op == "get_attr" or node.target is choose:
            return graph.node_copy(node, copied)  # differs between training and evaluation
        if value.kind is torch.device:
            return graph.call_function(getattr, (first, "device"))
        if _is_number_or_size(value):
            n_rows = None
            sizes = []
            pairs = (
                zip(value.on_two, value.on_three, strict=True)
                if isinstance(value.on_two, tuple)
                else [(value.on_two, value.on_three)]
            )
            for two, three in pairs:
                if two == three:
                    sizes.append(two)
                else:
                    n_rows = n_rows or graph.call_method("size", (first, 0))
                    sizes.append(n_rows)
            return tuple(sizes) if isinstance(value.on_two, tuple) else sizes[0]
        return graph.node_copy(node, copied)


def _is_number_or_size(value: Value) -> bool:
    """Whether a value is a constant, the number of samples, or a size made of both."""
    if issubclass(value.kind, torch.Tensor):
        return False
    if value.kind in (torch.device, torch.dtype, type(None), str):
        return True
    two, three = value.on_two, value.on_three
    if isinstance(two, tuple) and isinstance(three, tuple) and len(two) == len(three):
        pairs = list(zip(two, three, strict=True))
    else:
        pairs = [(two, three)]
    return all(isinstance(a, int | float | bool) and (a == b or (a, b) == (2, 3)) for a, b in pairs)

"""Where a traced network can be cut, and what would have to cross each cut."""

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
    """The operations of a network in a row, and what is needed across each cut.

    Parameters
    ----------
    nodes : sequence of Node
        Operations, the input first, as `trace` gives them.
    returned : Node
        The one whose value the network returns.
    """

    def __init__(self, nodes: Sequence[fx.Node], returned: fx.Node) -> None:
        self.nodes, self.returned = list(nodes), returned
        self.position = {node: i for i, node in enumerate(self.nodes)}
        self.values: dict[fx.Node, Value] = {node: node.meta["value"] for node in self.nodes}
        self._free: dict[fx.Node, bool] = {}

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
        """The same, and what a module or function that is taken whole may write into."""
        given = node.all_input_nodes if node.meta.get("may_write") else ()
        return self._written_by(node).union(*(self.values[each].memory for each in given))

    def crossing(self, cut: int) -> tuple[list[fx.Node], list[fx.Node]]:
        """What a cut after the operation at a position has to hand on.

        Returns
        -------
        carried : list of Node
            Tensors with one entry for each row.
        obstacles : list of Node
            What can neither be handed on nor made anew behind the cut.
        """
        carried, obstacles = [], []
        for node, last in zip(self.nodes[: cut + 1], self.last_use, strict=False):
            if last <= cut:
                continue
            if self.values[node].is_rows:
                carried.append(node)
            elif not self.is_free(node):
                obstacles.append(node)
        # Two views of the same numbers are no longer the same once rows were taken out of each.
        shared = Counter(piece for node in carried for piece in self.values[node].memory)
        torn = {piece for piece, n in shared.items() if n > 1 and self._changes_after(piece, cut)}
        obstacles += [node for node in carried if self.values[node].memory & torn]
        return carried, obstacles

    def _changes_after(self, piece: int, cut: int) -> bool:
        return self.last_write.get(piece, -1) > cut

    def is_free(self, node: fx.Node) -> bool:
        """Whether a value can be told from the number of rows and the network alone."""
        if node not in self._free:
            self._free[node] = self._can_be_made_anew(node)
        return self._free[node]

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
        """Graph of the operations from one position up to, and without, another.

        Parameters
        ----------
        start, stop : int
        carried : sequence of Node
            What it is called with.
        returned : Node, or tuple of such
            What it returns.
        """
        graph = fx.Graph()
        copies: dict[fx.Node, Any] = {node: graph.placeholder(node.name) for node in carried}
        first = copies[carried[0]]
        inside = self.nodes[start:stop]
        changed = {piece for node in inside for piece in self._maybe_written_by(node)}
        for node in carried:
            if self.values[node].memory & changed:
                # What was handed on may still be looked at by a head, or be the user's.
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
        """What stands for a free value from before a cut."""
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
    """Whether it is a constant, the number of rows, or a size made of both."""
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

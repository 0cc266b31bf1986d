"""Where a traced network can be cut, and what would have to cross each cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import fx

from skearlyexit.backbones._tracing import IN_PLACE


@dataclass(frozen=True)
class Value:
    """What an operation gives, seen on two and on three rows.

    Attributes
    ----------
    kind : type
    on_two, on_three : object
        Shape of a tensor, and other values themselves.
    is_floating : bool
        Whether it is a tensor of real numbers.
    """

    kind: type
    on_two: Any
    on_three: Any
    is_floating: bool = False

    @property
    def is_rows(self) -> bool:
        """Whether it is a tensor with one entry for each row."""
        two, three = self.on_two, self.on_three
        return (
            issubclass(self.kind, torch.Tensor)
            and len(two) >= 1
            and (two[0], three[0]) == (2, 3)
            and two[1:] == three[1:]
        )

    @property
    def is_embedding(self) -> bool:
        """Whether a head could look at it."""
        return self.is_rows and self.is_floating and len(self.on_two) >= 2

    def __str__(self) -> str:
        if issubclass(self.kind, torch.Tensor):
            return (
                f"a tensor of shape {tuple(self.on_two)} for 2 rows, {tuple(self.on_three)} for 3"
            )
        return f"a {self.kind.__name__}"


class _Watch(fx.Interpreter):
    """Runs a graph and keeps of each operation what `Value` tells."""

    def __init__(self, root: torch.nn.Module, graph: fx.Graph) -> None:
        super().__init__(root, graph=graph)
        self.seen: dict[fx.Node, Any] = {}
        self.kinds: dict[fx.Node, tuple[type, bool]] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        tensor = isinstance(value, torch.Tensor)
        self.seen[n] = tuple(value.shape) if tensor else value
        self.kinds[n] = type(value), tensor and value.is_floating_point()
        return value


def watch(root: torch.nn.Module, graph: fx.Graph, rows: torch.Tensor) -> dict[fx.Node, Value]:
    """Value of each operation, for the first two and for all three rows."""
    runs = []
    for sample in (rows[:2], rows):
        run = _Watch(root, graph)
        with torch.no_grad():
            run.run(sample.clone())
        runs.append(run)
    two, three = runs
    return {
        node: Value(kind, two.seen[node], three.seen[node], floating)
        for node, (kind, floating) in two.kinds.items()
    }


class Layout:
    """The operations of a network in a row, and what is needed across each cut.

    Parameters
    ----------
    nodes : sequence of Node
        Operations, the input first.
    returned : Node
        The one whose value the network returns.
    values : dict of Node to Value
    """

    def __init__(
        self, nodes: Sequence[fx.Node], returned: fx.Node, values: dict[fx.Node, Value]
    ) -> None:
        self.nodes, self.returned, self.values = list(nodes), returned, values
        self.position = {node: i for i, node in enumerate(self.nodes)}

    @cached_property
    def last_use(self) -> list[int]:
        """Position of the last operation that uses each value; past the end if it is returned."""
        last = [
            max((self.position.get(user, -1) for user in node.users), default=-1)
            for node in self.nodes
        ]
        last[self.position[self.returned]] = len(self.nodes)
        return last

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
        return carried, obstacles

    def is_free(self, node: fx.Node) -> bool:
        """Whether a value can be told from the number of rows and the network alone."""
        value = self.values[node]
        if node.op == "get_attr" or _is_number_or_size(value):
            return True
        return (
            node.op in ("call_function", "call_method")
            and not _is_random(node)
            and bool(node.all_input_nodes)
            and all(not self.values[n].is_rows and self.is_free(n) for n in node.all_input_nodes)
        )

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
        changed = {node.args[0] for node in inside if changes_in_place(node)}
        for node in carried:
            if node in changed:
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
            if not (node.users or is_tensor or changes_in_place(node)):
                continue  # sizes that nobody looks at
            copies[node] = graph.node_copy(node, copied)
        graph.output(fx.node.map_arg(returned, copied))
        return graph

    def _anew(
        self, node: fx.Node, graph: fx.Graph, first: fx.Node, copied: Callable[[fx.Node], Any]
    ) -> Any:
        """What stands for a free value from before a cut."""
        value = self.values[node]
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


def _is_random(node: fx.Node) -> bool:
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return any(part in str(name) for part in ("rand", "dropout", "bernoulli", "normal", "uniform"))


def changes_in_place(node: fx.Node) -> bool:
    """Whether an operation changes the value that is its first argument."""
    if not node.args or not isinstance(node.args[0], fx.Node):
        return False
    is_method = isinstance(node.target, str) and node.op == "call_method"
    return bool(
        (is_method and str(node.target).endswith("_") and not str(node.target).endswith("__"))
        or node.kwargs.get("inplace")
        or node.target in IN_PLACE
        or node.meta.get("inplace")
    )

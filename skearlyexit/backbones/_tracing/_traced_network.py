"""Traced networks, and their candidates for exits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import fx

from skearlyexit.backbones._base import Network
from skearlyexit.backbones._logits import (
    NO_LAYERS,
    PROBABILITIES,
    Log,
    are_probabilities,
    notice_of_outputs,
)
from skearlyexit.backbones._stage import Block
from skearlyexit.backbones._tracing._graph_part import GraphPart, GraphStage
from skearlyexit.backbones._tracing._layout import Layout
from skearlyexit.backbones._tracing._tracer import Call

_SOFTMAX = (F.softmax, F.log_softmax, torch.softmax, torch.log_softmax)
_SOFTMAX_METHODS = ("softmax", "log_softmax")
_NO_LAYER_FUNCTIONS = (F.dropout, F.dropout1d, torch.flatten)
_NO_LAYER_METHODS = ("contiguous", "flatten", "reshape", "squeeze", "view")


@dataclass
class Place:
    """A candidate for an exit, at which a network can be cut.

    Attributes
    ----------
    position : int
        Position of the operation before the cut, whose value is the embedding.
    carried : list of Node
        Values that are passed on.
    """

    position: int
    carried: list[fx.Node]


@dataclass
class TracedNetwork(Network):
    """A network given as a graph of operations.

    Attributes
    ----------
    root : torch.nn.Module
        Module that holds all weights.
    layout : Layout
    places : list of Place
        Candidates for exits.
    in_evaluation : set of str
        Submodules that stay in evaluation mode when the others are trained.
    """

    root: torch.nn.Module
    layout: Layout
    places: list[Place]
    in_evaluation: set[str]

    def __post_init__(self) -> None:
        embeddings = [self.layout.nodes[place.position] for place in self.places]
        natural = [
            place.carried == [each] for place, each in zip(self.places, embeddings, strict=True)
        ]
        # The end is always natural. If it is the only one, all candidates are considered at which
        # something has been learned, which parts of the input, for later stages, have not.
        if sum(natural) <= 1:
            natural = [self.layout.is_learned(each) for each in embeddings]
        self.natural = natural if sum(natural) > 1 else None

    def cut(self, ends: Sequence[int]) -> list[Block]:
        stages: list[Block] = []
        start, carried = 0, self.layout.nodes[:1]
        for end in ends:
            place = self.places[end]
            embedding = self.layout.nodes[place.position]
            single = len(place.carried) == 1
            carry = place.carried[0] if single else tuple(place.carried)
            graph = self.layout.copy(start, place.position + 1, carried, (carry, embedding))
            stages.append(GraphStage(graph, self.root, self.in_evaluation))
            start, carried = place.position + 1, place.carried
        return stages

    def to(self, dtype: torch.dtype) -> None:
        self.root.to(dtype)

    def split_off_head(self, calls: Sequence[Call], n_classes: int, rows: torch.Tensor) -> None:
        """Split off a classifier at the end, which becomes the network's own head."""
        layout = self.layout
        end = layout.position[layout.returned]
        last = _before_softmax(layout.returned, self.root)
        embedding = _input_of_classifier(last, calls, self.root, layout)
        if embedding is not None and layout.values[last].on_two[1:] == (n_classes,):
            position = layout.position[embedding]
            carried, obstacles = layout.crossing(position)
            if carried == [embedding] and not obstacles:
                graph = layout.copy(position + 1, layout.position[last] + 1, carried, last)
                self.head = GraphPart(graph, self.root, self.in_evaluation)
                with torch.no_grad():
                    if are_probabilities(run_to(layout, self.root, rows, last)):
                        self.head = torch.nn.Sequential(self.head, Log())
                self._end_at(position)
                return
        if embedding is not None:
            said = notice_of_outputs(layout.values[last].on_two, n_classes)
            self.notice = f"{self.notice} {said}".strip()
        if layout.position[last] < end:
            self._end_at(layout.position[last])

    def _end_at(self, position: int) -> None:
        """Remove the operations after a position at which a single tensor is passed on."""
        kept = [i for i, place in enumerate(self.places) if place.position <= position]
        self.aliases = {name: i for name, i in self.aliases.items() if i < len(kept)}
        self.places, self.names = self.places[: len(kept)], self.names[: len(kept)]
        if not kept or self.places[-1].position < position:
            node = self.layout.nodes[position]
            self.places.append(Place(position, [node]))
            self.names.append("input" if node.op == "placeholder" else node.name)
        self.__post_init__()


def run_to(
    layout: Layout, root: torch.nn.Module, rows: torch.Tensor, returned: fx.Node
) -> torch.Tensor:
    graph = layout.copy(0, layout.position[returned] + 1, layout.nodes[:1], returned)
    return GraphPart(graph, root)(rows)


def _is_module(node: Any, kinds: tuple[type, ...], root: torch.nn.Module) -> bool:
    return node.op == "call_module" and isinstance(root.get_submodule(node.target), kinds)


def _before_softmax(node: Any, root: torch.nn.Module) -> Any:
    if (
        _is_module(node, PROBABILITIES, root)
        or node.target in _SOFTMAX
        or (node.op == "call_method" and node.target in _SOFTMAX_METHODS)
    ):
        return _first_argument(node)
    return node


def _first_argument(node: fx.Node) -> Any:
    return node.args[0] if node.args else node.kwargs.get("input")


def _input_of_classifier(
    node: Any, calls: Sequence[Call], root: torch.nn.Module, layout: Layout
) -> fx.Node | None:
    """Input of the last submodule with weights; None if another layer follows it."""
    with_weights = [call for call in calls if _has_weights(root.get_submodule(call.path))]
    while isinstance(node, fx.Node) and node in layout.position and node.op != "placeholder":
        for call in with_weights:
            inside = [c for c in with_weights if c.path.startswith(f"{call.path}.")]
            if call.output is node and not inside:
                carried, _ = layout.crossing(layout.position[call.before])
                return carried[0] if len(carried) == 1 else None
        if not (
            _is_module(node, NO_LAYERS, root)
            or node.target in _NO_LAYER_FUNCTIONS
            or (node.op == "call_method" and node.target in _NO_LAYER_METHODS)
        ):
            return None
        node = _first_argument(node)
    return None


def _has_weights(module: torch.nn.Module) -> bool:
    return any(True for _ in module.parameters())

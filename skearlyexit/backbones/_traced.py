"""Networks given by the user as a torch module, whose operations are traced."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from operator import getitem
from typing import Any

import numpy as np
import torch
from torch import fx

from skearlyexit._determinism._random import ending_turns
from skearlyexit.backbones._base import Backbone, Network
from skearlyexit.backbones._copies import copied
from skearlyexit.backbones._images import hint_of_channels, notice_of_convolutions
from skearlyexit.backbones._measure import are_close, trial_rows
from skearlyexit.backbones._tracing._layout import Layout
from skearlyexit.backbones._tracing._trace import Trace, trace
from skearlyexit.backbones._tracing._traced_network import Place, TracedNetwork, run_to
from skearlyexit.backbones._tracing._tracer import Leaf, has_hooks


class TracedBackbone(Backbone):
    """Backbone from a torch module that `torch.fx` can trace.

    Training starts with the weights of the module. The operations of the module are recorded as a
    graph, which is then cut into stages. An exit can be placed after every operation for which all
    tensors passed on to later operations have the samples on their first axis.

    The candidate after a submodule, at any depth, has the name of the submodule; a candidate after
    another operation has the name of the operation in the graph. Automatic placements consider only
    candidates after which a single tensor is passed on, which excludes the inside of residual
    branches. If only the end of the network is such a candidate, they consider all.

    If the module returns one output per class and its last layer is a submodule with weights, that
    submodule is recognized as the network's own classifier. Since heads return logits, a final
    softmax is removed. If the classifier returns probabilities, their logarithm is used.

    Parameters
    ----------
    module : torch.nn.Module
        The network, which is copied and not changed. It is called with a batch of samples as its
        only argument.
    leaf : sequence of str, class or callable, default=()
        Submodules, by name or class, and functions that are not traced. Each becomes a single
        operation of the graph, without an exit inside. Use it for what `torch.fx` cannot trace.
    end : str, default=None
        Name of the submodule with which the network ends. Later operations are removed, such as a
        classifier for other classes. If None, the whole module is used.

    See Also
    --------
    skearlyexit.list_exits : List the candidates for exits of a network.

    Notes
    -----
    The module is run on three of the samples to record its operations. These may depend on the
    shape of the input, but not on its values.

    Some submodules become a single operation, as if they were listed in `leaf`: those with hooks,
    those that run different operations in training and evaluation mode (arguments may differ, such
    as ``training`` of a dropout), and those that are not the same in each call, such as with random
    numbers that are not drawn by torch. The latter are detected if they use the global generator of
    Python or NumPy, if the generator or a counter is an attribute of the submodule, or if the
    recorded operations differ.

    Outputs that are returned in training mode only, such as those of auxiliary classifiers, are
    removed.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> class Residual(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
    ...     def forward(self, x):
    ...         return x + self.second(self.first(x).relu())
    >>> module = nn.Sequential(nn.Linear(3, 8), Residual(), Residual(), nn.Linear(8, 2))
    >>> X = np.zeros((4, 3), dtype=np.float32)
    >>> network = TracedBackbone(module).build(X, n_classes=2)
    >>> network.names
    ['0', '1.first', 'relu', '1.second', '1', '2.first', 'relu_1', '2.second', '2']
    >>> [name for name, natural in zip(network.names, network.natural) if natural]
    ['0', '1', '2']
    """

    def __init__(
        self, module: torch.nn.Module, *, leaf: Sequence[Leaf] = (), end: str | None = None
    ) -> None:
        self.module = module
        self.leaf = leaf
        self.end = end

    def build(self, X: np.ndarray, n_classes: int) -> Network:
        rows = trial_rows(X)
        if has_hooks(self.module):
            raise ValueError(
                "The module given as backbone has hooks of its own, which would not run with exits "
                "inside of it. Register hooks on its submodules."
            )
        root = copied([self.module])[0].to("cpu", rows.dtype)
        modes = [(module, module.training) for module in root.modules()]
        with torch.no_grad():
            try:
                whole = root.eval()(rows.clone())
            except Exception as error:
                shape = tuple(rows.shape[1:])
                raise ValueError(
                    f"The backbone fails on samples of shape {shape}: {error}"
                    f"{hint_of_channels(shape)}"
                ) from error
        # A network is built for each fold; submodules that are not traced are found only once.
        module, leaf, found = vars(self).get("_known", (None, None, None))
        known = found if module is self.module and leaf is self.leaf else None
        traced = ending_turns(lambda: trace(root, rows, self.leaf, known))
        self._known = self.module, self.leaf, traced.leaves
        root.eval()
        layout = self._layout(root, traced, rows, whole)
        places, names, aliases = _places(layout, traced)
        network = TracedNetwork(
            root, layout, places, traced.in_evaluation, names=names, aliases=aliases, given=True
        )
        network.notice = notice_of_convolutions(root.modules(), X.shape[1:])
        network.obstacles = _obstacles(network, root, traced, layout)
        network.split_off_head(traced.calls, n_classes, rows)
        behind = {*names, *aliases} - {*network.names, *network.aliases}
        reason = "it belongs to the network's own classifier, or its softmax, behind the last exit."
        network.obstacles |= dict.fromkeys(behind, reason)
        for module, mode in modes:
            module.training = mode
        for name, parameter in root.named_parameters():
            parameter.requires_grad_(traced.trainable[name])
        return network

    def _layout(
        self, root: torch.nn.Module, traced: Trace, rows: torch.Tensor, whole: Any
    ) -> Layout:
        """Layout of the operations up to the end of the network, checked on some samples."""
        *nodes, output = traced.graph.nodes
        returned = output.args[0] if self.end is None else _end(self.end, traced)
        value = returned.meta["value"] if isinstance(returned, fx.Node) else None
        if value is None or not value.is_embedding:
            what = f"a {type(whole).__name__}" if value is None else value
            raise ValueError(
                "The backbone must return one tensor with one entry per sample; it returns "
                f"{what}. Name the submodule that it should end with in TracedBackbone(module, "
                "end=...), or wrap it in a module that returns the tensor."
            )
        stop = nodes.index(returned) + 1
        layout = Layout(nodes[:stop], returned)
        if self.end is None:
            _check_same(layout, root, rows, whole)
        return layout


def _places(layout: Layout, traced: Trace) -> tuple[list[Place], list[str], dict[str, int]]:
    """Candidates for exits, their names, and their alternative names."""
    by_node: dict[fx.Node, list[str]] = defaultdict(list)
    for call in traced.calls:
        by_node[_tensor_of(call.output)].append(call.name)
    taken = {name for names in by_node.values() for name in names}
    places: list[Place] = []
    all_names: list[str] = []
    aliases: dict[str, int] = {}
    for position, node in enumerate(layout.nodes):
        if node.op in ("placeholder", "get_attr") or not layout.values[node].is_embedding:
            continue
        carried, obstacles = layout.crossing(position)
        if obstacles or not carried:
            continue
        # The name of a submodule is preferred to that of its last part.
        names = sorted(by_node.get(node, []), key=len)
        if not names:
            names = [node.name if node.name not in taken else f"{node.name}:op"]
        aliases |= {name: len(places) for name in names[1:]}
        all_names.append(names[0])
        places.append(Place(position, carried))
    return places, all_names, aliases


def _tensor_of(node: fx.Node) -> fx.Node:
    """Output of a call, or the first one if it returned several."""
    if issubclass(node.meta["value"].kind, tuple):
        for user in node.users:
            if user.target is getitem and user.args[1] == 0:
                return user
    return node


def _obstacles(
    network: TracedNetwork, root: torch.nn.Module, traced: Trace, layout: Layout
) -> dict[str, str]:
    """Reasons why no exit can be placed after the submodules that are not candidates."""
    known = {*network.names, *network.aliases}
    outputs = {call.name: _tensor_of(call.output) for call in traced.calls}
    reasons = {}
    for name, _ in root.named_modules():
        if not name or name in known:
            continue
        inside = [leaf for leaf in traced.leaves if name.startswith(f"{leaf}.")]
        if name not in outputs:
            reasons[name] = (
                f"it is inside of {inside[0]!r}, which is not traced: its operations differ "
                "between training and evaluation, or between calls."
                if inside
                else "it is not called, or it is inside of a submodule that is not traced, such as "
                "one with hooks."
            )
            continue
        node = outputs[name]
        if node not in layout.position:
            reasons[name] = "it comes after the end of the network."
        elif not layout.values[node].is_embedding:
            reasons[name] = f"it returns {layout.values[node]}, which cannot be input of a head."
        else:
            across = [layout.values[other] for other in layout.crossing(layout.position[node])[1]]
            if not across:
                reasons[name] = "no later operation uses it, or anything computed before it."
            elif across[0].is_rows:
                reasons[name] = (
                    f"{across[0]} would have to be passed on twice, as two views of the same "
                    "memory, which later operations change in place."
                )
            else:
                reasons[name] = (
                    f"{across[0]} would have to be passed on to later operations, and samples that "
                    "exit cannot be removed from it."
                )
    return reasons


def _end(name: str, traced: Trace) -> fx.Node:
    for call in traced.calls:
        if call.name == name:
            return _tensor_of(call.output)
    raise ValueError(
        f"The 'end' parameter of TracedBackbone must be the name of a submodule that is called. "
        f"Got {name!r} instead; there are {[call.name for call in traced.calls][:40]}."
    )


def _check_same(
    layout: Layout, root: torch.nn.Module, rows: torch.Tensor, whole: torch.Tensor
) -> None:
    """Raise a ValueError unless the graph computes the same as the module for each sample."""

    def graph(part: torch.Tensor) -> torch.Tensor:
        return run_to(layout, root, part, layout.returned)

    with torch.no_grad():
        two, one = graph(rows[:2]), graph(rows[:1])
        try:
            alone = root(rows[:1].clone())
        except Exception:
            alone = one  # this network does not run on a single sample
        same = are_close(two, whole[:2]) or are_close(graph(rows), whole)
    if not same:
        raise ValueError(
            "The traced backbone does not compute the same as the backbone: its operations depend "
            "on more than its input. Name the submodule for which this holds in the 'leaf' list "
            "of TracedBackbone, or give the network as a list of stages."
        )
    if not are_close(two, whole[:2]):
        raise ValueError(
            "The backbone mixes samples: its output for two samples depends on the third one of "
            "the batch, so that samples cannot exit one by one."
        )
    if not are_close(one, alone):
        raise ValueError(
            "The backbone runs other operations for a single sample than for several. Name the "
            "submodule for which this holds in the 'leaf' list of TracedBackbone."
        )

"""Any module whose operations can be traced, cut wherever they allow it."""

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
    """Any module that `torch.fx` can trace, with the weights that it has.

    An exit may stand after every operation across which nothing has to be handed on but tensors
    with one entry for each row: after any submodule that is called, at any depth, by its name, and
    between operations that are no submodules, by the names that tracing gives them. A number of
    exits, and placements that choose, look at those places only where a single tensor crosses, so
    that none stands inside of a residual branch; if there is no such place, at all of them.

    If the network ends in one output per class, by a submodule with weights, this is taken for its
    own classifier. Heads answer with logits: a closing softmax is left out, and where the
    classifier itself answers with probabilities, their logarithm is taken.

    Parameters
    ----------
    module : torch.nn.Module
        Called with rows as its only argument. Copied before use; never trained in place.
    leaf : sequence of str, class or callable, default=()
        What tracing is to take whole: submodules, by name or by class, in which no exit is wanted
        or which cannot be traced, and functions.
    end : str, default=None
        Submodule with which the network ends; what follows it, such as a classifier for other
        classes, is left out. None takes the whole.

    See Also
    --------
    skearlyexit.list_exits : Every place where an exit may stand.

    Notes
    -----
    The module is run on three of the rows to see what it consists of. It may do what it wants with
    the shapes of rows, but not with the numbers in them. A submodule is taken whole if it has
    hooks, if it does other things in training than in evaluation, beyond constants such as the
    ``training`` of a dropout, or if it does other things each time, as with random numbers that are
    not torch's. Such numbers are noticed if Python's or numpy's own generator draws them, or one
    that is an attribute of the submodule, and otherwise only if they enter its operations; counters
    are noticed if they are attributes. What is returned in training only, as by auxiliary
    classifiers, is left out.

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
        """Copy and trace the module; see `Backbone.build`.

        Raises
        ------
        ValueError
            If it cannot be traced, fails on some number of rows, mixes rows, or does not return
            one tensor; the message says what helps.
        """
        rows = trial_rows(X)
        if has_hooks(self.module):
            raise ValueError(
                "The module given as backbone has hooks of its own, which an exit within it would "
                "leave out. Give hooks to its submodules."
            )
        root = copied([self.module])[0].to("cpu", rows.dtype)
        modes = [(module, module.training) for module in root.modules()]
        with torch.no_grad():
            try:
                whole = root.eval()(rows.clone())
            except Exception as error:
                shape = tuple(rows.shape[1:])
                raise ValueError(
                    f"The backbone fails on rows of shape {shape}: {error}{hint_of_channels(shape)}"
                ) from error
        # For each fold a network is built anew; what is taken whole stays the same.
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
        """Layout of the operations up to the end that was asked for, checked on some rows."""
        *nodes, output = traced.graph.nodes
        returned = output.args[0] if self.end is None else _end(self.end, traced)
        value = returned.meta["value"] if isinstance(returned, fx.Node) else None
        if value is None or not value.is_embedding:
            what = f"a {type(whole).__name__}" if value is None else value
            raise ValueError(
                f"The backbone must return one tensor with one entry per row; it returns {what}. "
                "Name the submodule that it should end with in TracedBackbone(module, end=...), or "
                "wrap it in a module that returns the tensor."
            )
        stop = nodes.index(returned) + 1
        layout = Layout(nodes[:stop], returned)
        if self.end is None:
            _check_same(layout, root, rows, whole)
        return layout


def _places(layout: Layout, traced: Trace) -> tuple[list[Place], list[str], dict[str, int]]:
    """Places for exits, their names, and further names of them."""
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
        # A submodule is better known by its own name than by that of its last part.
        names = sorted(by_node.get(node, []), key=len)
        if not names:
            names = [node.name if node.name not in taken else f"{node.name}:op"]
        aliases |= {name: len(places) for name in names[1:]}
        all_names.append(names[0])
        places.append(Place(position, carried))
    return places, all_names, aliases


def _tensor_of(node: fx.Node) -> fx.Node:
    """The first tensor that a call returned, if it returned several."""
    if issubclass(node.meta["value"].kind, tuple):
        for user in node.users:
            if user.target is getitem and user.args[1] == 0:
                return user
    return node


def _obstacles(
    network: TracedNetwork, root: torch.nn.Module, traced: Trace, layout: Layout
) -> dict[str, str]:
    """Why no exit can stand after the submodules that are no places."""
    known = {*network.names, *network.aliases}
    outputs = {call.name: _tensor_of(call.output) for call in traced.calls}
    reasons = {}
    for name, _ in root.named_modules():
        if not name or name in known:
            continue
        inside = [leaf for leaf in traced.leaves if name.startswith(f"{leaf}.")]
        if name not in outputs:
            reasons[name] = (
                f"it lies in {inside[0]!r}, which is taken whole: it runs other operations in "
                "training than in evaluation, or other ones each time."
                if inside
                else "it is not called, or lies in a submodule that is taken whole, as those with "
                "hooks are."
            )
            continue
        node = outputs[name]
        if node not in layout.position:
            reasons[name] = "it comes after the end of the network."
        elif not layout.values[node].is_embedding:
            reasons[name] = f"it returns {layout.values[node]}, which no head can look at."
        else:
            across = [layout.values[other] for other in layout.crossing(layout.position[node])[1]]
            if not across:
                reasons[name] = "nothing that follows needs it or what came before."
            elif across[0].is_rows:
                reasons[name] = (
                    f"{across[0]} would have to be handed on twice, as two views of the same "
                    "numbers, and what follows changes them in place."
                )
            else:
                reasons[name] = (
                    f"{across[0]} would have to be handed on to what follows, and rows that leave "
                    "cannot be taken out of that."
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
    """Raise a ValueError unless the graph computes what the module does, row by row."""

    def graph(part: torch.Tensor) -> torch.Tensor:
        return run_to(layout, root, part, layout.returned)

    with torch.no_grad():
        two, one = graph(rows[:2]), graph(rows[:1])
        try:
            alone = root(rows[:1].clone())
        except Exception:
            alone = one  # one row is not for this network
        same = are_close(two, whole[:2]) or are_close(graph(rows), whole)
    if not same:
        raise ValueError(
            "What was traced of the backbone computes something else than the backbone: its "
            "operations depend on more than its rows. Take the submodule that does in the 'leaf' "
            "list of TracedBackbone, or give the network as a list of stages."
        )
    if not are_close(two, whole[:2]):
        raise ValueError(
            "The backbone mixes rows: what it returns for two rows depends on a third beside them, "
            "so that rows cannot leave it one by one."
        )
    if not are_close(one, alone):
        raise ValueError(
            "The backbone does other things with one row than with several. Take the submodule "
            "that does in the 'leaf' list of TracedBackbone."
        )

"""Every place of a network where an exit may stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from skearlyexit._determinism._random import ending_turns, isolated_random_state
from skearlyexit._utils._frames import aligned, import_pandas, preformatted
from skearlyexit.backbones._base import Backbone, Network
from skearlyexit.backbones._measure import BlockFacts, measure_blocks, trial_rows
from skearlyexit.backbones._resolve import resolve_backbone


@dataclass(frozen=True)
class ExitList:
    """Places of a network where an exit may stand.

    Printed, it is a table; ``to_frame()`` gives a data frame.

    Attributes
    ----------
    names : list of str
        By which `exits` may ask for them.
    aliases : list of list of str
        Further names of each.
    shapes : list of tuple of int
        Shape of one row's embedding.
    costs : ndarray of shape (n_places,)
        Multiply-accumulates per row up to each, heads not counted.
    n_carried : ndarray of shape (n_places,), int
        Tensors that are handed on to what follows.
    carry_bytes : ndarray of shape (n_places,), int
        Their size for one row, in single precision.
    natural : ndarray of shape (n_places,), bool
        Whether a placement that chooses looks at it.
    has_head : bool
        Whether the network brings its own classifier, which stands after the last place.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit import MLPBackbone, list_exits
    >>> places = list_exits(MLPBackbone(2, width=16, hidden=32), np.zeros((4, 8)))
    >>> places.names, places.shapes
    (['stem', 'block1', 'block2'], [(16,), (16,), (16,)])
    >>> places.shares.round(3)
    array([0.111, 0.556, 1.   ])
    """

    names: list[str]
    aliases: list[list[str]]
    shapes: list[tuple[int, ...]]
    costs: np.ndarray
    n_carried: np.ndarray
    carry_bytes: np.ndarray
    natural: np.ndarray
    has_head: bool

    def __len__(self) -> int:
        return len(self.names)

    @property
    def shares(self) -> np.ndarray:
        """Share of the whole network's cost up to each place."""
        return self.costs / max(float(self.costs[-1]), 1.0)

    def to_frame(self) -> Any:
        """Table as a pandas data frame, one row for each place."""
        return import_pandas("ExitList.to_frame").DataFrame(
            {
                "exit": self.names,
                "embedding": self.shapes,
                "macs": self.costs,
                "share": self.shares,
                "tensors": self.n_carried,
                "bytes": self.carry_bytes,
                "natural": self.natural,
                "also": self.aliases,
            }
        )

    def __str__(self) -> str:
        columns = {
            "exit": self.names,
            "embedding": [" x ".join(map(str, shape)) for shape in self.shapes],
            "MACs": [f"{cost:,.0f}" for cost in self.costs],
            "share": [f"{share:.1%}" for share in self.shares],
            "tensors": [str(n) for n in self.n_carried],
            "bytes": [f"{n:,}" for n in self.carry_bytes],
            "chosen from": ["yes" if natural else "-" for natural in self.natural],
            "also": [", ".join(names) for names in self.aliases],
        }
        note = "the network's own classifier follows the last" if self.has_head else ""
        return "\n".join([*aligned(columns), *([note] if note else [])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return preformatted(str(self))


def list_exits(backbone: Any, sample: Any, *, n_classes: int = 2) -> ExitList:
    """List every place of a network where an exit may stand.

    Parameters
    ----------
    backbone : object
        Whatever the parameter `backbone` of the estimators takes, such as a torch module.
    sample : array-like of shape (n_samples, ...)
        A few rows.
    n_classes : int, default=2
        Number of classes, by which a network's own classifier is told.

    Returns
    -------
    places : ExitList
        Names, shapes of the embeddings and shares of the cost; prints as a table.

    Raises
    ------
    ValueError
        If the network cannot be cut, or fails on the rows.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from skearlyexit import MLPBackbone
    >>> list_exits(MLPBackbone(2, width=16, hidden=32), np.zeros((4, 8), dtype=np.float32))
    exit    embedding   MACs   share  tensors  bytes  chosen from  also
    stem           16    256   11.1%        1     64          yes
    block1         16  1,280   55.6%        1     64          yes
    block2         16  2,304  100.0%        1     64          yes
    """
    X = np.asarray(sample, dtype=np.float32)
    resolved = resolve_backbone(backbone, X, n_classes)
    network, facts = ending_turns(lambda: _measured(resolved, X, n_classes))
    others: list[list[str]] = [[] for _ in facts.names]
    for name, index in network.aliases.items():
        others[index].append(name)
    n_places = len(facts.names)
    return ExitList(
        facts.names,
        others,
        [tuple(embedding.shape[1:]) for embedding in facts.embeddings],
        np.cumsum(facts.costs),
        facts.n_carried,
        facts.carry_bytes,
        np.ones(n_places, dtype=bool) if network.natural is None else np.array(network.natural),
        network.head is not None,
    )


def _measured(backbone: Backbone, X: np.ndarray, n_classes: int) -> tuple[Network, BlockFacts]:
    with isolated_random_state(0):
        network = backbone.build(X, n_classes)
        network.to(torch.float32)
        return network, measure_blocks(network, trial_rows(X))

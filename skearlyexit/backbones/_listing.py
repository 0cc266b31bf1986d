"""The candidates of a network: where an exit can be placed."""

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
    """Candidates for exits of a network, returned by `list_exits`.

    A candidate is a position in the network at which an exit can be placed. The list prints as a
    table with one line per candidate.

    Attributes
    ----------
    names : list of str
        Name of each candidate, by which the parameter `exits` of the estimators refers to it.
    aliases : list of list of str
        Alternative names of each candidate.
    shapes : list of tuple of int
        Shape of the embedding of one sample at each candidate.
    costs : ndarray of shape (n_candidates,)
        Multiply-accumulate operations (MACs) per sample from the input up to each candidate,
        without heads.
    n_carried : ndarray of shape (n_candidates,), int
        Number of tensors that are passed on to the rest of the network.
    carry_bytes : ndarray of shape (n_candidates,), int
        Size of these tensors for one sample, in bytes, in single precision.
    natural : ndarray of shape (n_candidates,), bool
        Whether an automatic placement considers the candidate.
    has_head : bool
        Whether the network has its own classifier, which follows the last candidate.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit import MLPBackbone, list_exits
    >>> candidates = list_exits(MLPBackbone(2, width=16, hidden=32), np.zeros((4, 16)))
    >>> candidates.names, candidates.shapes
    (['stem', 'block1', 'block2'], [(16,), (16,), (16,)])
    >>> candidates.shares.round(3)
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
        """Cost up to each candidate, as a share of the cost of the network."""
        return self.costs / max(float(self.costs[-1]), 1.0)

    def to_frame(self) -> Any:
        """Return the table as a pandas DataFrame.

        Returns
        -------
        frame : pandas.DataFrame
            One row for each candidate.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
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
    """List the candidates for exits of a network.

    A candidate is a position in the network at which an exit can be placed.

    Parameters
    ----------
    backbone : object
        Any valid value of the parameter `backbone` of the estimators, such as a torch module.
    sample : array-like of shape (n_samples, ...)
        A few samples.
    n_classes : int, default=2
        Number of classes, by which the network's own classifier is recognized.

    Returns
    -------
    candidates : ExitList
        Names, shapes of the embeddings, and costs. It prints as a table.

    Raises
    ------
    TypeError
        If the backbone is not valid.
    ValueError
        If the network cannot be cut into stages, or fails on the samples.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from skearlyexit import MLPBackbone
    >>> list_exits(MLPBackbone(2, width=16, hidden=32), np.zeros((4, 16), dtype=np.float32))
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

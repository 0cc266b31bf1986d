"""Where the exits stand, and what the parts of the backbone cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from skearlyexit._data._streamed import RowCheck
from skearlyexit._determinism._layers import Standardize
from skearlyexit._determinism._random import isolated_random_state
from skearlyexit._utils._names import block_index
from skearlyexit.backbones import Backbone, Network
from skearlyexit.backbones._measure import BlockFacts, measure_blocks, trial_rows
from skearlyexit.costs import Cost
from skearlyexit.heads import Head
from skearlyexit.placement import Candidates


@dataclass(frozen=True)
class MeasuredNetwork:
    """A network that was measured, and the blocks after which exits stand.

    Attributes
    ----------
    facts : BlockFacts
        Trial run of the network.
    candidates : Candidates
        What a placement looks at.
    link_costs : ndarray of shape (n_blocks,)
        What is paid within each block for handing rows from one machine to another.
    priced : list of bool
        After which blocks an exit may stand, for all that the cost knows.
    has_head : bool
        Whether the network brings its own classifier.
    ends : list of int
        Blocks after which an exit stands.
    notice : str, default=""
        What the user should know about how the network reads rows.
    check : callable or None, default=None
        Raises an error unless the network can take rows; see `Network`.
    standardize : Standardize or None, default=None
        What it standardizes rows with, if it does.
    """

    facts: BlockFacts
    candidates: Candidates
    link_costs: np.ndarray
    priced: list[bool]
    has_head: bool
    ends: list[int]
    notice: str = ""
    check: RowCheck | None = None
    standardize: Standardize | None = None

    @classmethod
    def measure(
        cls, backbone: Backbone, cost: Cost, X: np.ndarray, n_classes: int, seed: int, device: str
    ) -> MeasuredNetwork:
        """Build the network once for a trial run; an exit stands at its end only."""
        with isolated_random_state(seed):
            network = backbone.build(X, n_classes)
            network.to(torch_dtype(X))
            facts = measure_blocks(network, trial_rows(X), cost, device)
        links = _link_costs(cost, network, facts)
        priced = cost.priced_blocks(facts.names, network.aliases)
        candidates = Candidates(
            facts.names,
            facts.costs + links,
            aliases=network.aliases,
            natural=[
                natural and has_price
                for natural, has_price in zip(
                    network.natural or [True] * len(priced), priced, strict=True
                )
            ],
            obstacles=network.obstacles,
        )
        ends = [len(facts.names) - 1]
        has_head = network.head is not None
        return cls(
            facts,
            candidates,
            links,
            priced,
            has_head,
            ends,
            notice=network.notice,
            check=network.check,
            standardize=network.standardize,
        )

    def placed(self, ends: Sequence[int]) -> MeasuredNetwork:
        """The same network with exits after these blocks."""
        unpriced = [self.facts.names[end] for end in ends if not self.priced[end]]
        if unpriced:
            raise ValueError(
                f"Exits are to stand after {unpriced}, for which the 'cost' object knows no cost. "
                "Give it one for every block with an exit."
            )
        return replace(self, ends=list(ends))

    @property
    def names(self) -> list[str]:
        """Names of the exits."""
        return [self.facts.names[end] for end in self.ends]

    @property
    def embeddings(self) -> list[torch.Tensor]:
        """A few embeddings at each exit."""
        return [self.facts.embeddings[end] for end in self.ends]

    @property
    def block_costs(self) -> np.ndarray:
        """Cost of the blocks of each stage, without links, shape (n_exits,)."""
        return self._by_stage(self.facts.costs)

    @property
    def links(self) -> np.ndarray:
        """Cost of the links within each stage, shape (n_exits,)."""
        return self._by_stage(self.link_costs)

    @property
    def stage_costs(self) -> np.ndarray:
        """Cost of each stage alone, shape (n_exits,)."""
        return self.block_costs + self.links

    def _by_stage(self, values: np.ndarray) -> np.ndarray:
        return np.diff(np.cumsum(values)[self.ends], prepend=0.0)


@dataclass(frozen=True)
class Exits:
    """Exits of a network.

    Attributes
    ----------
    plan : MeasuredNetwork
        The network, with where they stand.
    heads : list of Head
        One for each, as the parameters ask for it.
    """

    plan: MeasuredNetwork
    heads: Sequence[Head]


def torch_dtype(X: np.ndarray) -> torch.dtype:
    """Precision of a network for such rows."""
    return torch.float64 if X.dtype == np.float64 else torch.float32


def _link_costs(cost: Cost, network: Network, facts: BlockFacts) -> np.ndarray:
    """What rows pay within each block for having come over a link."""
    paid = np.zeros(len(facts.names))
    for link in cost.links:
        index = block_index(link.after, network.names, network.aliases)
        if index is None:
            raise ValueError(
                f"A link names {link.after!r}, which is no block of the network; "
                f"skearlyexit.list_exits shows them (among them {network.names[:8]})."
            )
        if index == len(paid) - 1:
            raise ValueError(
                f"A link after {link.after!r}, the end of the network, hands on nothing."
            )
        paid[index + 1] += cost.of_link(link, float(facts.carry_bytes[index]))
    return paid

"""Exits that are placed, and costs of the parts of the backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

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
    """Network whose blocks were measured, with placed exits.

    Attributes
    ----------
    facts : BlockFacts
        Measurements of the blocks.
    candidates : Candidates
        Candidates for exits.
    link_costs : ndarray of shape (n_blocks,)
        Cost within each block of links between machines.
    priced : list of bool
        Whether the cost up to each block is known, so that an exit can be placed after it.
    has_head : bool
        Whether the network has its own classifier.
    ends : list of int
        Indices of the blocks after which exits are placed.
    notice : str, default=""
        Message to the user about the inputs of the network.
    check : callable or None, default=None
        Function that raises an error if samples are not valid inputs; see `Network`.
    standardize : Standardize or None, default=None
        Standardization of the inputs. None if they are not standardized.
    learned_with_exits : dict of str to str, default={}
        Names of blocks with weights that only an exit there trains; see `Network`.
    batch_invariant : bool, default=False
        Whether predictions are to be bitwise the same in any batch; see `Network`.
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
    learned_with_exits: dict[str, str] = field(default_factory=dict)
    batch_invariant: bool = False

    @classmethod
    def measure(
        cls, backbone: Backbone, cost: Cost, X: np.ndarray, n_classes: int, seed: int, device: str
    ) -> MeasuredNetwork:
        """Build the network and measure its blocks. It has only the last exit."""
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
            learned_with_exits=network.learned_with_exits,
            batch_invariant=network.batch_invariant,
        )

    def placed(self, ends: Sequence[int]) -> MeasuredNetwork:
        """The same network with exits after these blocks."""
        unpriced = [self.facts.names[end] for end in ends if not self.priced[end]]
        if unpriced:
            raise ValueError(
                f"Exits cannot be placed after {unpriced}, for which the 'cost' object has no "
                "cost. Give a cost for every block with an exit."
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
        Measured network with these exits.
    heads : list of Head
        Head of each exit, not fitted.
    """

    plan: MeasuredNetwork
    heads: Sequence[Head]


def torch_dtype(X: np.ndarray) -> torch.dtype:
    """Precision of a network for these samples."""
    return torch.float64 if X.dtype == np.float64 else torch.float32


def _link_costs(cost: Cost, network: Network, facts: BlockFacts) -> np.ndarray:
    """Cost within each block of the links before it, per sample."""
    paid = np.zeros(len(facts.names))
    for link in cost.links:
        index = block_index(link.after, network.names, network.aliases)
        if index is None:
            raise ValueError(
                f"A link names {link.after!r}, which is not a block of the network. Give the name "
                f"of a block, such as {network.names[:8]}; skearlyexit.list_exits returns all."
            )
        if index == len(paid) - 1:
            raise ValueError(
                f"A link after {link.after!r}, the last block of the network, transfers nothing. "
                "Give the name of another block."
            )
        paid[index + 1] += cost.of_link(link, float(facts.carry_bytes[index]))
    return paid

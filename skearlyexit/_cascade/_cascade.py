"""The trained object as passive data: stages, heads, decision, costs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._utils._warnings import warn
from skearlyexit.combination import Combination
from skearlyexit.costs import CostTable
from skearlyexit.heads import FittedHead
from skearlyexit.heads._gate import FittedGate


@dataclass(frozen=True)
class FittedNetwork:
    """A fitted network with exits: from samples to the outputs of its heads.

    Attributes
    ----------
    stages : list of Stage
        In evaluation mode.
    heads : list of FittedHead
        One after each stage.
    gates : list of FittedGate
        One for each exit but the last, or none at all.
    combiner : Combination or None
        What training has learned to make of the heads, before any decision.
    n_classes : int
    row_bytes : int
        Largest memory of one row between two blocks.
    device : str
        Where the stages run.
    dtype : torch.dtype
        Of the rows that the first stage reads.
    check : callable or None, default=None
        Raises an error unless the first stage can take rows; see `Network`.
    """

    stages: list[torch.nn.Module]
    heads: list[FittedHead]
    gates: list[FittedGate]
    combiner: Combination | None
    n_classes: int
    row_bytes: int
    device: str
    dtype: torch.dtype
    check: Callable[..., None] | None = None

    @property
    def n_exits(self) -> int:
        """Number of exits, the last included."""
        return len(self.stages)

    def moved(self, device: str) -> FittedNetwork:
        """The same on a device, to which the modules themselves are moved."""
        for stage in self.stages:
            stage.to(device)
        for head in self.heads:
            head.to(device)
        for gate in self.gates:
            gate.to(device)
        return replace(self, device=device)

    def __getstate__(self) -> dict[str, Any]:
        # Stored in main memory, whatever it runs on: it may be loaded where no such device is.
        state = dict(self.__dict__)
        if self.device != "cpu":
            moved = {name: copy.deepcopy(state[name]) for name in ("stages", "heads", "gates")}
            replace(self, **moved).moved("cpu")
            state |= moved
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.device == "cpu":
            return
        wanted = self.device
        try:
            self.moved(wanted)
        except (RuntimeError, AssertionError):
            warn(
                f"The model was trained on {wanted!r}, which this machine does not have; it will "
                "run on the CPU."
            )
            self.__dict__.update(self.moved("cpu").__dict__)


@dataclass(frozen=True)
class Cascade:
    """Everything that prediction needs.

    Attributes
    ----------
    network : FittedNetwork
    exit_rule : ExitRule
        What is made of the outputs of its heads.
    cost_table : CostTable
        What its parts cost.
    """

    network: FittedNetwork
    exit_rule: ExitRule
    cost_table: CostTable

    @property
    def n_exits(self) -> int:
        """Number of exits, the last included."""
        return self.network.n_exits

    @property
    def costs(self) -> np.ndarray:
        """Cumulative cost of leaving at each exit; see `skearlyexit.costs.exit_costs`."""
        return self.cost_table.cumulative

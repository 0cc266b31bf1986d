"""Fitted network with its exit rule and costs, without the code that runs it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch

from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._determinism._small_batches import SmallBatches
from skearlyexit._output_kind import PROBABILITIES, OutputKind
from skearlyexit._utils._warnings import warn
from skearlyexit.combination import Combination
from skearlyexit.costs import CostTable
from skearlyexit.heads import FittedHead
from skearlyexit.heads._gate import FittedGate


class FittedExits(Protocol):
    """What an executor runs: a fitted network, or fitted estimators in a row."""

    @property
    def n_exits(self) -> int:
        """Number of exits, including the last one."""

    @property
    def n_classes(self) -> int:
        """Number of classes, or of targets in regression."""

    @property
    def kind(self) -> OutputKind:
        """What the outputs of the heads are."""


Fitted = TypeVar("Fitted", bound=FittedExits)


@dataclass(frozen=True)
class FittedNetwork:
    """Fitted network with exits.

    Attributes
    ----------
    stages : list of Block
        Stage before each exit, in evaluation mode.
    heads : list of FittedHead
        Head of each exit.
    gates : list of FittedGate
        Gate of each exit but the last. Empty if no gates are used.
    combiner : Combination or None
        Combination of the heads that was learned with the network. It is applied before the exit
        rule.
    n_classes : int
        Number of classes, or of targets in regression.
    row_bytes : int
        Memory of the largest input or output of a block for one sample.
    device : str
        Device on which the stages run.
    dtype : torch.dtype
        Precision of the inputs of the first stage.
    check : callable or None, default=None
        Function that raises an error if samples are not valid inputs of the first stage; see
        `Network`.
    batch_invariant : bool, default=True
        Whether results for a sample are to be bitwise the same in any batch; see `Network`.
    tested : SmallBatches or None, default=None
        Smallest batches of the stages. None if they were not tested.
    kind : OutputKind, default=PROBABILITIES
        What the outputs of the heads are.
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
    batch_invariant: bool = True
    tested: SmallBatches | None = None
    kind: OutputKind = PROBABILITIES

    @property
    def n_exits(self) -> int:
        """Number of exits, including the last one."""
        return len(self.stages)

    @property
    def small_batches(self) -> SmallBatches:
        """Smallest batches of the stages on the device."""
        if not self.batch_invariant:
            return SmallBatches.any_size(self.n_exits)
        if self.tested is None or torch.device(self.device).type != "cpu":
            return SmallBatches.untested(self.n_exits)
        return self.tested

    def modules(self) -> list[torch.nn.Module]:
        """Stages and heads, of the latter those that are torch modules."""
        models = [head.model for head in self.heads]
        return [*self.stages, *(each for each in models if isinstance(each, torch.nn.Module))]

    def moved(self, device: str) -> FittedNetwork:
        """Move the modules to a device in place, and return the network with this device."""
        for stage in self.stages:
            stage.to(device)
        for head in self.heads:
            head.to(device)
        for gate in self.gates:
            gate.to(device)
        return replace(self, device=device)

    def __getstate__(self) -> dict[str, Any]:
        # Stored on the CPU: the machine that loads it may not have the device.
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
                f"The model was trained on {wanted!r}, which is not available on this machine. It "
                "will run on the CPU."
            )
            self.__dict__.update(self.moved("cpu").__dict__)


@dataclass(frozen=True)
class Cascade(Generic[Fitted]):
    """Fitted network with its exit rule and costs, which prediction requires.

    Attributes
    ----------
    network : FittedNetwork or FittedChain
        Fitted network, or fitted estimators in a row.
    exit_rule : ExitRule
        Fitted exit rule.
    cost_table : CostTable
        Costs of all parts.
    compiled : dict of str to object, default={}
        What was compiled from this cascade, by the name of the runtime, and as ``"own"`` the run of
        the last prediction. It is neither copied nor pickled.
    """

    network: Fitted
    exit_rule: ExitRule
    cost_table: CostTable
    compiled: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "compiled": {}}

    @property
    def n_exits(self) -> int:
        """Number of exits, including the last one."""
        return self.network.n_exits

    @property
    def costs(self) -> np.ndarray:
        """Cumulative cost of exiting at each exit; see `skearlyexit.costs.exit_costs`."""
        return self.cost_table.cumulative

"""Leave when the gate says so."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from skearlyexit.policies._base import Policy, State


class GatePolicy(Policy):
    """The gate at the exit, in [0, 1], as gated training has learned it.

    References
    ----------
    Scardapane, Comminiello, Scarpiniti, Baccarelli, Uncini, "Differentiable branching in deep
    networks for fast inference", ICASSP 2020.

    Examples
    --------
    >>> import numpy as np
    >>> GatePolicy().step(None, np.array([[0.25, 0.75, 0.9]]))[0]
    array([0.9])
    """

    needs_probabilities: ClassVar[bool] = False
    reads_gate: ClassVar[bool] = True

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        """Score one exit; see `Policy.step`."""
        return probabilities[:, -1].copy(), None

    def macs(self, n_classes: int, exit_: int = 0) -> float:
        """Nothing: what the gate takes counts as its own."""
        return 0.0

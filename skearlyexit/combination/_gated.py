"""What gates make of the heads so far."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from skearlyexit.combination._base import Combination, State


class GatedCombination(Combination):
    """Mixture of all heads so far, weighted by the chance to leave at each that the gates give.

    Head j weighs ``g_j * prod((1 - g_l) for l < j)``, the head at the exit itself what is left, so
    that the answer at the last exit is the output that gated training minimizes the loss of.

    References
    ----------
    Scardapane, Comminiello, Scarpiniti, Baccarelli, Uncini, "Differentiable branching in deep
    networks for fast inference", ICASSP 2020.
    """

    needs_gates: ClassVar[bool] = True

    def step(
        self,
        state: State,
        probabilities: np.ndarray,
        exit_: int = 0,
        gates: np.ndarray | None = None,
    ) -> tuple[np.ndarray, State]:
        """Answer at one exit; the state holds the mixture so far and, last, what is left."""
        assert gates is not None
        gate = gates[:, None]
        if state is None:
            state = np.pad(np.zeros(probabilities.shape), ((0, 0), (0, 1)), constant_values=1.0)
        mixed, left = state[:, :-1], state[:, -1:]
        answer = mixed + left * probabilities
        return answer, np.hstack([mixed + left * gate * probabilities, left * (1 - gate)])

    def check(self, n_classes: int, n_exits: int) -> None:
        """Refuse to be asked for; see `Combination.check`."""
        raise ValueError(
            "GatedCombination needs gates, which are learned with the network. Give "
            "training='gated' and combine='trained'."
        )

    def macs(self, n_classes: int, exit_: int = 0) -> float:
        """Two for each class."""
        return 2.0 * n_classes

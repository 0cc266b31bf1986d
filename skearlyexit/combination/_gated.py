"""Mixture of the heads up to an exit, weighted by gates."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from skearlyexit._onnx._graph import Graph
from skearlyexit.combination._base import Combination, State


class GatedCombination(Combination):
    """Mixture of the heads up to an exit, weighted by the outputs of the gates.

    The weight of head j is ``g_j * prod((1 - g_l) for l < j)``, with the output g_j of gate j. The
    head at the exit itself has the remaining weight. At the last exit, this is the output whose
    loss gated training minimizes.

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
        # The state consists of the weighted sum so far and, in its last column, the weight that
        # remains.
        assert gates is not None
        gate = gates[:, None]
        if state is None:
            state = np.pad(np.zeros(probabilities.shape), ((0, 0), (0, 1)), constant_values=1.0)
        mixed, left = state[:, :-1], state[:, -1:]
        answer = mixed + left * probabilities
        return answer, np.hstack([mixed + left * gate * probabilities, left * (1 - gate)])

    def onnx(
        self,
        graph: Graph,
        state: str | None,
        probabilities: str,
        exit_: int,
        gates: str | None = None,
    ) -> tuple[str, str | None]:
        assert gates is not None
        gate = graph.op("Unsqueeze", gates, graph.constant([1]))
        one = graph.constant(1.0)
        answer, kept = probabilities, graph.op("Mul", gate, probabilities)
        left = graph.op("Sub", one, gate)
        if state is not None:
            mixed = graph.op("Slice", state, *(graph.constant([each]) for each in (0, -1, 1)))
            before = graph.op("Gather", state, graph.constant([-1]), axis=1)
            answer, kept = (
                graph.op("Add", mixed, graph.op("Mul", before, each)) for each in (answer, kept)
            )
            left = graph.op("Mul", before, left)
        return answer, graph.op("Concat", kept, left, axis=1)

    def check(self, n_classes: int, n_exits: int) -> None:
        """Raise a ValueError, as the combination can only be learned; see `Combination.check`."""
        raise ValueError(
            "GatedCombination needs gates, which are learned with the network. Give "
            "training='gated' and combine='trained'."
        )

    def macs(self, n_classes: int, exit_: int = 0) -> float:
        return 2.0 * n_classes

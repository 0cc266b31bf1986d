"""Output of the gate as the score."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from skearlyexit._onnx._graph import Graph
from skearlyexit.policies._base import Policy, State


class GatePolicy(Policy):
    """Policy whose score is the output of the gate at the exit.

    A gate is a linear layer whose output in [0, 1] is the learned probability that a sample that
    reaches the exit exits there. Gates are learned with the network, for example by
    `GatedTraining`.

    References
    ----------
    Scardapane, Comminiello, Scarpiniti, Baccarelli, Uncini, "Differentiable branching in deep
    networks for fast inference", ICASSP 2020.

    Examples
    --------
    >>> import numpy as np
    >>> GatePolicy().step(None, np.array([[0.25, 0.75]]), gates=np.array([0.9]))[0]
    array([0.9])
    """

    needs_probabilities: ClassVar[bool] = False
    needs_gates: ClassVar[bool] = True

    def step(
        self,
        state: State,
        probabilities: np.ndarray,
        exit_: int = 0,
        gates: np.ndarray | None = None,
    ) -> tuple[np.ndarray, State]:
        """Return the outputs of the gates as scores.

        Parameters
        ----------
        state : None
            Ignored.
        probabilities : ndarray of shape (n_samples, n_classes)
            Ignored.
        exit_ : int, default=0
            Ignored.
        gates : ndarray of shape (n_samples,)
            Outputs of the gate at this exit. Required.

        Returns
        -------
        score : ndarray of shape (n_samples,)
            Copy of `gates`.
        state : None
            The policy has no state.

        Raises
        ------
        ValueError
            If `gates` is None.
        """
        if gates is None:
            raise ValueError("GatePolicy needs the gates of the exit. Got gates=None instead.")
        return gates.copy(), None

    def onnx(
        self,
        graph: Graph,
        state: str | None,
        probabilities: str,
        exit_: int,
        gates: str | None = None,
    ) -> tuple[str, str | None]:
        assert gates is not None
        return gates, None

    def macs(self, n_classes: int, exit_: int = 0) -> float:
        return 0.0  # the operations of the gate are counted as a part of their own

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
        """Score one exit.

        Parameters
        ----------
        state : None
        probabilities : ndarray of shape (n_samples, n_classes)
            Ignored.
        exit_ : int, default=0
            Ignored.
        gates : ndarray of shape (n_samples,)
            Of this exit.

        Returns
        -------
        score : ndarray of shape (n_samples,)
            The gates.
        state : None

        Raises
        ------
        ValueError
            If there are no gates.
        """
        if gates is None:
            raise ValueError("GatePolicy needs the gates of the exit. Got gates=None instead.")
        return gates.copy(), None

    def macs(self, n_classes: int, exit_: int = 0) -> float:
        """Nothing: what the gate takes counts as its own."""
        return 0.0

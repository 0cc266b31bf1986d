"""Leave when the answer carries little uncertainty."""

from __future__ import annotations

import numpy as np
from scipy.special import entr

from skearlyexit.policies._base import Policy, State


class EntropyPolicy(Policy):
    """One minus the entropy of the class probabilities, divided by that of a blind guess.

    A bound b on the normalized entropy is the threshold 1 - b.

    References
    ----------
    Teerapittayanon, McDanel, Kung, "BranchyNet: fast inference via early exiting from deep neural
    networks", ICPR 2016.

    Examples
    --------
    >>> import numpy as np
    >>> EntropyPolicy().step(None, np.array([[0.5, 0.5], [1.0, 0.0]]))[0]
    array([0., 1.])
    """

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        """Score one exit; see `Policy.step`."""
        entropy = entr(probabilities).sum(axis=1) / np.log(probabilities.shape[1])
        return np.clip(1.0 - entropy, 0.0, 1.0), None

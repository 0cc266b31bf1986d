"""Leave when several exits in a row agree."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval

from skearlyexit.policies._base import Policy, State


class PatiencePolicy(Policy):
    """Agreements in a row with the exit before, as a share of `patience`.

    The score is 1 once `patience` agreements, hence ``patience + 1`` equal answers, have been
    seen; it needs no probabilities.

    Parameters
    ----------
    patience : int, default=1
        Number of agreements that make a score of 1.

    References
    ----------
    Zhou et al., "BERT loses patience: fast and robust inference with early exit", NeurIPS 2020.

    Examples
    --------
    >>> import numpy as np
    >>> answers = np.array([[[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]]])  # one row, three exits
    >>> PatiencePolicy(2).score(answers)
    array([[0. , 0.5, 1. ]])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "patience": [Interval(Integral, 1, None, closed="left")]
    }
    needs_probabilities: ClassVar[bool] = False
    has_memory: ClassVar[bool] = True

    def __init__(self, patience: int = 1) -> None:
        self.patience = patience

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        """Score one exit; the state holds each row's last label and number of agreements."""
        labels = probabilities.argmax(axis=1)
        if state is None:
            agreements = np.zeros_like(labels)
        else:
            agreements = np.where(labels == state[:, 0], state[:, 1] + 1, 0)
        return (
            np.minimum(agreements / self.patience, 1.0),
            np.stack([labels, agreements], axis=1),
        )

"""What a policy is."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator

from skearlyexit.costs import Part

#: What a policy remembers of each row: an array whose first axis is the row, or nothing.
State = np.ndarray | None


class Policy(BaseEstimator, metaclass=ABCMeta):
    """Scores how sure a row's answer is, exit by exit; higher is surer.

    Attributes
    ----------
    needs_probabilities : bool
        Whether it reads more than the most probable class, so that heads that only give labels
        have to be calibrated for it.
    has_memory : bool
        Whether the score at an exit depends on the exits before it, so that the heads there have
        to run even if nobody may leave.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {}
    needs_probabilities: ClassVar[bool] = True
    has_memory: ClassVar[bool] = False

    @abstractmethod
    def step(self, state: State, probabilities: np.ndarray) -> tuple[np.ndarray, State]:
        """Score one exit.

        Parameters
        ----------
        state : ndarray of shape (n_samples, ...) or None
            What the previous step returned for these rows; None at the first exit.
        probabilities : ndarray of shape (n_samples, n_classes)
            Output of the head at this exit.

        Returns
        -------
        score : ndarray of shape (n_samples,)
            In [0, 1].
        state : ndarray of shape (n_samples, ...) or None
        """

    def score(self, probabilities: np.ndarray) -> np.ndarray:
        """Score every exit of a table.

        Parameters
        ----------
        probabilities : ndarray of shape (n_samples, n_exits, n_classes)

        Returns
        -------
        scores : ndarray of shape (n_samples, n_exits)
        """
        state: State = None
        scores = np.empty(probabilities.shape[:2])
        for exit_ in range(probabilities.shape[1]):
            scores[:, exit_], state = self.step(state, probabilities[:, exit_])
        return scores

    def macs(self, n_classes: int) -> float:
        """Operations per row of one step: one for each class unless a policy says otherwise."""
        return float(n_classes)

    def part(self, n_classes: int) -> Part:
        """What the cost of a decision is read off."""
        answers = np.full((2, n_classes), 1 / n_classes)
        return Part(lambda rows: self.step(None, rows), answers, None, self.macs(n_classes))

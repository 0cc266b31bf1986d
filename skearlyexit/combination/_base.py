"""What a combination is."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator

from skearlyexit.costs import CostInput

#: What a combination remembers of each row: an array whose first axis is the row, or nothing.
State = np.ndarray | None

#: Smallest probability whose logarithm is taken; heads that answer by labels say 0.
LEAST = 1e-12


class Combination(BaseEstimator, metaclass=ABCMeta):
    """Makes one answer of what the heads passed so far have said.

    The label answered is the class most probable in it, and policies judge the answer that would be
    given, not the head.

    Attributes
    ----------
    needs_probabilities : bool
        Whether heads that give labels only have to be calibrated for it. Without, their labels
        count as votes.
    has_memory : bool
        Whether the answer depends on the exits before, so that all heads have to run whoever may
        leave there.
    is_learned : bool
        Whether it learns from held-out rows.
    uses_costs : bool
        Whether `fit` is to be called for the sake of the costs.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.combination import Combination
    >>> class LastTwo(Combination):  # the mean of this head and the one before
    ...     def step(self, state, probabilities, exit_=0):
    ...         answer = probabilities if state is None else (state + probabilities) / 2
    ...         return answer, probabilities
    >>> LastTwo().answers(np.array([[[0.8, 0.2], [0.4, 0.6], [0.2, 0.8]]]))  # one row, three heads
    array([[[0.8, 0.2],
            [0.6, 0.4],
            [0.3, 0.7]]])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {}
    needs_probabilities: ClassVar[bool] = False
    has_memory: ClassVar[bool] = True
    is_learned: ClassVar[bool] = False
    uses_costs: ClassVar[bool] = False

    @abstractmethod
    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        """Answer at one exit.

        Parameters
        ----------
        state : ndarray of shape (n_samples, ...) or None
            What the previous step returned for these rows; None at the first exit.
        probabilities : ndarray of shape (n_samples, n_classes)
            Output of the head at this exit.
        exit_ : int, default=0
            Number of the exit.

        Returns
        -------
        answer : ndarray of shape (n_samples, n_classes)
            Class probabilities.
        state : ndarray of shape (n_samples, ...) or None
        """

    def fit(
        self,
        outputs: np.ndarray,
        y: np.ndarray,
        *,
        costs: np.ndarray,
        sample_weight: np.ndarray,
    ) -> Self:
        """Take what it needs from the costs, and learn from the rows if `is_learned`.

        Parameters
        ----------
        outputs : ndarray of shape (n_samples, n_exits, n_classes)
            What the heads say of rows that they were not fitted on; no rows unless `is_learned`.
        y : ndarray of shape (n_samples,)
            True classes, by index.
        costs : ndarray of shape (n_exits,)
            Cumulative, in units of the plain network, decisions not counted; heads whose cost is
            timed count as free, since no two timings are the same.
        sample_weight : ndarray of shape (n_samples,)
        """
        return self

    def check(self, n_classes: int, n_exits: int) -> None:
        """Raise a ValueError if it cannot do with so many classes and exits."""

    def answers(self, outputs: np.ndarray) -> np.ndarray:
        """Answers of every exit of a table.

        Parameters
        ----------
        outputs : ndarray of shape (n_samples, n_exits, n_classes)

        Returns
        -------
        answers : ndarray of shape (n_samples, n_exits, n_classes)
        """
        state: State = None
        answers = np.empty(outputs.shape)
        for exit_ in range(outputs.shape[1]):
            output = np.ascontiguousarray(outputs[:, exit_])
            answers[:, exit_], state = self.step(state, output, exit_)
        return answers

    def macs(self, n_classes: int, exit_: int = 0) -> float:
        """Operations per row of one step: one for each class, unless a combination says other."""
        return float(n_classes)

    def model(self) -> Any:
        """What it consists of, for counting its memory; None has none of its own."""
        return None

    def part(self, n_classes: int, exit_: int, *, gated: bool) -> CostInput:
        """Input of the measurement of the cost of one step.

        Parameters
        ----------
        n_classes, exit_ : int
        gated : bool
            Whether outputs have one column more than there are classes, the gate.
        """
        outputs = np.full((2, n_classes + gated), 1 / n_classes)

        def run(rows: np.ndarray) -> None:
            self.step(None, rows, exit_)

        return CostInput(run, outputs, self.model(), self.macs(n_classes, exit_))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits, shape (n_samples, n_classes); each row has a finite one."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))

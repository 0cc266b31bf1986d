"""What a combination is."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from sklearn.base import BaseEstimator

from skearlyexit._exit_table import Outputs
from skearlyexit.costs import CostInput

#: What a combination remembers of each row: an array whose first axis is the row, or nothing.
State = np.ndarray | None

#: Smallest probability whose logarithm is taken; heads that answer by labels say 0.
LEAST = 1e-12


class CombinationLearner(Protocol):
    """A training, as far as combinations know it."""

    def combination(self, n_classes: int, neural: Sequence[bool]) -> Combination | None:
        """Combination that it learns, before it has learned; None for none."""


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
    needs_gates : bool
        Whether `step` takes the gates at the exit, shape (n_samples,), as one more argument. A
        training has to learn them.

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
    needs_gates: ClassVar[bool] = False

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

    def of_training(
        self, training: CombinationLearner, n_classes: int, neural: Sequence[bool]
    ) -> Combination | None:
        """Combination that the training learns and the network applies, before it has learned.

        Parameters
        ----------
        training : TrainingStrategy
        n_classes : int
        neural : sequence of bool
            For each exit, whether the head that is trained with the network is kept.

        Returns
        -------
        combination : Combination or None
            None unless this one asks for the one that is learned.
        """
        return None

    def combine(self, state: State, output: Outputs, exit_: int) -> tuple[np.ndarray, State]:
        """Combined probabilities at one exit: `step`, called with what it takes.

        Parameters
        ----------
        state : ndarray of shape (n_samples, ...) or None
        output : Outputs
            Of the head at this exit.
        exit_ : int

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
        state : ndarray of shape (n_samples, ...) or None
        """
        gates = [output.gates] if self.needs_gates else []
        return self.step(state, output.probabilities, exit_, *gates)

    def answers(self, outputs: np.ndarray, gates: np.ndarray | None = None) -> np.ndarray:
        """Answers of every exit of a table.

        Parameters
        ----------
        outputs : ndarray of shape (n_samples, n_exits, n_classes)
        gates : ndarray of shape (n_samples, n_exits) or None, default=None
            Needed if `needs_gates`.

        Returns
        -------
        answers : ndarray of shape (n_samples, n_exits, n_classes)
        """
        state: State = None
        table = Outputs(outputs, gates)
        answers = np.empty(outputs.shape)
        for exit_ in range(table.n_exits):
            answers[:, exit_], state = self.combine(state, table.at(exit_), exit_)
        return answers

    def macs(self, n_classes: int, exit_: int = 0) -> float:
        """Operations per row of one step: one for each class, unless a combination says other."""
        return float(n_classes)

    def model(self) -> Any:
        """What it consists of, for counting its memory; None has none of its own."""
        return None

    def part(self, n_classes: int, exit_: int) -> CostInput:
        """Input of the measurement of the cost of one step."""
        probabilities = np.full((2, n_classes), 1 / n_classes)

        def run(rows: np.ndarray) -> None:
            self.combine(None, Outputs(rows, np.ones(len(rows))), exit_)

        return CostInput(run, probabilities, self.model(), self.macs(n_classes, exit_))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits, shape (n_samples, n_classes); each row has a finite one."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))

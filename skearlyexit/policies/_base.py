"""What a policy is."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator

from skearlyexit._exit_table import Outputs

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
        to run even if no sample may exit.
    is_learned : bool
        Whether it learns from held-out rows.
    needs_gates : bool
        Whether `step` takes the gates at the exit, shape (n_samples,), as one more argument. A
        training has to learn them.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.policies import Policy
    >>> class TwoSure(Policy):  # the least confidence of this exit and the one before
    ...     has_memory = True
    ...     def step(self, state, probabilities, exit_=0):
    ...         largest = probabilities.max(axis=1)
    ...         return largest if state is None else np.minimum(largest, state), largest
    >>> TwoSure().score(np.array([[[0.8, 0.2], [0.4, 0.6], [0.1, 0.9]]]))  # one row, three exits
    array([[0.8, 0.6, 0.6]])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {}
    needs_probabilities: ClassVar[bool] = True
    has_memory: ClassVar[bool] = False
    is_learned: ClassVar[bool] = False
    needs_gates: ClassVar[bool] = False

    @abstractmethod
    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        """Score one exit.

        Parameters
        ----------
        state : ndarray of shape (n_samples, ...) or None
            What the previous step returned for these rows; None at the first exit.
        probabilities : ndarray of shape (n_samples, n_classes)
            The answer at this exit.
        exit_ : int, default=0
            Number of the exit, by which a learned policy tells them apart.

        Returns
        -------
        score : ndarray of shape (n_samples,)
            In [0, 1].
        state : ndarray of shape (n_samples, ...) or None
        """

    def fit(
        self,
        probabilities: np.ndarray,
        y: np.ndarray,
        *,
        costs: np.ndarray,
        sample_weight: np.ndarray,
        seed: int,
    ) -> Self:
        """Learn from answers to held-out rows; called only if `is_learned`.

        Parameters
        ----------
        probabilities : ndarray of shape (n_samples, n_exits, n_classes)
            Answers at every exit, for rows that nothing behind them was fitted on.
        y : ndarray of shape (n_samples,)
            True classes, by index.
        costs : ndarray of shape (n_exits,)
            Cumulative, in units of the plain network, decisions not counted; heads whose cost is
            timed count as free, since no two timings are the same.
        sample_weight : ndarray of shape (n_samples,)
        seed : int
        """
        return self

    def judge(self, state: State, answer: Outputs, exit_: int) -> tuple[np.ndarray, State]:
        """Score one exit: `step`, called with what it takes.

        Parameters
        ----------
        state : ndarray of shape (n_samples, ...) or None
        answer : Outputs
            Combined probabilities at this exit, and the gates there.
        exit_ : int

        Returns
        -------
        score : ndarray of shape (n_samples,)
        state : ndarray of shape (n_samples, ...) or None
        """
        gates = [answer.gates] if self.needs_gates else []
        return self.step(state, answer.probabilities, exit_, *gates)

    def score(self, probabilities: np.ndarray, gates: np.ndarray | None = None) -> np.ndarray:
        """Score every exit of a table.

        Parameters
        ----------
        probabilities : ndarray of shape (n_samples, n_exits, n_classes)
        gates : ndarray of shape (n_samples, n_exits) or None, default=None
            Needed if `needs_gates`.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_exits)
        """
        state: State = None
        table = Outputs(probabilities, gates)
        scores = np.empty(probabilities.shape[:2])
        for exit_ in range(table.n_exits):
            scores[:, exit_], state = self.judge(state, table.at(exit_), exit_)
        return scores

    def macs(self, n_classes: int, exit_: int = 0) -> float:
        """Operations per row of one step: one for each class unless a policy says otherwise.

        Raises
        ------
        UncountedError
            If there is no count for an estimator inside.
        """
        return float(n_classes)

    def model(self, exit_: int) -> Any:
        """Fitted estimator that decides at an exit, or None."""
        return None

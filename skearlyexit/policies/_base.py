"""Base class of policies."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator

from skearlyexit._exit_table import Outputs
from skearlyexit._onnx._graph import ExportError, Graph

#: State of a policy: an array with the samples along its first axis, or None without memory.
State = np.ndarray | None


class Policy(BaseEstimator, metaclass=ABCMeta):
    """Base class of policies, which compute a score of confidence at each exit.

    A sample exits at the first exit at which its score reaches the threshold of the exit. A
    subclass must define `step`.

    Attributes
    ----------
    needs_probabilities : bool, default=True
        Whether the policy uses more than the predicted class. If so, heads without predicted
        probabilities are calibrated.
    has_memory : bool, default=False
        Whether the score at an exit depends on the outputs of previous exits. If so, the heads of
        these exits are computed even if no sample can exit there.
    is_learned : bool, default=False
        Whether the policy is fitted to held-out samples.
    needs_gates : bool, default=False
        Whether `step` requires the outputs of the gates at the exit, an array of shape
        (n_samples,), as its fourth argument. The gates must be learned by the training, as
        `GatedTraining` does.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.policies import Policy
    >>> class MinimumOfTwo(Policy):  # lower confidence of this exit and the previous one
    ...     has_memory = True
    ...     def step(self, state, probabilities, exit_=0):
    ...         largest = probabilities.max(axis=1)
    ...         return largest if state is None else np.minimum(largest, state), largest
    >>> probabilities = np.array([[[0.8, 0.2], [0.4, 0.6], [0.1, 0.9]]])  # 1 sample, 3 exits
    >>> MinimumOfTwo().score(probabilities)
    array([[0.8, 0.6, 0.6]])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {}
    needs_probabilities: ClassVar[bool] = True
    has_memory: ClassVar[bool] = False
    is_learned: ClassVar[bool] = False
    needs_gates: ClassVar[bool] = False

    @property
    def needs_only_largest(self) -> bool:
        """Whether the score is the largest probability, so that the others are not computed."""
        return False

    @abstractmethod
    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        """Compute the scores at an exit.

        Parameters
        ----------
        state : ndarray of shape (n_samples, ...) or None
            State returned for these samples at the previous exit. None at the first exit.
        probabilities : ndarray of shape (n_samples, n_classes)
            Predicted probabilities at this exit.
        exit_ : int, default=0
            Index of the exit.

        Returns
        -------
        score : ndarray of shape (n_samples,)
            Score of each sample in [0, 1]; higher is more confident.
        state : ndarray of shape (n_samples, ...) or None
            State for the next exit, with the samples along the first axis. None if `has_memory` is
            False.
        """

    def obstacle_to_classification(self) -> str:
        """Return the reason why class probabilities are not supported.

        The default implementation returns an empty string.

        Returns
        -------
        reason : str
            Reason in words. Empty if classification is supported.
        """
        return ""

    def obstacle_to_regression(self) -> str:
        """Return the reason why predicted values of targets are not supported.

        Returns
        -------
        reason : str
            Reason in words. Empty if regression is supported, in which `step` gets predicted
            values of shape (n_samples, n_targets) in place of the probabilities, in standard
            deviations of the targets from their means. The default implementation returns that
            probabilities are required.
        """
        return f"{type(self).__name__} computes scores from predicted probabilities"

    def fit(
        self,
        probabilities: np.ndarray,
        y: np.ndarray,
        *,
        costs: np.ndarray,
        sample_weight: np.ndarray,
        seed: int,
    ) -> Self:
        """Fit the policy to held-out samples.

        It is called only if `is_learned` is True. The default implementation does nothing.

        Parameters
        ----------
        probabilities : ndarray of shape (n_samples, n_exits, n_classes)
            Predicted probabilities at all exits. None of the models that they come from was fitted
            to these samples.
        y : ndarray of shape (n_samples,)
            True classes, as indices.
        costs : ndarray of shape (n_exits,)
            Cumulative cost of exiting at each exit, in units of the cost of the plain network. The
            costs of temperature scaling, combination and policy are not included. The costs are
            reproducible: where a cost is measured as a time, operations are counted instead, and a
            part whose operations cannot be counted has cost 0.
        sample_weight : ndarray of shape (n_samples,)
            Sample weights.
        seed : int
            Seed of random numbers.

        Returns
        -------
        self : Policy
            Fitted policy.
        """
        return self

    def judge(self, state: State, answer: Outputs, exit_: int) -> tuple[np.ndarray, State]:
        """Call `step` with the arguments that it requires.

        Parameters
        ----------
        state : ndarray of shape (n_samples, ...) or None
            State returned for these samples at the previous exit. None at the first exit.
        answer : Outputs
            Predicted probabilities at this exit, and the outputs of the gates if there are gates.
        exit_ : int
            Index of the exit.

        Returns
        -------
        score : ndarray of shape (n_samples,)
            Score of each sample in [0, 1].
        state : ndarray of shape (n_samples, ...) or None
            State for the next exit.
        """
        gates = [answer.gates] if self.needs_gates else []
        return self.step(state, answer.probabilities, exit_, *gates)

    def onnx(
        self,
        graph: Graph,
        state: str | None,
        probabilities: str,
        exit_: int,
        gates: str | None = None,
    ) -> tuple[str, str | None]:
        """Add the computation of `judge` at an exit but the last to a graph in the ONNX format.

        Parameters
        ----------
        graph : Graph
            Builder of the graph.
        state : str or None
            Name of the state that this method returned at the previous exit, of the samples that
            did not exit there. None at the first exit.
        probabilities : str
            Name of the predicted probabilities, shape (n_samples, n_classes), or in regression of
            the predicted values, double precision.
        exit_ : int
            Index of the exit.
        gates : str or None, default=None
            Name of the outputs of the gates, shape (n_samples,), double precision. None if there
            are no gates.

        Returns
        -------
        score : str
            Name of the scores, shape (n_samples,), double precision.
        state : str or None
            Name of the state for the next exit, double precision, with the samples along the first
            axis. None if `has_memory` is False.

        Raises
        ------
        ExportError
            If the policy cannot be converted.
        """
        raise ExportError(f"{type(self).__name__} cannot be converted to ONNX.")

    def score(self, probabilities: np.ndarray, gates: np.ndarray | None = None) -> np.ndarray:
        """Compute the scores at all exits.

        Parameters
        ----------
        probabilities : ndarray of shape (n_samples, n_exits, n_classes)
            Predicted probabilities at all exits.
        gates : ndarray of shape (n_samples, n_exits), default=None
            Outputs of the gates. Required if `needs_gates` is True.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_exits)
            Score of each sample at each exit, in [0, 1].
        """
        state: State = None
        table = Outputs(probabilities, gates)
        scores = np.empty(probabilities.shape[:2])
        for exit_ in range(table.n_exits):
            scores[:, exit_], state = self.judge(state, table.at(exit_), exit_)
        return scores

    def macs(self, n_classes: int, exit_: int = 0) -> float:
        """Count the operations of `step`.

        The default implementation returns one operation per class.

        Parameters
        ----------
        n_classes : int
            Number of classes, or of targets in regression.
        exit_ : int, default=0
            Index of the exit.

        Returns
        -------
        macs : float
            Number of multiply-accumulate operations (MACs) per sample.

        Raises
        ------
        UncountedError
            If the policy contains an estimator whose operations cannot be counted.
        """
        return float(n_classes)

    def model(self, exit_: int) -> Any:
        """Return the fitted estimator that computes the scores at an exit.

        The default implementation returns None.

        Parameters
        ----------
        exit_ : int
            Index of the exit.

        Returns
        -------
        model : estimator or None
            Fitted estimator. None if the policy has no estimator at this exit.
        """
        return None

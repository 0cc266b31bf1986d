"""Base class of combinations."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from sklearn.base import BaseEstimator

from skearlyexit._exit_table import Outputs
from skearlyexit._onnx._graph import ExportError, Graph
from skearlyexit.costs import CostInput

#: State of a combination: an array with the samples along its first axis, or None without memory.
State = np.ndarray | None

#: Lower bound of probabilities before the logarithm; heads without probabilities return 0.
LEAST = 1e-12


class CombinationLearner(Protocol):
    """The method of a training strategy that combinations use."""

    def combination(self, n_classes: int, neural: Sequence[bool]) -> Combination | None:
        """Return the combination that the training learns, not fitted, or None."""


class Combination(BaseEstimator, metaclass=ABCMeta):
    """Base class of combinations, which combine the outputs of the heads up to an exit.

    The predicted class is that with the largest combined probability. The policy, too, computes the
    score from the combined probabilities. A subclass must define `step`.

    Attributes
    ----------
    needs_probabilities : bool, default=False
        Whether heads without predicted probabilities have to be calibrated. If False, such a head
        predicts its label with probability 1.
    has_memory : bool, default=True
        Whether the combined probabilities depend on the outputs of previous heads. If so, every
        head up to the exit of a sample is computed, even if no sample can exit there.
    is_learned : bool, default=False
        Whether the combination is fitted to held-out samples.
    uses_costs : bool, default=False
        Whether `fit` uses the costs. If so, it is called even if `is_learned` is False.
    needs_gates : bool, default=False
        Whether `step` requires the outputs of the gates at the exit, an array of shape
        (n_samples,), as its fourth argument. The gates must be learned by the training, as
        `GatedTraining` does.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.combination import Combination
    >>> class LastTwo(Combination):  # mean of this head and the previous one
    ...     def step(self, state, probabilities, exit_=0):
    ...         combined = probabilities if state is None else (state + probabilities) / 2
    ...         return combined, probabilities
    >>> outputs = np.array([[[0.8, 0.2], [0.4, 0.6], [0.2, 0.8]]])  # 1 sample, 3 heads
    >>> LastTwo().answers(outputs)
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

    @property
    def changes_outputs(self) -> bool:
        """Whether the combined probabilities may differ from the output of the head."""
        return True

    @abstractmethod
    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        """Combine the output of the head at an exit with those of the previous heads.

        Parameters
        ----------
        state : ndarray of shape (n_samples, ...) or None
            State returned for these samples at the previous exit. None at the first exit.
        probabilities : ndarray of shape (n_samples, n_classes)
            Probabilities predicted by the head at this exit.
        exit_ : int, default=0
            Index of the exit.

        Returns
        -------
        combined : ndarray of shape (n_samples, n_classes)
            Combined probabilities.
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
            values of shape (n_samples, n_targets) in place of the probabilities. The default
            implementation returns that probabilities are required.
        """
        return f"{type(self).__name__} combines predicted probabilities"

    def fit(
        self,
        outputs: np.ndarray,
        y: np.ndarray,
        *,
        costs: np.ndarray,
        sample_weight: np.ndarray,
    ) -> Self:
        """Fit the combination to held-out samples, or to the costs only.

        The default implementation does nothing.

        Parameters
        ----------
        outputs : ndarray of shape (n_samples, n_exits, n_classes)
            Probabilities predicted by all heads for samples to which neither they nor the network
            were fitted. If `is_learned` is False, there are no samples.
        y : ndarray of shape (n_samples,)
            True classes, as indices.
        costs : ndarray of shape (n_exits,)
            Cumulative cost of exiting at each exit, in units of the cost of the plain network. The
            costs of temperature scaling, combination and policy are not included. The costs are
            reproducible: where a cost is measured as a time, operations are counted instead, and a
            part whose operations cannot be counted has cost 0.
        sample_weight : ndarray of shape (n_samples,)
            Sample weights.

        Returns
        -------
        self : Combination
            Fitted combination.
        """
        return self

    def check(self, n_classes: int, n_exits: int) -> None:
        """Check that the combination supports a number of classes and exits.

        The default implementation accepts all numbers.

        Parameters
        ----------
        n_classes : int
            Number of classes.
        n_exits : int
            Number of exits, including the last one.

        Raises
        ------
        ValueError
            If the numbers are not supported.
        """

    def of_training(
        self, training: CombinationLearner, n_classes: int, neural: Sequence[bool]
    ) -> Combination | None:
        """Return the combination that the training learns and the network applies.

        The default implementation returns None.

        Parameters
        ----------
        training : TrainingStrategy
            Training of the network.
        n_classes : int
            Number of classes.
        neural : sequence of bool
            Whether each head is a neural network that is trained with the stages, rather than a
            scikit-learn estimator that is fitted afterwards.

        Returns
        -------
        combination : Combination or None
            Combination that the training learns, not fitted. None if it is not used.
        """
        return None

    def combine(self, state: State, output: Outputs, exit_: int) -> tuple[np.ndarray, State]:
        """Call `step` with the arguments that it requires.

        Parameters
        ----------
        state : ndarray of shape (n_samples, ...) or None
            State returned for these samples at the previous exit. None at the first exit.
        output : Outputs
            Outputs of the head at this exit, and of the gate if there are gates.
        exit_ : int
            Index of the exit.

        Returns
        -------
        combined : ndarray of shape (n_samples, n_classes)
            Combined probabilities.
        state : ndarray of shape (n_samples, ...) or None
            State for the next exit.
        """
        gates = [output.gates] if self.needs_gates else []
        return self.step(state, output.probabilities, exit_, *gates)

    def onnx(
        self,
        graph: Graph,
        state: str | None,
        probabilities: str,
        exit_: int,
        gates: str | None = None,
    ) -> tuple[str, str | None]:
        """Add the computation of `combine` at an exit to a graph in the ONNX format.

        Parameters
        ----------
        graph : Graph
            Builder of the graph.
        state : str or None
            Name of the state that this method returned at the previous exit, of the samples that
            did not exit there. None at the first exit.
        probabilities : str
            Name of the probabilities predicted by the head, shape (n_samples, n_classes), or in
            regression of the values, double precision.
        exit_ : int
            Index of the exit.
        gates : str or None, default=None
            Name of the outputs of the gates, shape (n_samples,), double precision. None if there
            are no gates.

        Returns
        -------
        combined : str
            Name of the combined probabilities.
        state : str or None
            Name of the state for the next exit, double precision, with the samples along the first
            axis. None if `has_memory` is False.

        Raises
        ------
        ExportError
            If the combination cannot be converted.
        """
        raise ExportError(f"{type(self).__name__} cannot be converted to ONNX.")

    def answers(self, outputs: np.ndarray, gates: np.ndarray | None = None) -> np.ndarray:
        """Compute the combined probabilities at all exits.

        Parameters
        ----------
        outputs : ndarray of shape (n_samples, n_exits, n_classes)
            Probabilities predicted by all heads.
        gates : ndarray of shape (n_samples, n_exits), default=None
            Outputs of the gates. Required if `needs_gates` is True.

        Returns
        -------
        combined : ndarray of shape (n_samples, n_exits, n_classes)
            Combined probabilities at each exit.
        """
        state: State = None
        table = Outputs(outputs, gates)
        answers = np.empty(outputs.shape)
        for exit_ in range(table.n_exits):
            answers[:, exit_], state = self.combine(state, table.at(exit_), exit_)
        return answers

    def macs(self, n_classes: int, exit_: int = 0) -> float:
        """Count the operations of `step`.

        The default implementation returns one operation per class.

        Parameters
        ----------
        n_classes : int
            Number of classes.
        exit_ : int, default=0
            Index of the exit.

        Returns
        -------
        macs : float
            Number of multiply-accumulate operations (MACs) per sample.
        """
        return float(n_classes)

    def model(self) -> Any:
        """Return the model of the combination, whose memory is counted.

        The default implementation returns None.

        Returns
        -------
        model : torch.nn.Module or None
            Model of the combination. None if it has none.
        """
        return None

    def cost_input(self, n_classes: int, exit_: int) -> CostInput:
        """Return the input of the measurement of the cost of `step`.

        Parameters
        ----------
        n_classes : int
            Number of classes.
        exit_ : int
            Index of the exit.

        Returns
        -------
        part : CostInput
            The combination at this exit, with equal probabilities as its input.
        """
        probabilities = np.full((2, n_classes), 1 / n_classes)

        def run(rows: np.ndarray) -> None:
            self.combine(None, Outputs(rows, np.ones(len(rows))), exit_)

        return CostInput(run, probabilities, self.model(), self.macs(n_classes, exit_))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax of logits, shape (n_samples, n_classes), of which one per sample must be finite."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def add_logs(graph: Graph, probabilities: str) -> str:
    """Add the logarithms of probabilities that are at least `LEAST`; name of the result."""
    return graph.op("Log", graph.op("Max", probabilities, graph.constant(LEAST)))

"""What the outputs of a head are: class probabilities, or values of targets."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod

import numpy as np
import torch

from skearlyexit._exit_table import ExitTable, LabelTable, PredictionTable
from skearlyexit._onnx._graph import Graph, GraphOutput
from skearlyexit._utils._not_finite import check_finite, check_outputs


class OutputKind(metaclass=ABCMeta):
    """Base class of kinds of outputs, which have no state.

    Attributes
    ----------
    noun : str
        What the outputs are called in messages.
    method : str
        Method of a scikit-learn estimator that returns them.
    are_predicted : bool
        Whether they are what is predicted, so that exported files do not return them besides.
    """

    noun: str
    method: str
    are_predicted: bool

    @abstractmethod
    def of_last_layer(self, values: torch.Tensor) -> np.ndarray:
        """Outputs of a neural head, from the values of its last layer (n_samples, n_outputs)."""

    @abstractmethod
    def check(self, outputs: np.ndarray, what: str) -> None:
        """Raise an `OutputsNotFiniteError` if an output is not valid; see `check_outputs`."""

    @abstractmethod
    def empty(self, shape: tuple[int, ...], n_outputs: int) -> np.ndarray:
        """Uninitialized array for the predictions of samples, or of samples and exits."""

    @abstractmethod
    def predicted(self, outputs: np.ndarray) -> np.ndarray:
        """Predictions, of shape (n_samples, ...), for outputs of one exit."""

    @abstractmethod
    def onnx(self, graph: Graph, outputs: str, n_outputs: int) -> GraphOutput:
        """Add `predicted` to a graph in the ONNX format, for outputs by their name."""

    @abstractmethod
    def small_table(
        self, predicted: np.ndarray, scores: np.ndarray
    ) -> LabelTable | PredictionTable:
        """Table of predictions and scores."""

    @abstractmethod
    def table(
        self, outputs: np.ndarray, scores: np.ndarray, gates: np.ndarray | None
    ) -> ExitTable | PredictionTable:
        """Table of outputs of shape (n_samples, n_exits, n_outputs), and of scores."""


class Probabilities(OutputKind):
    """Class probabilities, of which the largest determines the label that is predicted."""

    noun = "probabilities"
    method = "predict_proba"
    are_predicted = False

    def of_last_layer(self, values: torch.Tensor) -> np.ndarray:
        return torch.softmax(values, dim=1).cpu().numpy()

    def check(self, outputs: np.ndarray, what: str) -> None:
        check_outputs(outputs, what)

    def empty(self, shape: tuple[int, ...], n_outputs: int) -> np.ndarray:
        return np.empty(shape, dtype=np.intp)

    def predicted(self, outputs: np.ndarray) -> np.ndarray:
        return np.asarray(outputs.argmax(axis=1))

    def onnx(self, graph: Graph, outputs: str, n_outputs: int) -> GraphOutput:
        return GraphOutput(graph.op("ArgMax", outputs, axis=1, keepdims=0), "labels", np.int64)

    def small_table(self, predicted: np.ndarray, scores: np.ndarray) -> LabelTable:
        return LabelTable(predicted, scores)

    def table(self, outputs: np.ndarray, scores: np.ndarray, gates: np.ndarray | None) -> ExitTable:
        return ExitTable(outputs, scores, gates)


class Values(OutputKind):
    """Values of targets, which are what is predicted."""

    noun = "predictions"
    method = "predict"
    are_predicted = True

    def of_last_layer(self, values: torch.Tensor) -> np.ndarray:
        return values.cpu().numpy()

    def check(self, outputs: np.ndarray, what: str) -> None:
        check_finite(outputs, what)

    def empty(self, shape: tuple[int, ...], n_outputs: int) -> np.ndarray:
        return np.empty((*shape, n_outputs))

    def predicted(self, outputs: np.ndarray) -> np.ndarray:
        return outputs

    def onnx(self, graph: Graph, outputs: str, n_outputs: int) -> GraphOutput:
        return GraphOutput(outputs, self.noun, np.float64, (n_outputs,))

    def small_table(self, predicted: np.ndarray, scores: np.ndarray) -> PredictionTable:
        return PredictionTable(predicted, scores)

    def table(
        self, outputs: np.ndarray, scores: np.ndarray, gates: np.ndarray | None
    ) -> PredictionTable:
        return PredictionTable(outputs, scores)


PROBABILITIES = Probabilities()
VALUES = Values()

#: Both, by their nouns, as an exported file states them.
KINDS: dict[str, OutputKind] = {each.noun: each for each in (PROBABILITIES, VALUES)}

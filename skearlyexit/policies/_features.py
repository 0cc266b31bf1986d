"""Features of the predicted probabilities, from which policies learn."""

from __future__ import annotations

import numpy as np
from scipy.special import entr

from skearlyexit._onnx._graph import Graph

#: Kinds of features.
FEATURES = {"summary", "probabilities"}


def answer_features(probabilities: np.ndarray, features: str = "summary") -> np.ndarray:
    """Compute features that describe how confident a prediction is.

    Parameters
    ----------
    probabilities : ndarray of shape (n_samples, n_classes)
        Predicted probabilities.
    features : {"summary", "probabilities"}, default="summary"
        ``"summary"``: largest probability, its difference from the second largest, normalized
        entropy, and normalized entropy of the squared and normalized probabilities.
        ``"probabilities"``: all probabilities in descending order. Neither depends on the order of
        the classes.

    Returns
    -------
    features : ndarray of shape (n_samples, 4) or (n_samples, n_classes)
        Features of each sample.

    References
    ----------
    ``"summary"``: Chataoui, Szatkowski et al., "Jointly-learned exit and inference for a dynamic
    neural network: JEI-DNN", ICLR 2024.

    Examples
    --------
    >>> answer_features(np.array([[0.0, 1.0], [0.5, 0.5]]))
    array([[1. , 1. , 0. , 0. ],
           [0.5, 0. , 1. , 1. ]])
    """
    if features == "probabilities":
        return np.ascontiguousarray(np.sort(probabilities, axis=1)[:, ::-1])
    top = np.partition(probabilities, -2, axis=1)[:, -2:]
    squared = np.square(probabilities)
    squared /= squared.sum(axis=1, keepdims=True)
    return np.stack(
        [top[:, 1], top[:, 1] - top[:, 0], _entropy(probabilities), _entropy(squared)], axis=1
    )


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    """Entropy divided by that of the uniform distribution."""
    return np.asarray(entr(probabilities).sum(axis=1) / np.log(probabilities.shape[1]))


def add_features(graph: Graph, probabilities: str, features: str) -> str:
    """Add the computation of `answer_features` to a graph in the ONNX format; name of it."""
    if features == "probabilities":
        n_classes = graph.op("Shape", probabilities, start=1)
        return add_largest(graph, probabilities, n_classes)
    two = add_largest(graph, probabilities, graph.constant([2]))
    axis = graph.constant([1])
    squared = graph.op("Mul", probabilities, probabilities)
    squared = graph.op("Div", squared, graph.op("ReduceSum", squared, axis, keepdims=1))
    columns = [
        graph.op("Gather", two, graph.constant(0), axis=1),
        add_margin(graph, two),
        add_entropy(graph, probabilities),
        add_entropy(graph, squared),
    ]
    return graph.op("Concat", *(graph.op("Unsqueeze", each, axis) for each in columns), axis=1)


def add_largest(graph: Graph, probabilities: str, number: str) -> str:
    """Add the largest probabilities of each sample, in descending order."""
    return graph.ops("TopK", [probabilities, number], 2, axis=1)[0]


def add_margin(graph: Graph, largest: str) -> str:
    """Add the difference of the two largest probabilities, shape (n_samples,)."""
    first, second = (graph.op("Gather", largest, graph.constant(i), axis=1) for i in range(2))
    return graph.op("Sub", first, second)


def add_entropy(graph: Graph, probabilities: str) -> str:
    """Add the entropy divided by that of the uniform distribution, shape (n_samples,)."""
    # The smallest number in place of 0, whose product with its logarithm is 0 up to rounding.
    positive = graph.op("Max", probabilities, graph.constant(np.finfo(np.float64).tiny))
    terms = graph.op("Mul", probabilities, graph.op("Log", positive))
    total = graph.op("Neg", graph.op("ReduceSum", terms, graph.constant([1]), keepdims=0))
    n_classes = graph.op("Squeeze", graph.cast(graph.op("Shape", probabilities, start=1), float))
    return graph.op("Div", total, graph.op("Log", n_classes))


def n_operations(n_classes: int, features: str) -> float:
    """Operations of `answer_features` per sample: one for each class and feature."""
    return float(n_classes * (4 if features == "summary" else 1))

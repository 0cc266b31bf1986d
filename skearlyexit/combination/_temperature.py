"""Temperature scaling of the heads."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.base import BaseEstimator

from skearlyexit._onnx._graph import Graph
from skearlyexit.combination._base import LEAST, add_logs, softmax

#: Bounds of the temperatures.
COLDEST, HOTTEST = 0.05, 20.0


class TemperatureScaling(BaseEstimator):
    """Temperature scaling of the probabilities predicted by each head.

    The logits of each head are divided by the temperature that minimizes the log loss on held-out
    samples. The predicted classes do not change.

    Attributes
    ----------
    temperatures_ : ndarray of shape (n_exits,)
        Temperature of each head, between 0.05 and 20. It is above 1 if the head is overconfident.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017.

    Examples
    --------
    >>> import numpy as np
    >>> outputs = np.tile([0.9, 0.1], (10, 1, 1))  # predicts class 0 with a confidence of 0.9
    >>> y = np.repeat([0, 1], [7, 3])  # and an accuracy of 0.7
    >>> scaling = TemperatureScaling().fit(outputs, y, np.ones(10))
    >>> scaling.step(outputs[:1, 0], 0).round(3)
    array([[0.7, 0.3]])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {}

    def fit(self, outputs: np.ndarray, y: np.ndarray, sample_weight: np.ndarray) -> Self:
        """Fit the temperatures to held-out samples.

        Parameters
        ----------
        outputs : ndarray of shape (n_samples, n_exits, n_classes)
            Probabilities predicted by all heads for samples to which neither they nor the network
            were fitted.
        y : ndarray of shape (n_samples,)
            True classes, as indices.
        sample_weight : ndarray of shape (n_samples,)
            Sample weights.

        Returns
        -------
        self : TemperatureScaling
            Fitted temperature scaling.
        """
        rows = np.arange(len(y))
        self.temperatures_ = np.empty(outputs.shape[1])
        for exit_ in range(outputs.shape[1]):
            logs = np.log(np.maximum(outputs[:, exit_], LEAST))

            def loss(log_temperature: float, logs: np.ndarray = logs) -> float:
                answer = softmax(logs / np.exp(log_temperature))[rows, y]
                return -float(sample_weight @ np.log(np.maximum(answer, 1e-300)))

            bounds = (np.log(COLDEST), np.log(HOTTEST))
            found = minimize_scalar(loss, bounds=bounds, method="bounded")
            self.temperatures_[exit_] = np.exp(found.x)
        return self

    def step(self, probabilities: np.ndarray, exit_: int) -> np.ndarray:
        """Scale the probabilities predicted by one head.

        Parameters
        ----------
        probabilities : ndarray of shape (n_samples, n_classes)
            Predicted probabilities.
        exit_ : int
            Index of the exit.

        Returns
        -------
        scaled : ndarray of shape (n_samples, n_classes)
            Scaled probabilities.
        """
        logs = np.log(np.maximum(probabilities, LEAST))
        scaled = softmax(logs / self.temperatures_[exit_])
        # Rounding may make the probabilities of two classes equal, which could change the label.
        return _with_label_of(probabilities, scaled)

    def onnx(self, graph: Graph, probabilities: str, exit_: int) -> str:
        """Add the scaling of the probabilities of one head to a graph in the ONNX format."""
        logs = add_logs(graph, probabilities)
        temperature = graph.constant(np.float64(self.temperatures_[exit_]))
        return graph.op("Softmax", graph.op("Div", logs, temperature), axis=1)

    def macs(self, n_classes: int) -> float:
        """Count the operations of `step`, one per class.

        Parameters
        ----------
        n_classes : int
            Number of classes.

        Returns
        -------
        macs : float
            Number of operations per sample.
        """
        return float(n_classes)


def _with_label_of(probabilities: np.ndarray, scaled: np.ndarray) -> np.ndarray:
    """Scaled probabilities of which the largest is that of the class predicted before scaling."""
    before, after = probabilities.argmax(axis=1), scaled.argmax(axis=1)
    rows = np.flatnonzero(before != after)
    scaled[rows, before[rows]] = np.nextafter(scaled[rows, after[rows]], 2.0)
    return scaled

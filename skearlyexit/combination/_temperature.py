"""One temperature for each head."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.base import BaseEstimator

from skearlyexit.combination._base import LEAST, softmax

#: Bounds of the temperatures.
COLDEST, HOTTEST = 0.05, 20.0


class TemperatureScaling(BaseEstimator):
    """Divides the logits of each head by the temperature under which held-out rows are most likely.

    Labels stay as they are; probabilities become comparable from head to head.

    Attributes
    ----------
    temperatures_ : ndarray of shape (n_exits,)
        Above 1 where a head is too sure of itself.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017.

    Examples
    --------
    >>> import numpy as np
    >>> outputs = np.tile([0.9, 0.1], (10, 1, 1))  # sure by 90 %, and right in 7 of 10
    >>> scaling = TemperatureScaling().fit(outputs, np.repeat([0, 1], [7, 3]), np.ones(10))
    >>> scaling.step(outputs[:1, 0], 0).round(3)
    array([[0.7, 0.3]])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {}

    def fit(self, outputs: np.ndarray, y: np.ndarray, sample_weight: np.ndarray) -> Self:
        """Find the temperatures.

        Parameters
        ----------
        outputs : ndarray of shape (n_samples, n_exits, n_classes)
            What the heads say of rows that they were not fitted on.
        y : ndarray of shape (n_samples,)
            True classes, by index.
        sample_weight : ndarray of shape (n_samples,)
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
        """Scaled probabilities of one head, shape (n_samples, n_classes)."""
        logs = np.log(np.maximum(probabilities, LEAST))
        scaled = softmax(logs / self.temperatures_[exit_])
        # Two classes whose scaled probabilities are equal to the last bit would change the label.
        return _with_label_of(probabilities, scaled)

    def macs(self, n_classes: int) -> float:
        """Operations per row: one for each class."""
        return float(n_classes)


def _with_label_of(probabilities: np.ndarray, scaled: np.ndarray) -> np.ndarray:
    """The most probable class before is, of those most probable after, made the first."""
    before, after = probabilities.argmax(axis=1), scaled.argmax(axis=1)
    rows = np.flatnonzero(before != after)
    scaled[rows, before[rows]] = np.nextafter(scaled[rows, after[rows]], 2.0)
    return scaled

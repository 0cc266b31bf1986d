"""Output of the head at the exit, without combination."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from skearlyexit._onnx._graph import Graph
from skearlyexit.combination._base import Combination, State


class OwnCombination(Combination):
    """Probabilities predicted by the head at the exit, without combination.

    Examples
    --------
    >>> import numpy as np
    >>> OwnCombination().step(None, np.array([[0.25, 0.75]]))[0]
    array([[0.25, 0.75]])
    """

    has_memory: ClassVar[bool] = False

    @property
    def changes_outputs(self) -> bool:
        kind = type(self)  # which may be derived from this one
        return (kind.step, kind.combine) != (OwnCombination.step, Combination.combine)

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        return probabilities, None

    def macs(self, n_classes: int, exit_: int = 0) -> float:
        return 0.0

    def obstacle_to_regression(self) -> str:
        return ""

    def onnx(
        self,
        graph: Graph,
        state: str | None,
        probabilities: str,
        exit_: int,
        gates: str | None = None,
    ) -> tuple[str, str | None]:
        return probabilities, None
